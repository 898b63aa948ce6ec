"""
Prefixes of solutions with the success probability of stopping there, for rewards of progress (MRT).

    python scripts/make_prefixes.py --recipe recipes/math.yaml --output data/prefixes.jsonl
    python scripts/make_prefixes.py --recipe recipes/math.yaml --output prefixes.jsonl --smoke
    accelerate launch scripts/train.py --recipe recipes/progress.yaml

The recipe says which problems, rewards and model; every other option of it may be given as well. The solutions are the
demonstrations of the problems, or the model's own with --sample_solutions. A run that was broken off goes on.
"""

import sys

from trl_amft.cli.make_prefixes import main


if __name__ == "__main__":
    sys.exit(main(description=__doc__))
