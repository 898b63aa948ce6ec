"""
How noisy the two gradients are and how far they disagree, from running averages of their sketches.

The squared length of an average still holds the noise that is left in it, so both numbers are freed from that part.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GradientVariances:
    """
    Args:
        rl (`float`):
            σ_R²: E‖g_RL − E g_RL‖², over all parameters.
        sft (`float`):
            σ_S²: the same of g_SFT.
        disagreement (`float`):
            Δ²: ‖E g_SFT − E g_RL‖², at least 0.
    """

    rl: float
    sft: float
    disagreement: float


class GradientMoments:
    r"""
    Exponentially weighted first and second moments of both gradients.

    With normalised weights w_i ∝ β^{t−i} and c = Σ w_i²: ḡ = Σ w_i g_i, σ² = (Σ w_i ‖g_i‖² − ‖ḡ‖²) / (1 − c), and
    Δ² = ‖ḡ_S − ḡ_R‖² − c (σ_R² + σ_S²). Both are unbiased for independent gradients with a constant mean.

    Args:
        decay (`float`):
            β in (0, 1).
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._means: Tensor | None = None
        # Σ w ‖g‖² of both, Σ w and Σ w², none of them normalised.
        self._sums = torch.zeros(4, dtype=torch.float64)

    def add(self, rl: Tensor, sft: Tensor) -> GradientVariances | None:
        """
        Take in the gradients of a step.

        Args:
            rl (`torch.Tensor` of shape (k,)):
                Sketch of g_RL.
            sft (`torch.Tensor` of shape (k,)):
                Sketch of g_SFT.

        Returns:
            [`GradientVariances`], *optional*: `None` before the second step. A gradient that is not finite is left
            out.
        """
        sketches = torch.stack([rl, sft])
        squares = sketches.square().sum(dim=1).double().cpu()
        if squares.isfinite().all():
            new, old = 1.0 - self.decay, self.decay
            if self._means is None:
                self._means = torch.zeros_like(sketches)
            self._means.mul_(old).add_(sketches, alpha=new)
            self._sums[:2] = old * self._sums[:2] + new * squares
            self._sums[2] = old * self._sums[2] + new
            self._sums[3] = old**2 * self._sums[3] + new**2
        return self.estimate()

    def estimate(self) -> GradientVariances | None:
        """The estimate from what was seen so far; `None` before the second step."""
        total, share = self._sums[2].item(), 1.0
        if total > 0.0:
            share = self._sums[3].item() / total**2
        if self._means is None or share > 1.0 - 1e-9:
            return None
        squared_means = self._means.square().sum(dim=1).double().cpu() / total**2
        rl, sft = ((self._sums[:2] / total - squared_means) / (1.0 - share)).clamp(min=0.0).tolist()
        gap = (self._means[1] - self._means[0]).square().sum().item() / total**2
        return GradientVariances(rl=rl, sft=sft, disagreement=max(gap - share * (rl + sft), 0.0))

    def state_dict(self) -> dict[str, Tensor]:
        """Everything as tensors, for a checkpoint."""
        state = {"sums": self._sums.clone()}
        if self._means is not None:
            state["means"] = self._means.detach().cpu().clone()
        return state

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device | str | None = None) -> None:
        """
        Restore from [`~GradientMoments.state_dict`].

        Raises:
            `ValueError`: if the state is of another kind of policy.
        """
        if "sums" not in state:
            raise ValueError("the checkpoint holds no gradient moments but another kind of evidence")
        self._sums = state["sums"].clone()
        self._means = state["means"].to(device, copy=True) if "means" in state else None
