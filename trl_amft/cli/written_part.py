"""A JSON lines file that grows part by part, and goes on where it was broken off if all it depends on is the same."""

import json
import os
from pathlib import Path
from typing import Any

from .usage import UsageError


class WrittenPart:
    """
    The output so far. `NAME.progress.json` beside it tells how many problems and bytes are done; what lies beyond them
    was not finished and is cut off.

    Args:
        path (`Path`):
            JSON lines file.
        settings (`dict[str, Any]`):
            What the rows depend on; can be written as JSON.

    Raises:
        [`UsageError`]: if the file was made or begun with other settings, or cannot be written.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path, self.next_row = path, 0
        self._beside = path.with_name(path.name + ".progress.json")
        self._settings = json.loads(json.dumps(settings))
        try:
            self._begin()
        except OSError as error:
            raise UsageError(f"output={str(path)!r} cannot be written ({error}); give another path") from None

    def _begin(self) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            self._note(0)
            return
        output = f"output={str(self.path)!r}"
        if not self._beside.is_file():
            raise UsageError(f"{output} exists and is not of this command; delete it, or give another name")
        try:
            known = json.loads(self._beside.read_text(encoding="utf-8"))
            found, next_row, size = dict(known["settings"]), int(known["next_row"]), int(known["bytes"])
        except (ValueError, TypeError, KeyError):
            raise UsageError(
                f"{output} cannot go on: {self._beside.name} beside it is broken; delete both, or give another name"
            ) from None
        for name in sorted(found.keys() | self._settings.keys()):
            # Where nothing is written yet, anything may be.
            if next_row and found.get(name) != self._settings.get(name):
                raise UsageError(
                    f"{output} was begun with {name}={found.get(name)!r}, not {self._settings.get(name)!r}; give "
                    "another name, or the same arguments"
                )
        if self.path.stat().st_size < size:
            raise UsageError(f"{output} is shorter than it was; delete it and {self._beside.name}")
        os.truncate(self.path, size)
        self._note(next_row)

    def add(self, rows: list[dict[str, Any]], next_row: int) -> None:
        """Append rows, which are kept from then on."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
        self._note(next_row)

    def _note(self, next_row: int) -> None:
        self.next_row = next_row
        note = {"settings": self._settings, "next_row": next_row, "bytes": self.path.stat().st_size}
        beginning = self._beside.with_suffix(".tmp")
        beginning.write_text(json.dumps(note), encoding="utf-8")
        os.replace(beginning, self._beside)
