"""Numbers from graded samples: pass@k, the vote, and intervals by bootstrap over problems."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np


RESAMPLES = 10_000
# Problems drawn at once, so that a large set does not fill the memory.
DRAWS = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """
    A mean with its interval.

    Args:
        mean (`float`):
            Mean over problems.
        low (`float`):
            Lower end of the interval.
        high (`float`):
            Upper end.
    """

    mean: float
    low: float
    high: float


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """
    Probability that at least one of `k` samples is right: 1 − C(n − c, k) / C(n, k), which is unbiased for n ≥ k.
    Source: Chen et al., arXiv 2107.03374.

    Args:
        samples (`int`):
            n, the number of samples of a problem.
        correct (`int`):
            c, how many of them are right.
        k (`int`):
            At least 1 and at most `samples`.

    Returns:
        `float`: between 0 and 1.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"k={k} must lie between 1 and the number of samples, {samples}")
    if not 0 <= correct <= samples:
        raise ValueError(f"correct={correct} must lie between 0 and the number of samples, {samples}")
    if samples - correct < k:
        return 1.0
    return 1.0 - prod(1.0 - k / n for n in range(samples - correct + 1, samples + 1))


def majority(answers: Sequence[str | None], correct: Sequence[bool]) -> float:
    """
    Whether the most frequent answer is right (maj@k, with k the number of samples).

    Args:
        answers (`Sequence[str | None]`):
            One form per answer, equal for equal answers; `None` for a sample without answer, which has no vote.
        correct (`Sequence[bool]`):
            Whether each sample is right.

    Returns:
        `float`: 1 or 0; between them where answers with as many votes differ, as if one of them were drawn.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    right = {answer: flag for answer, flag in zip(answers, correct, strict=True) if answer is not None}
    first = [answer for answer, count in votes.items() if count == most]
    return sum(right[answer] for answer in first) / len(first)


def interval(values: Sequence[float], *, seed: int = 0, level: float = 0.95) -> Estimate:
    """
    Mean over problems with its percentile bootstrap interval.

    Problems are resampled, not samples: samples of one problem are not independent draws from the task. Where all
    values are the same extreme, 0 or 1, resampling would give an interval without width; there it is the exact one for
    as many problems without a single exception.

    Args:
        values (`Sequence[float]`):
            One per problem.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.
        level (`float`, *optional*, defaults to `0.95`):
            Share of repetitions whose interval shall hold the true mean.

    Returns:
        [`Estimate`]
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("values is empty: an interval needs at least one problem")
    mean, tail = float(array.mean()), (1.0 - level) / 2.0
    if _is_extreme(array):
        reach = 1.0 - tail ** (1.0 / array.size)
        return Estimate(mean, 0.0, reach) if array[0] == 0.0 else Estimate(mean, 1.0 - reach, 1.0)
    low, high = np.quantile(_resampled_means(array, seed), [tail, 1.0 - tail])
    return Estimate(mean, float(low), float(high))


def paired_difference(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Estimate:
    """
    Mean of `second` − `first` over the same problems.

    Args:
        first (`Sequence[float]`):
            One value per problem.
        second (`Sequence[float]`):
            Of the same problems in the same order.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.

    Returns:
        [`Estimate`]: with a 95 % interval. Its width is 0 where the difference is the same for every problem.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values are no pairs; give the same problems")
    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    low, high = np.quantile(_resampled_means(differences, seed), [0.025, 0.975])
    return Estimate(float(differences.mean()), float(low), float(high))


def mean_over_sets(values: Sequence[Sequence[float]], *, shares: bool = True, seed: int = 0) -> Estimate:
    """
    Mean over sets of their means, each set with the same weight; problems are resampled within their set.

    Args:
        values (`Sequence[Sequence[float]]`):
            Per set, one value per problem.
        shares (`bool`, *optional*, defaults to `True`):
            Whether the values are shares of right samples, so that a set of nothing but 0 or 1 is as uncertain as
            [`interval`] says; differences are not.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.

    Returns:
        [`Estimate`]: with a 95 % interval.
    """
    arrays = [np.asarray(part, dtype=np.float64) for part in values]
    draws = np.mean([_draws(array, shares, seed + number) for number, array in enumerate(arrays)], axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    mean = float(np.mean([array.mean() for array in arrays]))
    return Estimate(mean, min(float(low), mean), max(float(high), mean))


def _is_extreme(array: np.ndarray) -> bool:
    return bool((array == array[0]).all() and array[0] in (0.0, 1.0))


def _draws(array: np.ndarray, shares: bool, seed: int) -> np.ndarray:
    if not (shares and _is_extreme(array)):
        return _resampled_means(array, seed)
    # Its tails are the exact bounds of `interval`.
    reach = 1.0 - np.random.default_rng(seed).random(RESAMPLES) ** (1.0 / array.size)
    return reach if array[0] == 0.0 else 1.0 - reach


def _resampled_means(array: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # Many problems have few different values; drawing how often each occurs is the same and much faster.
    distinct, counts = np.unique(array, return_counts=True)
    if distinct.size <= 64:
        return rng.multinomial(array.size, counts / array.size, size=RESAMPLES) @ distinct / array.size
    rows = max(1, DRAWS // array.size)
    parts = [
        array[rng.integers(array.size, size=(min(rows, RESAMPLES - start), array.size))].mean(axis=1)
        for start in range(0, RESAMPLES, rows)
    ]
    return np.concatenate(parts)
