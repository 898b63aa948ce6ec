"""Whether a file can be written is asked before the work whose result it is to hold."""

import os
import tempfile
from pathlib import Path

from .usage import UsageError


def may_be_folder(path: str | Path) -> bool:
    """Nothing but folders, or nothing at all, stands at a path and above it."""
    return all(os.path.isdir(place) or not os.path.exists(place) for place in (Path(path), *Path(path).parents))


def check_output(path: Path, field: str = "output") -> None:
    """
    Args:
        path (`Path`):
            File that is to be written.
        field (`str`, *optional*, defaults to `"output"`):
            The argument that named it.

    Raises:
        [`UsageError`]: if it is a folder, lies below a file, or cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{field}={str(path)!r} is a folder; give the name of a file")
    check_parents(path, field)
    check_writable(path, field)


def check_parents(path: Path, field: str) -> None:
    """As [`check_output`], for a file or a folder."""
    above = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None)
    if above is not None:
        raise UsageError(f"{field}={str(path)!r} lies below {str(above)!r}, which is a file; give another name")


def check_writable(path: Path, field: str) -> None:
    """
    Args:
        path (`Path`):
            File or folder that is to be written, and may not be there yet.
        field (`str`):
            The argument that named it.

    Raises:
        [`UsageError`]: if nothing can be written there.
    """
    try:
        existing = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(f"{field}={str(path)!r} cannot be written ({error}); give another name") from None
