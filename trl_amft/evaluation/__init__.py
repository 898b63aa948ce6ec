"""How good a model is on problems that it was never trained on."""

from .estimators import Estimate, interval, majority, paired_difference, pass_at_k
from .held_out import HeldOutResult, evaluate_held_out


__all__ = [
    "Estimate",
    "HeldOutResult",
    "evaluate_held_out",
    "interval",
    "majority",
    "paired_difference",
    "pass_at_k",
]
