"""JSON lines that a command of this project wrote, as rows."""

from pathlib import Path

from datasets import Dataset


def read_json_rows(field: str, path: str, remedy: str) -> Dataset:
    """
    Args:
        field (`str`):
            Argument that names the file, for the message of the error.
        path (`str`):
            JSON lines file.
        remedy (`str`):
            What else to give, for the message of the error.

    Returns:
        `Dataset`: at least one row.

    Raises:
        `ValueError`: in one line, if there is no such file, or no row in it.
    """
    if not Path(path).is_file():
        raise ValueError(f"{field}={path!r} is not a file; {remedy}")
    try:
        return Dataset.from_json(path)
    # Empty and broken files fail in ways without a common base class.
    except Exception as error:
        reason = str(error.__cause__ or error) or type(error).__name__
        raise ValueError(f"{field}={path!r} holds no rows that can be read ({reason}); {remedy}") from None
