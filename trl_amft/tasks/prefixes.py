"""
Prefixes of solutions with the success probability of stopping there, as `scripts/make_prefixes.py` writes them.

The synthetic form is a task whose probability is known: a word of the letters a and b is to be copied after the sign
">", and some of the copy is there already. Somebody who has to stop there and guesses the rest is right with
probability 1/2 per letter that is left, so p_term = 2^−(letters left). A model that copies makes progress everywhere.
"""

import random
from collections.abc import Callable
from itertools import product
from typing import Any

from datasets import Dataset

from ..data.prefixes import PROBLEM_PROMPT
from ..grading import maths_reward
from ..grading.undone import problem_text
from .json_rows import read_json_rows
from .maths_preparation import plain
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


def prefix_reward(
    completions: list[str], solution: list[str | None], problem_prompt: list, prompts: list | None = None, **kwargs
) -> list[float | None]:
    """
    Reward of maths, as `p_term` was measured: the problem is that of the solution, without the part that is there.

    Args:
        completions (`list[str]`):
            What follows the prefix.
        solution (`list[str]`):
            Ground truths, see [`~trl_amft.grading.maths_reward`].
        problem_prompt (`list[str]` or `list[list[dict[str, Any]]]`):
            Prompts of the solutions.
        prompts (`list[str]`, *optional*):
            The prefixes, not used.
        **kwargs:
            As for [`~trl_amft.grading.maths_reward`].

    Returns:
        `list[float | None]`: 1.0 or 0.0; `None` where there is no ground truth.
    """
    return maths_reward(completions, solution, prompts=problem_prompt, **kwargs)


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
        remedy = f"make one with scripts/make_prefixes.py, or give {SYNTHETIC!r}"
        rows, reward = read_json_rows("dataset", dataset, remedy), prefix_reward
        missing = {"prompt", "p_term", "solution", PROBLEM_PROMPT} - set(rows.column_names)
        if missing:
            raise ValueError(
                f"dataset={dataset!r} has no column {min(missing)!r}; for rewards that read another one use "
                "dataset_name and reward_funcs instead of this task"
            )
    # A problem may have several solutions.
    problem_of: list[Any] = (
        rows["row"] if dataset == SYNTHETIC else [plain(problem_text(prompt)) for prompt in rows[PROBLEM_PROMPT]]
    )
    problems = list(dict.fromkeys(problem_of))
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
    for index, problem in enumerate(problem_of):
        if problem in held_out or problem in kept:
            sides[problem in held_out].append(index)
    return Task(
        train_dataset=rows.select(sides[False]),
        held_out_dataset=rows.select(sides[True]).remove_columns("demonstration"),
        reward_funcs=[reward],
        problem_of=lambda row: row["row"] if dataset == SYNTHETIC else plain(problem_text(row[PROBLEM_PROMPT])),
    )
