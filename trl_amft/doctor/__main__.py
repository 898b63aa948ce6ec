"""`python -m trl_amft.doctor` is `scripts/doctor.py`."""

import sys

from ..cli.doctor import main


if __name__ == "__main__":
    sys.exit(main())
