"""
Compare mixing policies: run what is missing of a study, and report what is there.

    python scripts/compare.py --study recipes/studies/core.yaml --jobs 2
    python scripts/compare.py --study recipes/studies/core.yaml --jobs 2 --minutes 50 --only q1/
    python scripts/compare.py --study recipes/studies/core.yaml --report

A run that is in the results already is skipped, so the first command can be broken off and repeated at any time.
"""

import sys

from trl_amft.cli.compare import main


if __name__ == "__main__":
    sys.exit(main())
