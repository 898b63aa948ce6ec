"""Problems for the validation gradient, taken out of all that a run trains on: its prompts and its demonstrations."""

import json
import random
from collections.abc import Callable
from typing import Any

from datasets import Dataset, IterableDataset

from ..demonstrations.pictures import PICTURE_COLUMNS, pictures_digest
from .usage import UsageError


def prompt_of(row: dict[str, Any]) -> str:
    """The same text for rows with the same prompt and pictures."""
    prompt = row["prompt"] if "prompt" in row else row["messages"][:-1]
    return json.dumps(prompt, sort_keys=True, default=str) + pictures_digest(row)


def set_aside(
    train: Dataset,
    demonstrations: Dataset | IterableDataset | None,
    count: int,
    seed: int,
    problem_of: Callable[[dict[str, Any]], Any] | None = None,
) -> tuple[Dataset, Dataset | IterableDataset | None, Dataset]:
    """
    Divide by problem: what is set aside is trained on in no form, and not imitated.

    Args:
        train (`Dataset`):
            Training problems, possibly several rows of one problem.
        demonstrations (`Dataset` or `IterableDataset`, *optional*):
            Demonstrations of their own.
        count (`int`):
            Problems to set aside; the first row of each is taken.
        seed (`int`):
            Seed of the choice.
        problem_of (`Callable[[dict[str, Any]], Any]`, *optional*):
            What the rows of one problem have in common, in `train` and in `demonstrations`; [`prompt_of`] if not
            given.

    Returns:
        `tuple[Dataset, Dataset | IterableDataset | None, Dataset]`: `train` and `demonstrations` without these
        problems, and the problems.

    Raises:
        [`UsageError`]: if nothing would be left.
    """

    def problems(rows: Dataset) -> list[Any]:
        if problem_of is None:
            return [prompt_of(row) for row in _only(rows, "prompt", "messages", *PICTURE_COLUMNS)]
        # Without their pictures, which would be decoded.
        return [problem_of(row) for row in _only(rows, *set(rows.column_names).difference(PICTURE_COLUMNS))]

    def others(rows: Dataset, found: list[Any]) -> Dataset:
        return rows.select([index for index, problem in enumerate(found) if problem not in chosen])

    found = problems(train)
    firsts: dict[Any, int] = {}
    for index, problem in enumerate(found):
        firsts.setdefault(problem, index)
    if count >= len(firsts):
        raise UsageError(f"validation_samples={count} leaves none of {len(firsts)} training problems; lower it")
    chosen = set(random.Random(f"validation {seed}").sample(list(firsts), count))
    validation = train.select([index for problem, index in firsts.items() if problem in chosen])
    if isinstance(demonstrations, IterableDataset):
        demonstrations = demonstrations.filter(lambda row: (problem_of or prompt_of)(row) not in chosen)
    elif demonstrations is not None:
        demonstrations = others(demonstrations, problems(demonstrations))
        if len(demonstrations) == 0:
            raise UsageError(f"validation_samples={count} takes the problems of all demonstrations; lower it")
    return others(train, found), demonstrations, validation


def _only(rows: Dataset, *columns: str) -> Dataset:
    return rows.select_columns([name for name in columns if name in rows.column_names])
