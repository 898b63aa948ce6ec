"""
Evaluate a checkpoint or a model of the Hub, or compare two evaluations.

    python scripts/evaluate.py --model outputs/math --suite math ood
    python scripts/evaluate.py --model Qwen/Qwen2.5-Math-7B --set aime24 --samples 32 --data_dir copies
    python scripts/evaluate.py --model outputs/quickstart --recipe recipes/quickstart.yaml
    python scripts/evaluate.py --compare outputs/evaluation/a outputs/evaluation/b

Each set becomes a JSON file and a file of samples, those of one command a table in results.md. A command that is given
again goes on where it was. See docs/evaluation.md.
"""

import sys

from trl_amft.cli.evaluate import main


if __name__ == "__main__":
    sys.exit(main(description=__doc__))
