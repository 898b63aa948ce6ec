"""Maths rows under the names that data sets give their columns, brought to one form.

A problem is `problem` or `question`, its answer `answer`, a list `final_answer`, a box inside `solution`, or the
ground truth of `reward_model`. A row that is already a conversation keeps it. For multiple choice: `maths_choices.py`.
"""

import re
import reprlib
from collections.abc import Callable
from typing import Any

from ..grading import gold_answer
from ..grading.extraction import last_box
from .maths_synthetic import SYSTEM_PROMPT


PROBLEM = ("prompt", "problem", "Problem", "question", "Question")
ANSWER = ("reward_model", "answer", "Answer", "final_answer")
SOLUTION = ("solution", "Solution")
TARGET = ("target", "demonstration")
LEVEL = ("level", "Level", "difficulty")
SUBJECT = ("subject", "Subject", "type", "subfield", "category")

# Solutions of DeepSeek-R1 beside that of a human, each with a mark by math-verify or by a model that judges.
GENERATIONS, MARKS = "generations", ("correctness_math_verify", "correctness_llama")
# What NuminaMath writes where there is no answer to compare with.
NO_ANSWER = ("proof", "notfound")

# How GSM8K marks its answers, and the sums that its solutions note for a calculator.
MARK = "####"
CALCULATOR = re.compile(r"<<[^<>]*>>")


def conversation(problem: str) -> list[dict[str, str]]:
    """
    The one template of all problems that bring none of their own.

    Args:
        problem (`str`):
            A problem, with its options if it has any.

    Returns:
        `list[dict[str, str]]`: a system and a user turn.
    """
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": problem.strip()}]


def maths_reader(columns: list[str]) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """
    How rows with these columns are read.

    Args:
        columns (`list[str]`):
            Names of the columns.

    Returns:
        `Callable`, *optional*: from a row to `prompt`, `demonstration`, `solution`, `level` and `subject`, see
        [`read_row`]; `None` if there is no problem or no answer among the columns.
    """
    has_problem, has_answer = (any(name in columns for name in names) for names in (PROBLEM, ANSWER + SOLUTION))
    return read_row if has_problem and has_answer else None


def read_row(row: dict[str, Any]) -> dict[str, Any]:
    """
    Bring a row to the columns that the trainer, the reward and the evaluation read.

    Args:
        row (`dict[str, Any]`):
            A row.

    Returns:
        `dict[str, Any]`: `prompt` (messages), `demonstration` (messages or `None`), `solution` (the answer in a box;
        empty without one), `level` and `subject` (text or `None`). Without a problem, `solution` is empty as well.

    Raises:
        `ValueError`: in one line, if a conversation is no list of messages.
    """
    problem = _first(row, PROBLEM)
    if isinstance(problem, list):
        prompt = _messages(problem, _name(row, PROBLEM)) or conversation("")
    else:
        prompt = conversation(str(problem or ""))
    answer, worked = _answer(row)
    has_problem = any(message["content"].strip() for message in prompt if message["role"] != "system")
    return {
        "prompt": prompt,
        "demonstration": _demonstration(row, worked, answer),
        "solution": framed(answer) if has_problem else "",
        "level": _text(_first(row, LEVEL)),
        "subject": _text(_first(row, SUBJECT)),
    }


def framed(answer: str) -> str:
    """
    Args:
        answer (`str`):
            An answer, or a text with a box.

    Returns:
        `str`: the answer in a box; empty if there is none.
    """
    answer = gold_answer(answer)
    return f"\\boxed{{{answer}}}" if answer else ""


def _answer(row: dict[str, Any]) -> tuple[str, str | None]:
    """The answer of a row, and the worked solution if it stands in the same column."""
    value = _first(row, ANSWER)
    if isinstance(value, dict):
        value = value.get("ground_truth")
    if isinstance(value, list):
        value = ", ".join(str(part).strip().strip("$") for part in value)
    if value is None:
        solution = _joined(_first(row, SOLUTION))
        box = last_box(solution, len(solution))
        return (box or "").strip(), None
    text = str(value).strip()
    if text.casefold() in NO_ANSWER:
        return "", None
    if MARK in text:
        worked, _, text = text.rpartition(MARK)
        return text.strip().replace(",", ""), CALCULATOR.sub("", worked).strip()
    return text, None


def _demonstration(row: dict[str, Any], worked: str | None, answer: str) -> list[dict[str, str]] | None:
    target = _first(row, TARGET)
    if isinstance(target, list):
        return _messages(target, _name(row, TARGET))
    text = str(target or _marked(row) or worked or _joined(_first(row, SOLUTION))).strip()
    # A column `solution` with nothing but the answer shows no way to it.
    if not text or not answer or text.strip("$. ") in (answer, framed(answer)):
        return None
    if last_box(text, len(text)) is None:
        text = f"{text}\n\nThe answer is \\boxed{{{gold_answer(answer)}}}."
    return [{"role": "assistant", "content": text}]


def _marked(row: dict[str, Any]) -> str | None:
    """The first of several solutions that is marked as right."""
    solutions, marks = row.get(GENERATIONS), _first(row, MARKS)
    if not isinstance(solutions, list) or not isinstance(marks, list):
        return None
    return next((text for text, right in zip(solutions, marks, strict=False) if right and text), None)


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The value of the first column that is there and not empty."""
    return row.get(_name(row, names))


def _name(row: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first column that is there and not empty."""
    return next((name for name in names if row.get(name) not in (None, "", [])), "")


def _messages(value: list[Any], column: str) -> list[dict[str, str]] | None:
    """A conversation; `None` if a role or a text of it is null."""
    keys = ("role", "content")
    if not all(isinstance(message, dict) and set(keys) <= set(message) for message in value):
        raise ValueError(
            f"{column}={reprlib.repr(value)} must be a text, or a list of messages with the texts role and content"
        )
    messages = [{key: message[key] for key in keys} for message in value]
    for text in (text for message in messages for text in message.values()):
        if text is None:
            return None
        if not isinstance(text, str):
            raise ValueError(f"{column}: {reprlib.repr(text)} must be a text; it is the role or content of a message")
    return messages


def _joined(value: Any) -> str:
    return "\n\n".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
