"""Multiple choice under the columns of ARC, GPQA and MMLU-Pro: options with letters, the right letter as answer."""

import random
import reprlib
from collections.abc import Callable
from functools import partial
from typing import Any

from .maths_fields import conversation, framed


LETTERS = "ABCDEFGHIJ"
INSTRUCTION = "Choose one option. The final answer is its letter."
ARC = ("question", "choices", "answerKey")
GPQA = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
MMLU_PRO = ("question", "options", "answer")
# Columns of a multiple choice, and of a text that belongs to its question.
OPTIONS = ("choices", "options")
TEXTS = ("article", "passage", "context")
GPQA_SUBJECT = "High-level domain"


def choices_reader(columns: list[str], seed: int = 0) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """
    How rows with these columns are read.

    Args:
        columns (`list[str]`):
            Names of the columns.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order of options where the data set has the right one always first.

    Returns:
        `Callable`, *optional*: as for [`~trl_amft.tasks.maths_fields.read_row`]; `None` if it is no multiple choice.
    """
    for names, reader in ((ARC, _arc), (GPQA, partial(_gpqa, seed=seed)), (MMLU_PRO, _mmlu_pro)):
        if set(names) <= set(columns):
            return reader
    return None


def _arc(row: dict[str, Any]) -> dict[str, Any]:
    choices = row["choices"] if row["choices"] is not None else {"text": None, "label": None}
    keys = ("text", "label")
    if not isinstance(choices, dict) or not all(isinstance(choices.get(key, 0), list | None) for key in keys):
        raise ValueError(f"choices={reprlib.repr(choices)} must be a mapping with the lists text and label")
    texts, labels = (choices[key] or [] for key in keys)
    # Some rows call their options 1 to 4.
    right = labels.index(row["answerKey"]) if row["answerKey"] in labels else None
    return _row(row["question"], texts, right, None)


def _mmlu_pro(row: dict[str, Any]) -> dict[str, Any]:
    # The options of the first release are filled up to ten.
    if not isinstance(row["options"], list | None):
        raise ValueError(f"options={reprlib.repr(row['options'])} must be a list of texts")
    options = list(row["options"] or [])
    while options and options[-1] == "N/A":
        options.pop()
    answer = str(row["answer"] or "").strip()
    right = LETTERS.index(answer) if len(answer) == 1 and answer in LETTERS[: len(options)] else None
    return _row(row["question"], options, right, row.get("category"))


def _gpqa(row: dict[str, Any], seed: int) -> dict[str, Any]:
    options = [str(row[name]).strip() for name in GPQA[1:]]
    order = list(range(len(options)))
    # The order belongs to the question, whatever rows stand beside it.
    random.Random(f"gpqa {seed} {row['Question']}").shuffle(order)
    return _row(row["Question"], [options[index] for index in order], order.index(0), row.get(GPQA_SUBJECT))


def _row(question: str | None, options: list[str], right: int | None, subject: str | None) -> dict[str, Any]:
    lines = [f"{letter}. {str(option).strip()}" for letter, option in zip(LETTERS, options, strict=False)]
    problem = "\n".join([str(question or "").strip(), "", *lines, "", INSTRUCTION])
    usable = question and 1 < len(options) <= len(LETTERS)
    return {
        "prompt": conversation(problem),
        "demonstration": None,
        "solution": framed(LETTERS[right]) if usable and right is not None and right < len(options) else "",
        "level": None,
        "subject": subject,
    }


EXPECTED = "; ".join(" + ".join(names[:3]) for names in (ARC, GPQA, MMLU_PRO))
