"""
Train from a recipe. Every key of a recipe can be overridden on the command line.

    python scripts/train.py --recipe recipes/quickstart.yaml
    python scripts/train.py --recipe recipes/quickstart.yaml --method sft_then_grpo --output_dir outputs/baseline
    accelerate launch --num_processes 2 scripts/train.py --recipe recipes/quickstart.yaml
"""

from trl_amft.cli.leave import leave
from trl_amft.cli.train import main


if __name__ == "__main__":
    leave(main())
