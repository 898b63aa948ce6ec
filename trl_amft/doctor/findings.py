"""A line of the doctor: what was found, and where it is wrong, why and what to do."""

from typing import NamedTuple


OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"


class Finding(NamedTuple):
    """
    Args:
        level (`str`):
            `"ok"`, `"note"` for what could not be checked or is worth knowing, `"PROBLEM"` for what will not work.
        text (`str`):
            One line. Of a problem: what is wrong, why, and the remedy after a colon or semicolon.
    """

    level: str
    text: str


def problem(text: object) -> Finding:
    """A problem in one line, whatever line breaks an exception's text has."""
    return Finding(PROBLEM, " ".join(str(text).split()))


def first_line(error: Exception) -> str:
    """What an exception says first; the name of its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def gigabytes(count: float) -> str:
    """Bytes as GB of 10^9."""
    return f"{count / 1e9:,.1f} GB"
