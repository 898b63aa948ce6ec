"""Weights from the two gradients of the step and of those before it, without looking at the reward."""

import math
from typing import Any

from .policy import MixingPolicy, MixingSignals, Number


class GradientPolicy(MixingPolicy):
    """Base: the last weight holds where the gradients say nothing; `mu_init` before, `mu_min` and `mu_max` bound."""

    bounded = True

    def __init__(self, args):
        super().__init__(args)
        self.mu = args.mu_init

    def balanced(self, signals: MixingSignals) -> float | None:
        """μ before the bounds; `None` where the gradients say nothing."""
        raise NotImplementedError

    def global_weight(self, signals: MixingSignals) -> float:
        weight = self.balanced(signals)
        if weight is not None and math.isfinite(weight):
            self.mu = min(max(weight, self.args.mu_min), self.args.mu_max)
        return self.mu

    def state(self) -> dict[str, Any]:
        return {"mu": self.mu}

    def load_state(self, state: dict[str, Any]) -> None:
        self.mu = state["mu"]


class GradNormPolicy(GradientPolicy):
    """
    Balanced norms: μ ‖g_SFT‖ = ρ (1 − μ) ‖g_RL‖, hence μ = ρ ‖g_RL‖ / (‖g_SFT‖ + ρ ‖g_RL‖).

    A step whose rollouts carry no signal (‖g_RL‖ = 0) gets the smallest weight, as the formula says.

    Source: the idea of GradNorm (arXiv 1711.02257) for two losses. Deviations: balanced exactly in each step instead
    of by a loss on the weights; no training rates. The baseline with the fewest settings.

    `mixing_policy_kwargs`:
        ratio (`float`, *optional*, defaults to `1.0`):
            ρ ≥ 0: how much longer the imitating part shall be than the exploring one.
    """

    keywords = {"ratio": Number(1.0, 0.0)}

    def balanced(self, signals: MixingSignals) -> float | None:
        rl = self.options["ratio"] * signals.rl_grad_norm
        total = signals.sft_grad_norm + rl
        return rl / total if total > 0.0 else None


class VariancePolicy(GradientPolicy):
    """
    The mixture with the smallest mean squared error as an estimate of E g_RL: μ* = σ_R² / (σ_R² + σ_S² + Δ²), with
    σ² the variances of the two gradients and Δ² = ‖E g_SFT − E g_RL‖².

    μ* minimises (1 − μ)² σ_R² + μ² (σ_S² + Δ²), for independent noise. See
    [`~trl_amft.gradient_moments.GradientMoments`] for the estimates.

    Source: GAC (arXiv 2605.26184). The formula is inferred from its abstract and derived as above; its code was not
    available. Deviations: variances of the gradients themselves, from count sketches of this and earlier steps,
    instead of proxies from tensors of the step; no schedule as a prior, no cap on changes, no token weights.

    `mixing_policy_kwargs`:
        decay (`float`, *optional*, defaults to `0.9`):
            β in [.01, 1) of the running averages.
    """

    keywords = {"decay": Number(0.9, 0.01, 1.0 - 1e-6)}
    needs_variances = True

    def balanced(self, signals: MixingSignals) -> float | None:
        found = signals.variances
        if found is None:
            return None
        total = found.rl + found.sft + found.disagreement
        return found.rl / total if total > 0.0 else None
