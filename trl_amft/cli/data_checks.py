"""What rewards and the trainer would stumble over in the rows of a data set, found before a model is loaded."""

import inspect
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from datasets import Dataset, IterableDataset

from ..data.domains import DomainReward, LoggedByDomain
from ..demonstrations.tokenizer import check_columns, to_prompt_completion
from ..rewards import ExplorationReward
from .usage import UsageError


# Arguments that TRL gives every reward function besides the columns of a row.
GIVEN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments")
SAMPLE = 256


def check_prompts(field: str, dataset: Dataset | IterableDataset) -> None:
    """
    Args:
        field (`str`):
            Where the data set is from.
        dataset (`Dataset` or `IterableDataset`):
            With a column `prompt`. Of a stream nothing is read.

    Raises:
        [`UsageError`]: if a prompt is neither text nor messages, or empty.
    """
    if not isinstance(dataset, Dataset):
        return
    for row, prompt in enumerate(dataset["prompt"]):
        if not isinstance(prompt, (str, list)) or not prompt:
            raise UsageError(
                f"{field}: the prompt of row {row} is {prompt!r}; give a text or a list of messages, not empty"
            )


def check_demonstrations(field: str, dataset: Dataset | IterableDataset, column: str | None = None) -> None:
    """
    Args:
        field (`str`):
            Where the data set is from.
        dataset (`Dataset` or `IterableDataset`):
            Demonstrations. Of a stream only the columns are looked at.
        column (`str`, *optional*):
            Column of paired demonstrations.

    Raises:
        [`UsageError`]: if columns are missing, or one of the first rows holds neither text nor messages.
    """
    if dataset.column_names is None:
        return
    try:
        check_columns(dataset.column_names, column)
        read = [name for name in ("prompt", "completion", "messages", column) if name in dataset.column_names]
        # Without their pictures, which would be decoded.
        rows: Iterable[Any] = islice(dataset.select_columns(read), SAMPLE) if isinstance(dataset, Dataset) else ()
        for number, row in enumerate(rows):
            pair = to_prompt_completion(row, column)
            wrong = [name for name, value in (pair or {}).items() if not isinstance(value, (str, list))]
            if pair is not None and wrong:
                raise UsageError(
                    f"{field}: the {wrong[0]} of row {number} is {pair[wrong[0]]!r}; give a text or a list of messages"
                )
    except ValueError as error:
        raise UsageError(f"{field}: {error}") from None


def check_rewards(rewards: list[Callable], weights: list[float] | None, columns: list[str] | None) -> None:
    """
    Args:
        rewards (`list[Callable]`):
            Rewards of the training.
        weights (`list[float]`, *optional*):
            `reward_weights`.
        columns (`list[str]`, *optional*):
            Columns of the training set, where they are known.

    Raises:
        [`UsageError`]: if a reward reads a column that is not there, or weights and rewards differ in number.
    """
    if weights is not None and len(weights) != len(rewards):
        raise UsageError(
            f"reward_weights={weights} has {len(weights)} numbers, rewards are {len(rewards)}; give one each"
        )
    if columns is None:
        return
    for reward in rewards:
        missing = missing_columns(reward, columns)
        if missing:
            called = getattr(innermost(reward), "__name__", "reward")
            raise UsageError(
                f"reward_funcs: {called!r} reads {missing[0]!r}, which the training set has not, only "
                f"{', '.join(sorted(columns))}; rename a column or the argument"
            )


def missing_columns(reward: Callable, columns: list[str]) -> list[str]:
    """Arguments that a reward function needs and nobody gives it."""
    try:
        parameters = inspect.signature(innermost(reward)).parameters.values()
    except (TypeError, ValueError):
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [p.name for p in parameters if p.kind in named and p.default is inspect.Parameter.empty]
    return [name for name in needed if name not in GIVEN and name not in columns]


def innermost(reward: Any) -> Any:
    """The reward function inside those of this package that stand around one."""
    while isinstance(reward, (DomainReward, LoggedByDomain, ExplorationReward)):
        reward = reward.correctness if isinstance(reward, ExplorationReward) else reward.reward
    return reward
