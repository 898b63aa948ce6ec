"""The ranges of numbers in [`AMFTConfig`], each with the one line that a value outside is answered with."""

import math
from typing import TYPE_CHECKING, NamedTuple


if TYPE_CHECKING:
    from .amft_config import AMFTConfig


class Range(NamedTuple):
    """Lowest and highest value, whether the highest itself is allowed, and whether the value is a whole number."""

    low: float
    high: float = math.inf
    closed: bool = False
    whole: bool = False


UNIT, HALF_OPEN, NOT_NEGATIVE = Range(0.0, 1.0, closed=True), Range(0.0, 1.0), Range(0.0)
COUNT = Range(1, whole=True)

RANGES = {
    "mu_init": UNIT,
    "mu_min": UNIT,
    "mu_max": UNIT,
    "mu_lr": NOT_NEGATIVE,
    "mu_entropy_lr": NOT_NEGATIVE,
    "mu_entropy_target": NOT_NEGATIVE,
    "meta_interval": COUNT,
    "meta_batch_size": COUNT,
    "meta_momentum": HALF_OPEN,
    "meta_variance_decay": HALF_OPEN,
    "meta_window": COUNT,
    "meta_trace_decay": UNIT,
    "sft_warmup_steps": Range(0, whole=True),
    "per_device_demonstration_batch_size": COUNT,
    "max_demonstration_length": COUNT,
    "demonstration_min_reward": Range(-math.inf, closed=True),
}


def check_ranges(args: "AMFTConfig") -> None:
    """
    Args:
        args ([`AMFTConfig`]):
            Configuration. A field whose default is `None` may be `None`.

    Raises:
        `ValueError`: in one line for the first number out of its range, or what is no number.
    """
    for name, (low, high, closed, whole) in RANGES.items():
        value = getattr(args, name)
        if value is None and args.__dataclass_fields__[name].default is None:
            continue
        kind = "an integer" if whole else "a number"
        bounds = f"[{low:g}, {high:g}{']' if closed else ')'}"
        if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool):
            raise ValueError(f"{name}={value!r} is not {kind}: give one in {bounds}")
        if not (low <= value <= high) or (value == high and not closed):
            raise ValueError(f"{name}={value!r} is out of range: give {kind} in {bounds}")
