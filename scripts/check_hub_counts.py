"""
Whether the evaluation sets on the Hub still have the rows they were published with, and columns that can be read.

    python scripts/check_hub_counts.py
    python scripts/check_hub_counts.py aime24 gpqa_diamond

Needs the network, and for GPQA a token of an account that was granted access. Exit code 1 if a set differs.
"""

import sys

from trl_amft.tasks.maths_rows import load_rows, to_form
from trl_amft.tasks.maths_sets import SETS


def check(name: str) -> str | None:
    """What is wrong with a set, in one line; `None` if nothing is."""
    known = SETS[name]
    try:
        rows = load_rows(known.hub, known.split, known.config)
        usable = to_form(known.hub, rows)
    except ValueError as error:
        return str(error)
    if len(rows) not in known.rows:
        return f"{len(rows):,} rows, published with {' or '.join(f'{count:,}' for count in known.rows)}"
    if len(usable) < len(rows):
        return f"{len(rows) - len(usable):,} of {len(rows):,} rows have no answer that can be read"
    return None


def main(names: list[str]) -> int:
    unknown = next((name for name in names if name not in SETS), None)
    if unknown is not None:
        print(f"error: set={unknown!r} is not known; choose from: {', '.join(SETS)}", file=sys.stderr)
        return 2
    wrong = 0
    for name in names or SETS:
        problem = check(name)
        wrong += problem is not None
        print(f"{name:16} {SETS[name].hub:32} {problem or 'as published'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
