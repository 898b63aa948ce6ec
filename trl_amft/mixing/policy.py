"""What a mixing policy sees and what it must answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..meta_window import MetaGradient


if TYPE_CHECKING:
    from ..amft_config import AMFTConfig


@dataclass(frozen=True)
class MixingSignals:
    """
    What is known about a step when its weight is decided. All numbers are detached and equal on every rank.

    Args:
        step (`int`):
            Optimizer steps already taken.
        entropy (`float`, *optional*):
            Token-mean entropy of the policy on the step's rollouts, in nats; `None` without rollouts.
        meta_gradient ([`~trl_amft.meta_window.MetaGradient`], *optional*):
            Estimate of dU/dμ; `None` where the step brings no evidence.
        learning_rate (`float`, *optional*, defaults to `0.0`):
            Learning rate of the step.
        rl_grad_norm (`float`, *optional*, defaults to `0.0`):
            ‖g_RL‖.
        sft_grad_norm (`float`, *optional*, defaults to `0.0`):
            ‖g_SFT‖.
    """

    step: int
    entropy: float | None = None
    meta_gradient: MetaGradient | None = None
    learning_rate: float = 0.0
    rl_grad_norm: float = 0.0
    sft_grad_norm: float = 0.0


class MixingPolicy:
    """
    Decides μ, the weight of imitation: L = (1 − μ) L_RL + μ L_SFT.

    A policy that knows its weight before the step answers [`~MixingPolicy.known_weight`]; the trainer then leaves out
    the segment of weight 0. Any other policy is asked for [`~MixingPolicy.global_weight`] once both gradients are
    there. `keywords` names the entries of `mixing_policy_kwargs` that the policy takes.
    """

    keywords: tuple[str, ...] = ()
    needs_meta_gradient = False

    def __init__(self, args: AMFTConfig):
        self.args = args

    def known_weight(self, step: int) -> float | None:
        """μ of optimizer step `step` (0-based) if it depends on nothing else, otherwise `None`."""
        return None

    def global_weight(self, signals: MixingSignals) -> float:
        """μ in [0, 1] of the step that the signals describe. Called once per optimizer step, on every rank."""
        raise TypeError(f"{type(self).__name__} must define known_weight or global_weight")

    def metrics(self) -> dict[str, float]:
        """Further numbers to log, by name without the `amft/` prefix."""
        return {}

    def state(self) -> dict[str, Any]:
        """Plain JSON state for the checkpoint."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what [`~MixingPolicy.state`] returned."""
