"""
What is wrong before a run begins: versions, GPUs, DeepSpeed, vLLM, recipe, batch sizes, memory, data and grader.

    python scripts/doctor.py
    python scripts/doctor.py --recipe recipes/math.yaml --processes 8 --gpu_memory 80

The exit code is 0 where nothing is wrong and 1 where anything is. What cannot be reached from here is only named.
"""

import sys

from trl_amft.cli.doctor import main


if __name__ == "__main__":
    sys.exit(main())
