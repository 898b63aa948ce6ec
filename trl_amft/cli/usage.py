"""Bad input is answered with one line that names the field, the value and the remedy, and with exit code 2."""

import difflib
import os
import sys
from collections.abc import Callable, Iterable
from typing import TypeVar


Result = TypeVar("Result")

USAGE_EXIT_CODE = 2


class UsageError(ValueError):
    """What the user gave cannot be used. The message is the whole answer, in one line."""

    def __init__(self, message: object):
        super().__init__(" ".join(str(message).split()))


def suggest(name: str, choices: Iterable[str]) -> str:
    """
    Remedy for a name that is not among `choices`.

    Args:
        name (`str`):
            What was given.
        choices (`Iterable[str]`):
            What would have been right.

    Returns:
        `str`: the nearest choice as a question if one is near, otherwise all of them, or nothing for very many.
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"choose from: {', '.join(choices)}" if len(choices) <= 40 else "see --help for all names"


def run_command(command: Callable[[], Result]) -> Result:
    """
    Run a command; on a [`UsageError`] print its line and exit with code 2.

    Args:
        command (`Callable`):
            The command, without arguments.

    Returns:
        What `command` returns.
    """
    try:
        return command()
    except UsageError as error:
        # Every process of a launch meets the same mistake; one of them telling is enough.
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USAGE_EXIT_CODE) from None
