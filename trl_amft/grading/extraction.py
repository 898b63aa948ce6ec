"""Which part of a completion is its answer: what stands behind the thinking, there the last box, else a last sentence.

Every search is bounded, because a completion may be a megabyte of boxes that never close.
"""

import re


# Longer answers are not graded. Ground truths of the evaluation sets stay below 200 characters.
MAX_ANSWER_LENGTH = 500

# How many boxes are tried from the end, and how much text before the end may hold the sentence with the answer.
MAX_BOXES = 16
MAX_SENTENCE_DISTANCE = 4_000

BOX = re.compile(r"\\f?boxed\s*")
SENTENCE = re.compile(
    r"(?:\banswer\s{0,3}(?:\*\*)?\s{0,3}(?:is\s{0,3}:?|:|=)|####)\s{0,3}(?:\*\*)?[^\S\n]{0,3}",
    re.IGNORECASE,
)
FORMULA = re.compile(r"\$\$?((?:\\.|[^$\\])+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
END_OF_SENTENCE = re.compile(r"\.(?=\s|\*|$)|\*\*|I hope", re.IGNORECASE)


def after_thinking(text: str) -> str:
    """
    What a completion says once its thinking is over.

    Args:
        text (`str`):
            A completion. The tag that opens the thinking may be missing, because a chat template may have written it.

    Returns:
        `str`: the text after the last `</think>`; without what follows a `<think>` that is never closed.
    """
    said = text.rpartition("</think>")[2]
    return said.partition("<think>")[0]


def last_box(text: str, max_length: int = MAX_ANSWER_LENGTH) -> str | None:
    """
    Content of the last `\\boxed{}` or `\\fbox{}` that is closed.

    Args:
        text (`str`):
            Any text.
        max_length (`int`, *optional*, defaults to `500`):
            A box with more characters is not closed in time, and counts as none.

    Returns:
        `str`, *optional*: with balanced braces; `None` without such a box.
    """
    end = len(text)
    for _ in range(MAX_BOXES):
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if start < 0:
            return None
        content = _braces(text, start, max_length)
        if content is not None:
            return content
        end = start
    return None


def _braces(text: str, start: int, max_length: int) -> str | None:
    opening = text.find("{", start, start + 10)
    command = text[start:opening].strip() if opening >= 0 else ""
    if command not in ("\\boxed", "\\fbox"):
        # TeX takes the next sign where there are no braces.
        bare = re.match(r"\\(?:boxed|fbox)\s{1,3}(\w+)", text[start : start + 40])
        return bare.group(1) if bare else None
    depth, at, last = 0, opening, min(len(text), opening + max_length + 2)
    while at < last:
        if text[at] == "\\":
            at += 2
            continue
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[opening + 1 : at]
        at += 1
    return None


def final_answer(text: str, max_length: int = MAX_ANSWER_LENGTH) -> str | None:
    """
    The answer that a completion ends with.

    Args:
        text (`str`):
            A completion.
        max_length (`int`, *optional*, defaults to `500`):
            Longest answer in characters.

    Returns:
        `str`, *optional*: content of the last box after the thinking; without a box what the last "answer is",
        "answer:" or "####" announces; `None` where nothing does, or where it is too long.
    """
    said = after_thinking(text)
    boxed = last_box(said, max_length)
    if boxed is not None:
        return boxed.strip() or None
    # A box too long to be an answer is still the answer that was given.
    if "\\boxed{" in said and len(said) > max_length and "}" in said[said.rfind("\\boxed{") :]:
        return None
    said = said[-MAX_SENTENCE_DISTANCE:]
    ends = [sentence.end() for sentence in SENTENCE.finditer(said)]
    if not ends:
        return None
    rest = said[ends[-1] :].partition("\n")[0][: max_length + 100].strip()
    formula = FORMULA.match(rest)
    if formula:
        rest = next(group for group in formula.groups() if group is not None)
    else:
        rest = END_OF_SENTENCE.split(rest, maxsplit=1)[0]
    rest = rest.strip()
    return rest if 0 < len(rest) <= max_length else None


def gold_answer(solution: str) -> str:
    """
    The answer of a ground truth.

    Args:
        solution (`str`):
            An answer, or a text with the answer in a box.

    Returns:
        `str`: without frame; empty if there is none.
    """
    # A ground truth is trusted, however long it is.
    boxed = last_box(solution, len(solution))
    return (solution if boxed is None else boxed).strip()
