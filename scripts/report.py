"""
The report of a run, finished, running or dead: one self-contained HTML page, and its pictures as PNGs.

    python scripts/report.py outputs/quickstart
    python scripts/report.py outputs/quickstart outputs/sft_then_grpo --output outputs/comparison
"""

import sys

from trl_amft.cli.report import main


if __name__ == "__main__":
    sys.exit(main())
