"""
How much a demonstration counts in L_SFT: the column `demonstration_weight`, and the advantage-weighted form of it.

L_SFT is then Σ w_i Σ_t nll_it / Σ w_i T_i over the rows of a step on all processes: equal weights are plain supervised
fine-tuning, and a row of weight 0 is left out before training begins.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any


WEIGHT = "demonstration_weight"


def weight_of(row: dict[str, Any]) -> float:
    """
    Args:
        row (`dict[str, Any]`):
            A demonstration, with or without the column.

    Returns:
        `float`: at least 0; 1 without the column.

    Raises:
        `ValueError`: for anything else than a finite number from 0 on.
    """
    weight = row.get(WEIGHT, 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0.0 <= weight < math.inf:
        raise ValueError(
            f"a demonstration has {WEIGHT}={weight!r}: give a number from 0 on to every row, or leave the column out"
        )
    return float(weight)


def advantage_weights(rewards: Sequence[float], temperature: float, largest: float) -> list[float]:
    r"""
    Weights of advantage-weighted regression: w = min(exp((R − b) / τ), w_max), with b the mean of the rewards.

    Args:
        rewards (`Sequence[float]`):
            R, one per demonstration.
        temperature (`float`):
            τ > 0, in the unit of the rewards. The larger, the more alike are the weights.
        largest (`float`):
            w_max > 0.

    Returns:
        `list[float]`: in (0, w_max], rounded to six decimals.
    """
    baseline = statistics.fmean(rewards) if rewards else 0.0
    limit = math.log(largest)
    return [round(math.exp(min((reward - baseline) / temperature, limit)), 6) for reward in rewards]
