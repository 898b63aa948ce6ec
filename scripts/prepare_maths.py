"""
Look at training data for maths before it is trained on, and write what is left.

    python scripts/prepare_maths.py open-r1/OpenR1-Math-220k data/maths.parquet --tokenizer Qwen/Qwen2.5-Math-7B \
        --max_length 8192 --exclude math-ai/aime24 math-ai/aime25 HuggingFaceH4/MATH-500
    python scripts/train.py --recipe recipes/math.yaml --task_kwargs '{"dataset": "data/maths.parquet"}'

Problems without an answer, twice, or of an excluded set are left out. A demonstration that ends in another answer, or
is too long, is taken away; its problem stays.
"""

import sys

from trl_amft.cli.prepare_maths import main


if __name__ == "__main__":
    sys.exit(main(description=__doc__))
