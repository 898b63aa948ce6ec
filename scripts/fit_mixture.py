"""
The mixture of domains that scores best, by a quadratic surrogate of pilot runs (MoDoMoDo).

    python scripts/fit_mixture.py plan --recipe FILE --pilots 30 --output_dir outputs/pilots
    python scripts/fit_mixture.py fit --recipe FILE --output_dir outputs/pilots --output outputs/best.yaml

The first writes a recipe for each pilot and prints the commands that run them; the second reads their results, as
many as are finished, and writes the recipe with the best mixture. Pilots that determine no quadratic are refused.
"""

import sys

from trl_amft.cli.fit_mixture import main


if __name__ == "__main__":
    sys.exit(main(description=__doc__))
