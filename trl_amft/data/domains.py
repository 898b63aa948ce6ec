"""
Several domains in one run (MoDoMoDo, arXiv 2505.24871): shares of the prompts, and rewards that belong to one of them.

The column `domain` names the domain of a row. Shares are made of the data set, before the trainer sees it, so that
TRL's sampler stays what it is: groups, order and epochs are those of any other data set, and the same on every
process.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from datasets import Dataset, IterableDataset, interleave_datasets
from trl.trainer.utils import get_callable_name, is_async_callable

from ..rewards import ExplorationReward
from ..rewards.exploration import for_all_rows


DOMAIN = "domain"


def shares_of(weights: Mapping[str, float]) -> dict[str, float]:
    """
    Args:
        weights (`Mapping[str, float]`):
            Weight of each domain, ≥ 0, not all 0.

    Returns:
        `dict[str, float]`: shares above 0, whose sum is 1, in the order of the names.

    Raises:
        `ValueError`: for anything else.
    """
    for name, weight in weights.items():
        if not isinstance(name, str):
            raise ValueError(f"domain_weights: the domain {name!r} is no text; put it in quotes, here and in the rows")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0.0 <= weight < math.inf:
            raise ValueError(f"domain_weights: {name}={weight!r} must be a number from 0 on")
    total = math.fsum(weights.values())
    if total <= 0.0:
        raise ValueError(f"domain_weights={dict(weights)!r} leaves no domain: give one a weight above 0")
    return {name: weights[name] / total for name in sorted(weights) if weights[name] > 0.0}


def mix_domains(
    dataset: Dataset | IterableDataset, weights: Mapping[str, float], seed: int
) -> Dataset | IterableDataset:
    """
    A data set in which each row is of a domain drawn by its weight. It ends when every domain has been shown as a
    whole; rows of the others are repeated until then.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            With a column `domain`. A stream is read once for each domain.
        weights (`Mapping[str, float]`):
            Weight of each domain; 0 leaves a domain out. Every domain of the data must be named.
        seed (`int`):
            Of the draw.

    Returns:
        `Dataset` or `IterableDataset`

    Raises:
        `ValueError`: if column, domains and weights do not fit together.
    """
    shares = shares_of(weights)
    if dataset.column_names is not None and DOMAIN not in dataset.column_names:
        raise ValueError(f"domain_weights needs a column {DOMAIN!r}, found {sorted(dataset.column_names)}: add it")
    parts: list[Any]
    if isinstance(dataset, Dataset):
        rows: dict[str, list[int]] = {name: [] for name in shares}
        for index, name in enumerate(dataset[DOMAIN]):
            if _known(name, weights) in rows:
                rows[name].append(index)
        parts = [dataset.select(indices) for indices in rows.values()]
        empty = [name for name, indices in rows.items() if not indices]
    else:
        parts = [
            dataset.filter(lambda found, wanted=name: _known(found, weights) == wanted, input_columns=DOMAIN)
            for name in shares
        ]
        empty = [name for name, part in zip(shares, parts, strict=True) if next(iter(part), None) is None]
    if empty:
        raise ValueError(f"domain_weights names the domain {empty[0]!r}, of which there is no row: take it out")
    if len(parts) == 1:
        return parts[0]
    return interleave_datasets(
        parts, probabilities=list(shares.values()), seed=seed, stopping_strategy="all_exhausted"
    )


def _known(name: Any, weights: Mapping[str, float]) -> Any:
    if name not in weights:
        raise ValueError(f"domain_weights has no weight for the domain {name!r} of a row: give one, 0 leaves it out")
    return name


class DomainReward:
    """
    A reward function of TRL that applies to the rows of one domain; the others get `None`, which TRL leaves out.

    With TRL's `log_metric` it logs `domains/DOMAIN/FUNCTION`, the mean reward over the rows of the domain on all
    processes, and `domains/DOMAIN/share`, their share of the rollouts.

    Args:
        domain (`str`):
            Value of the column `domain`.
        reward (`Callable`):
            Reward function with TRL's signature, not asynchronous.

    Raises:
        `ValueError`: for an asynchronous one, and for an [`ExplorationReward`], which gathers: a process without rows
            of the domain would not reach it.
    """

    def __init__(self, domain: str, reward: Callable):
        if is_async_callable(reward):
            raise ValueError(f"the reward {get_callable_name(reward)!r} of domain {domain!r} is asynchronous: wrap it")
        if isinstance(reward, ExplorationReward):
            raise ValueError(
                f"the reward of domain {domain!r} is an ExplorationReward, which must see all rows: put it around, "
                "ExplorationReward(DomainReward(...))"
            )
        self.domain, self.reward = domain, reward
        self.__name__ = f"{domain}_{get_callable_name(reward)}"

    def __call__(
        self,
        domain: list[str],
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list], None] | None = None,
        **given,
    ) -> list[float | None]:
        """
        Args:
            domain (`list[str]`):
                Of each row.
            log_metric (`Callable[[str, float], None]`, *optional*):
                Given by the trainer.
            log_extra (`Callable[[str, list], None]`, *optional*):
                Given by the trainer; the reward's columns get the name of the domain before their own.
            **given:
                Prompts, completions and columns; of lists the reward sees the part that belongs to its domain.

        Returns:
            `list[float | None]`
        """
        mine = [index for index, name in enumerate(domain) if name == self.domain]
        rewards: list[float | None] = [None] * len(domain)
        if mine:
            part = {
                name: [values[index] for index in mine] if isinstance(values, list) else values
                for name, values in given.items()
            }
            if log_extra is not None:
                part["log_extra"] = for_all_rows(log_extra, mine, len(domain), f"{self.domain}/")
            own = self.reward(domain=[self.domain] * len(mine), log_metric=log_metric, **part)
            for index, value in zip(mine, own, strict=True):
                rewards[index] = value
        if log_metric is not None:
            _log_by_domain([self.domain], domain, rewards, get_callable_name(self.reward), log_metric)
        return rewards


class LoggedByDomain:
    """
    A reward function for all rows that also logs what [`DomainReward`] logs, for several domains.

    Args:
        domains (`list[str]`):
            Domains of the data.
        reward (`Callable`):
            Reward function with TRL's signature, not asynchronous.
    """

    def __init__(self, domains: list[str], reward: Callable):
        self.domains, self.reward = domains, reward
        self.__name__ = get_callable_name(reward)

    def __call__(self, log_metric: Callable[[str, float], None] | None = None, **given) -> list[float | None]:
        """Arguments and result are those of the reward. Rows without a column `domain` are not logged."""
        rewards = self.reward(log_metric=log_metric, **given)
        if log_metric is not None and DOMAIN in given:
            _log_by_domain(self.domains, given[DOMAIN], rewards, self.__name__, log_metric)
        return rewards


def _log_by_domain(
    names: list[str], domain: list[str], rewards: list[float | None], function: str, log_metric: Callable
) -> None:
    for name in names:
        for own, value in zip(domain, rewards, strict=True):
            log_metric(f"domains/{name}/share", float(own == name))
            if own == name and value is not None:
                log_metric(f"domains/{name}/{function}", value)
