"""Answers that were paid for are kept: a command that was broken off, or failed in part, asks only for the rest."""

import json
import os
from pathlib import Path
from typing import Any

from .usage import UsageError


class KeptSteps:
    """
    Every answer of the endpoint that could be read, one line each, in the order in which they came.

    Args:
        path (`Path`):
            JSON lines file. Its first line holds the settings; a line that was not finished is cut off.
        settings (`dict[str, Any]`):
            What the answers depend on.

    Raises:
        [`UsageError`]: if the file was begun with other settings, or by something else.
    """

    kinds: dict[str, type | tuple[type, ...]] = {
        "people": list,
        "person": str,
        "dialogue": list,
        "judgement": (int, float),
    }

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        self.steps: dict[tuple[str, int], Any] = {}
        self.tokens_in = self.tokens_out = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.read_bytes() if path.exists() else b""
        whole = there or json.dumps({"settings": settings}).encode() + b"\n"
        whole = whole[: whole.rfind(b"\n") + 1]
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()]
            begun = dict(first["settings"])
            for line in lines:
                self._take(line)
        except (KeyError, TypeError, ValueError):
            raise UsageError(
                f"output: {str(path)!r} does not hold the answers of this command; delete it, or give another name"
            ) from None
        for name, value in settings.items():
            if begun.get(name) != value:
                raise UsageError(
                    f"output: {str(path)!r} was begun with {name}={begun.get(name)!r}, not {value!r}; "
                    "give another name, or the same arguments"
                )
        # What is there is never written again: a disk that is full would take it away.
        if there:
            os.truncate(path, len(whole))
        else:
            path.write_bytes(whole)

    def add(self, kind: str, number: int, value: Any, tokens_in: int, tokens_out: int) -> None:
        """Keep an answer, or with value `None` only what it cost."""
        line = {"kind": kind, "number": number, "value": value, "tokens": [tokens_in, tokens_out]}
        written = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        size = self.path.stat().st_size
        try:
            with self.path.open("ab") as file:
                file.write(written)
        except OSError:
            # Half a line would spoil the next one.
            os.truncate(self.path, size)
            raise
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        sent, received = line["tokens"]
        self.tokens_in += sent
        self.tokens_out += received
        kind, value = line["kind"], line["value"]
        if value is not None:
            if not isinstance(value, self.kinds[kind]):
                raise TypeError(f"{kind}={value!r}")
            self.steps[kind, line["number"]] = value

    def dialogues(self, count: int) -> list[dict[str, Any]]:
        """The finished ones among the first `count`, in order."""
        return [
            {
                "number": number,
                "person": self.steps["person", number],
                "dialogue": self.steps["dialogue", number],
                "reward": self.steps["judgement", number],
            }
            for number in range(count)
            if ("judgement", number) in self.steps
        ]
