"""Prompts and completions as text, whatever form the data has: plain text, chat messages, or messages in parts."""

from typing import Any


def as_text(value: Any) -> str:
    """
    Args:
        value (`Any`):
            A prompt or a completion as a dataset or the trainer holds it.

    Returns:
        `str`: readable text; of chat messages each with its role before it.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    # Tables that were read back hold arrays instead of lists.
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        if all(isinstance(message, dict) and "content" in message for message in value):
            return "\n".join(f"{message.get('role', '?')}: {_content(message['content'])}" for message in value)
        return "\n".join(as_text(entry) for entry in value)
    return str(value)


def _content(content: Any) -> str:
    if hasattr(content, "tolist"):
        content = content.tolist()
    if isinstance(content, list | tuple):
        return "".join(part.get("text") or f"[{part.get('type', '?')}]" for part in content if isinstance(part, dict))
    return content or ""
