"""
Train from a recipe. Every key of a recipe can be overridden on the command line.

    python scripts/train.py --recipe recipes/quickstart.yaml
    python scripts/train.py --recipe recipes/quickstart.yaml --method sft_then_grpo --output_dir outputs/baseline
    accelerate launch scripts/train.py --recipe recipes/math.yaml
    python scripts/train.py --recipe recipes/math.yaml --smoke

The third shards the model over all GPUs, as the recipe says, unless the launcher is given a configuration of its own
(recipes/accelerate). `--smoke` runs a recipe in small, without network and GPU; `--help` tells what it sets.
"""

from trl_amft.cli.leave import leave
from trl_amft.cli.train import main


if __name__ == "__main__":
    leave(main())
