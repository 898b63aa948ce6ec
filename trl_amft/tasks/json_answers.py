"""Answers that are one JSON object, read from whatever a model writes, in time linear in its length."""

import json
import re
from typing import Any


# No answer of these tasks is longer; what is longer is not looked at.
LONGEST_OBJECT = 2000


def completion_text(completion: str | list[dict[str, Any]]) -> str:
    """
    Text of a completion.

    Args:
        completion (`str` or `list[dict[str, Any]]`):
            Plain text, or messages, of which the last one counts.

    Returns:
        `str`
    """
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else ""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    return content or ""


def read_object(text: str, lenient: bool) -> dict[str, Any] | None:
    """
    The object of an answer.

    Args:
        text (`str`):
            A completion, of any length and content.
        lenient (`bool`):
            `False`: the text must be one valid JSON object and nothing else. `True`: the last `{…}` of the text,
            which may have trailing commas and single quotes.

    Returns:
        `dict[str, Any]` or `None` if there is none, if it holds another object, or a key twice.
    """
    if not lenient:
        return _load(text.strip()) if len(text) <= LONGEST_OBJECT else None
    end = text.rfind("}")
    start = text.rfind("{", 0, max(end, 0))
    if start < 0 or end - start >= LONGEST_OBJECT:
        return None
    block = text[start : end + 1]
    found = _load(block)
    if found is None:
        without_commas = re.sub(r",\s*([}\]])", r"\1", block)
        found = _load(without_commas)
        if found is None:
            found = _load(without_commas.replace("'", '"'))
    return found


def _load(block: str) -> dict[str, Any] | None:
    try:
        found = json.loads(block, object_pairs_hook=_without_duplicates, parse_constant=_refuse)
    # Deep brackets end in RecursionError, everything else in ValueError.
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and not any(isinstance(value, dict) for value in found.values()) else None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
