"""How good a model is on problems that it was never trained on."""

from .held_out import HeldOutResult, evaluate_held_out


__all__ = ["HeldOutResult", "evaluate_held_out"]
