"""
Prefixes of solutions with the success probability of stopping there, as `scripts/make_prefixes.py` writes them.

The synthetic form is a task whose probability is known: a word of the letters a and b is to be copied after the sign
">", and some of the copy is there already. Somebody who has to stop there and guesses the rest is right with
probability 1/2 per letter that is left, so p_term = 2^−(letters left). A model that copies makes progress everywhere.
"""

import random
from collections.abc import Callable
from itertools import product
from pathlib import Path

from datasets import Dataset

from ..grading import maths_reward
from .task import Task


SYNTHETIC = "synthetic"
LETTERS = 6


def copy_reward(completions: list[str], rest: list[str], **kwargs) -> list[float]:
    """
    Reward of the synthetic form.

    Args:
        completions (`list[str]`):
            What follows the prefix.
        rest (`list[str]`):
            The letters that are left.

    Returns:
        `list[float]`: 1.0 where they are the same.
    """
    return [float(text == left) for text, left in zip(completions, rest, strict=True)]


def synthetic_prefixes(seed: int = 0) -> list[dict]:
    """
    Every word of `LETTERS` letters with every prefix that is shorter than it, in the order of the words.

    Args:
        seed (`int`, *optional*, defaults to `0`):
            Of the order.

    Returns:
        `list[dict]`: rows with `prompt`, `demonstration`, `rest`, `p_term`, `mode`, `row`, `episode` and `episodes`.
    """
    words = ["".join(letters) for letters in product("ab", repeat=LETTERS)]
    random.Random(f"prefixes {seed}").shuffle(words)
    return [
        {
            "prompt": f"{word}>{word[:done]}",
            "demonstration": word[done:],
            "rest": word[done:],
            "p_term": 0.5 ** (LETTERS - done),
            "mode": "continue",
            "row": index,
            "episode": done,
            "episodes": LETTERS,
        }
        for index, word in enumerate(words)
        for done in range(LETTERS)
    ]


def load_prefixes(
    dataset: str = SYNTHETIC, held_out_problems: int = 8, train_problems: int | None = None, seed: int = 0
) -> Task:
    """
    Prefixes of solutions.

    Args:
        dataset (`str`, *optional*, defaults to `"synthetic"`):
            JSON lines file of `scripts/make_prefixes.py`, made from problems with a column `solution`, or
            `"synthetic"`, see the head of this file.
        held_out_problems (`int`, *optional*, defaults to `8`):
            Problems that are held out with all their prefixes.
        train_problems (`int`, *optional*):
            How many of the others to keep. All of them if not given.
        seed (`int`, *optional*, defaults to `0`):
            Of the division.

    Returns:
        `Task`: columns `"prompt"` (plain text), `"demonstration"` (text or `None`), `"p_term"` and what the reward
        reads.
    """
    reward: Callable[..., list[float]] | Callable[..., list[float | None]]
    if dataset == SYNTHETIC:
        rows, reward = Dataset.from_list(synthetic_prefixes(seed)), copy_reward
    else:
        if not Path(dataset).is_file():
            raise ValueError(
                f"dataset={dataset!r} is not a file; make one with scripts/make_prefixes.py, or give {SYNTHETIC!r}"
            )
        rows, reward = Dataset.from_json(dataset), maths_reward
        missing = {"prompt", "p_term", "row", "solution"} - set(rows.column_names)
        if missing:
            raise ValueError(
                f"dataset={dataset!r} has no column {min(missing)!r}; for rewards that read another one use "
                "dataset_name and reward_funcs instead of this task"
            )
    problems = sorted(set(rows["row"]))
    if not 1 <= held_out_problems < len(problems):
        raise ValueError(
            f"held_out_problems={held_out_problems} must lie between 1 and {len(problems) - 1}, one less than there "
            "are problems"
        )
    random.Random(f"held out {seed}").shuffle(problems)
    if train_problems is not None and train_problems < 1:
        raise ValueError(f"train_problems={train_problems} must be at least 1")
    end = None if train_problems is None else held_out_problems + train_problems
    held_out, kept = set(problems[:held_out_problems]), set(problems[held_out_problems:end])
    sides: dict[bool, list[int]] = {True: [], False: []}
    for index, problem in enumerate(rows["row"]):
        if problem in held_out or problem in kept:
            sides[problem in held_out].append(index)
    return Task(
        train_dataset=rows.select(sides[False]),
        held_out_dataset=rows.select(sides[True]).remove_columns("demonstration"),
        reward_funcs=[reward],
    )
