"""
Write the parts of the documentation that are made from the code: docs/recipes.md.

    python scripts/write_docs.py
    python scripts/write_docs.py --check

The second writes nothing and ends with 1 where a page is not what the code says.
"""

import argparse
import sys
from pathlib import Path

from trl_amft.cli.recipes_page import recipes_page


ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "recipes.md"


def main() -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(description="Write the pages of docs/ that are made from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where a page is out of date")
    arguments = parser.parse_args()
    text = recipes_page(ROOT / "recipes")
    if arguments.check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"error: {PAGE} is out of date; run python scripts/write_docs.py", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
