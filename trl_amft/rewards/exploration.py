"""
RLSP's exploration reward (arXiv 2502.06773), bounded: correctness plus a small reward for a long search.

Its authors subtract 1000 / (characters / 4) from the correctness of every answer. That has no lower bound, so that a
right answer of 100 tokens is worth less than a wrong one of 1,000; it divides by zero where the answer comes first;
and where all answers of a group are wrong it trains length and nothing else. Here the term counts completion tokens,
lies in [0, weight] with a weight below the distance between right and wrong, and is off in groups whose correctness
does not vary.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from ..demonstrations.pictures import pictures_digest


def exploration_term(tokens: int, full_length: int, judged: float | None = None, judge_share: float = 0.0) -> float:
    """
    How much a completion explores: (1 − s) · min(tokens / full_length, 1) + s · judged.

    Args:
        tokens (`int`):
            Length of the completion, its end included.
        full_length (`int`):
            Tokens from which on more of them add nothing, ≥ 1.
        judged (`float`, *optional*):
            Opinion of a judge, clamped to [0, 1]. Length alone counts without it.
        judge_share (`float`, *optional*, defaults to `0.0`):
            s, in [0, 1].

    Returns:
        `float`: in [0, 1].
    """
    length = min(tokens / full_length, 1.0)
    if judged is None:
        return length
    return (1.0 - judge_share) * length + judge_share * min(max(judged, 0.0), 1.0)


def groups_vary(keys: Sequence[Any], values: Sequence[float | None]) -> list[bool]:
    """
    Whether the values of neighbours with the same key differ.

    Args:
        keys (`Sequence`):
            One per completion, equal within a group.
        values (`Sequence[float | None]`):
            One per completion; `None` where there is none.

    Returns:
        `list[bool]`: one per completion.
    """
    varies: list[bool] = []
    for _, group in groupby(range(len(keys)), key=keys.__getitem__):
        members = list(group)
        found = {values[index] for index in members if values[index] is not None}
        varies += [len(found) > 1] * len(members)
    return varies


class ExplorationReward:
    """
    Reward function of TRL: correctness + weight · [`exploration_term`], the second only in groups whose correctness
    varies. It takes the place of the correctness that it is built around. Use it with `scale_rewards="none"`: a
    standard deviation would blow the small term up where correctness hardly varies.

    Completions of one prompt that follow each other are a group, also where they lie on two processes; correctness is
    gathered for that. With TRL's `log_metric` it logs `exploration/correctness`, `exploration/active` (share of
    completions in groups where the term is on), `exploration/term` and `exploration/judge` (both where it is on).

    Args:
        correctness (`Callable`):
            Reward function with TRL's signature, not asynchronous; right and wrong are 1 apart.
        weight (`float`, *optional*, defaults to `0.2`):
            Weight of the term, in [0, 1). Below 1, so that no wrong completion is worth as much as a right one.
        full_length (`int`, *optional*, defaults to `1024`):
            Tokens from which on more of them add nothing, ≥ 1.
        judge (`Callable`, *optional*):
            Reward function with TRL's signature that says in [0, 1] how well a completion searches. It is asked about
            groups in which the term is on. Length alone counts without it.
        judge_share (`float`, *optional*, defaults to `0.2`):
            Share of the judge in the term, in [0, 1].

    Raises:
        `ValueError`: for arguments out of range.
    """

    __name__ = "exploration_reward"

    def __init__(
        self,
        correctness: Callable,
        weight: float = 0.2,
        full_length: int = 1024,
        judge: Callable | None = None,
        judge_share: float = 0.2,
    ):
        if not 0.0 <= weight < 1.0:
            raise ValueError(f"weight={weight!r} is out of range: give a number in [0, 1), below right minus wrong")
        if isinstance(full_length, bool) or not isinstance(full_length, int) or full_length < 1:
            raise ValueError(f"full_length={full_length!r} is out of range: give a whole number of tokens from 1 on")
        if not 0.0 <= judge_share <= 1.0:
            raise ValueError(f"judge_share={judge_share!r} is out of range: give a number in [0, 1]")
        self.correctness = correctness
        self.weight = weight
        self.full_length = full_length
        self.judge = judge
        self.judge_share = judge_share

    def __call__(
        self,
        prompts: list,
        completions: list,
        completion_ids: list[list[int]],
        log_metric: Callable[[str, float], None] | None = None,
        **columns,
    ) -> list[float | None]:
        """
        Args:
            prompts (`list`), completions (`list`), completion_ids (`list[list[int]]`):
                Of this process, in the order of groups.
            log_metric (`Callable[[str, float], None]`, *optional*):
                Given by the trainer.
            **columns:
                Handed to correctness and judge.

        Returns:
            `list[float | None]`: `None` where correctness does not apply.
        """
        given = {
            **columns,
            **{"prompts": prompts, "completions": completions, "completion_ids": completion_ids},
            "log_metric": log_metric,
        }
        failure = None
        correct: list[float | None] = [None] * len(prompts)
        try:
            answered = self.correctness(**given)
            if len(answered) != len(prompts):
                raise ValueError(f"correctness returned {len(answered)} values for {len(prompts)} completions")
            correct = answered
        except Exception as error:
            # The other processes wait in the gathering.
            failure = error
        active = self._active(prompts, columns, correct)
        if failure is not None:
            raise failure
        judged = self._judged(active, given)
        rewards: list[float | None] = []
        for index, right in enumerate(correct):
            if right is None:
                rewards.append(None)
                continue
            metrics = {"exploration/correctness": right, "exploration/active": float(active[index])}
            if active[index]:
                term = exploration_term(
                    len(completion_ids[index]), self.full_length, judged.get(index), self.judge_share
                )
                right += self.weight * term
                metrics["exploration/term"] = term
                if index in judged:
                    metrics["exploration/judge"] = judged[index]
            rewards.append(right)
            if log_metric is not None:
                for name, value in metrics.items():
                    log_metric(name, value)
        return rewards

    def _active(self, prompts: list, columns: dict[str, Any], correct: list[float | None]) -> list[bool]:
        keys = [_key(prompt, columns, index) for index, prompt in enumerate(prompts)]
        own = list(zip(keys, correct, strict=True))
        counts = gather_object([len(own)])
        everywhere = gather_object(own)
        varies = groups_vary([key for key, _ in everywhere], [value for _, value in everywhere])
        start = sum(counts[: PartialState().process_index])
        return varies[start : start + len(own)]

    def _judged(self, active: list[bool], given: dict[str, Any]) -> dict[int, float]:
        asked = [index for index, on in enumerate(active) if on]
        if self.judge is None or not asked:
            return {}
        chosen = {
            name: [value[index] for index in asked] if isinstance(value, list) else value
            for name, value in given.items()
        }
        if given.get("log_extra") is not None:
            chosen["log_extra"] = for_all_rows(given["log_extra"], asked, len(active))
        return {
            index: opinion for index, opinion in zip(asked, self.judge(**chosen), strict=True) if opinion is not None
        }


def for_all_rows(log_extra: Callable[[str, list], None], rows: list[int], count: int, prefix: str = "") -> Callable:
    """
    What a reward that sees some rows may call instead of the trainer's `log_extra`, which takes a value for each.

    Args:
        log_extra (`Callable[[str, list], None]`):
            Of the trainer.
        rows (`list[int]`):
            Which rows the reward sees.
        count (`int`):
            How many there are.
        prefix (`str`, *optional*, defaults to `""`):
            Before the names of columns.

    Returns:
        `Callable[[str, list], None]`: rows that are not seen get `None`.
    """

    def write(column: str, values: list) -> None:
        by_row = dict(zip(rows, values, strict=True))
        log_extra(f"{prefix}{column}", [by_row.get(row) for row in range(count)])

    return write


def _key(prompt: Any, columns: dict[str, Any], index: int) -> str:
    """The same for completions of the same prompt with the same pictures."""
    row: dict[str, Any] = {name: columns[name][index] for name in ("image", "images") if name in columns}
    text = json.dumps(prompt, sort_keys=True, default=lambda picture: pictures_digest({"image": picture}))
    return hashlib.sha1((text + pictures_digest(row)).encode()).hexdigest()
