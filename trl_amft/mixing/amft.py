"""
The learned weight: μ ← clip(μ + η_μ · ĝ_μ + η_H · (H* − H), μ_min, μ_max).

ĝ_μ is dU/dμ made dimensionless, because the raw value is proportional to learning rate and gradient scale and means
nothing across models, and weighed by its evidence, because most single estimates are noise.
"""

import math
from typing import Any

from .policy import MixingPolicy, MixingSignals


def next_weight(
    mu: float,
    meta_gradient: float,
    entropy_gap: float,
    mu_lr: float,
    entropy_lr: float,
    mu_min: float,
    mu_max: float,
) -> float:
    """
    The law of μ (AMFT, arXiv 2508.06944, its update rule; normalisation is this project's).

    Args:
        mu (`float`):
            μ before the update.
        meta_gradient (`float`):
            ĝ_μ, the normalised dU/dμ; 0 where there is no evidence.
        entropy_gap (`float`):
            H* − H in nats: positive where the policy's entropy is below its target, which asks for more imitation.
        mu_lr (`float`):
            η_μ, the change of μ at ĝ_μ = 1.
        entropy_lr (`float`):
            η_H, the change of μ per nat.
        mu_min (`float`):
            Lower bound.
        mu_max (`float`):
            Upper bound.

    Returns:
        `float`: μ after the update, in [`mu_min`, `mu_max`].
    """
    return min(max(mu + mu_lr * meta_gradient + entropy_lr * entropy_gap, mu_min), mu_max)


def evidence(value: float, t_value: float) -> float:
    """
    How far an estimate may be trusted: 0 while its sign is not that of the last windows together, 1 from two standard
    errors on, in between their number over two.

    Without it every window moves μ at full speed in the direction of its noise, because the noise is what the running
    root mean square consists of.

    Args:
        value (`float`):
            Estimate of dU/dμ over the last window, or with `meta_momentum` the running mean of such estimates.
        t_value (`float`):
            Mean over the last windows over its jackknife standard error; NaN, which is no evidence, before there are
            enough windows.

    Returns:
        `float`: in [0, 1].
    """
    agreement = math.copysign(t_value, t_value * value)
    return min(max(agreement / 2.0, 0.0), 1.0) if math.isfinite(t_value) else 0.0


class MetaGradientNormalizer:
    """
    Running first and second moment of a scalar, both bias-corrected, as Adam keeps them for one parameter.

    Args:
        normalization (`str`):
            `"rms"`: first moment over root of second moment, clipped to [−1, 1]. `"cosine"` and `"none"`: the first
            moment of what is given.
        momentum (`float`):
            Decay of the first moment, in [0, 1).
        variance_decay (`float`):
            Decay of the second moment, in [0, 1).
    """

    def __init__(self, normalization: str, momentum: float, variance_decay: float):
        self.normalization = normalization
        self.momentum = momentum
        self.variance_decay = variance_decay
        self.first = 0.0
        self.second = 0.0
        self.count = 0

    def __call__(self, value: float) -> float:
        """Take in one value, return ĝ_μ."""
        self.count += 1
        self.first = self.momentum * self.first + (1.0 - self.momentum) * value
        self.second = self.variance_decay * self.second + (1.0 - self.variance_decay) * value * value
        mean = self.first / (1.0 - self.momentum**self.count)
        if self.normalization != "rms":
            return mean
        root = math.sqrt(self.second / (1.0 - self.variance_decay**self.count))
        return min(max(mean / root, -1.0), 1.0) if root > 0.0 else 0.0


class AMFTPolicy(MixingPolicy):
    """
    Learned μ, see [`next_weight`] for the law and `docs/method.md` for ĝ_μ. Source: AMFT (arXiv 2508.06944,
    withdrawn); the estimate of dU/dμ, its normalisation and its evidence are this project's.

    Reads `mu_init`, `mu_min`, `mu_max`, `mu_lr`, `mu_entropy_lr`, `mu_entropy_target`,
    `meta_normalization`, `meta_momentum`, `meta_variance_decay` and `meta_window` of [`AMFTConfig`].

    A step without evidence (no advantage, first optimizer steps, a window that is not filled) leaves the running
    moments and the η_μ term alone; the entropy term still acts. A non-finite number skips the whole update.
    """

    bounded = True
    needs_meta_gradient = True

    def __init__(self, args):
        super().__init__(args)
        self.mu = args.mu_init
        self.entropy_target = args.mu_entropy_target
        self.normalizer = MetaGradientNormalizer(args.meta_normalization, args.meta_momentum, args.meta_variance_decay)
        self.updates = 0
        self.skipped = 0
        self._entropy_gap = 0.0

    def global_weight(self, signals: MixingSignals) -> float:
        gradient = signals.meta_gradient
        assert not isinstance(gradient, dict), "estimates by source are for amft_sources"
        numbers = [signals.rl_grad_norm, signals.sft_grad_norm]
        numbers += [] if signals.entropy is None else [signals.entropy]
        numbers += [] if gradient is None else [gradient.value, gradient.cosine]
        if not all(map(math.isfinite, numbers)):
            self.skipped += 1
            return self.mu
        entropy_gap = self.measure_entropy(signals)
        normalized = 0.0
        if gradient is None:
            self.skipped += 1
        else:
            self.updates += 1
            normalized = self.normalizer(self._dimensionless(gradient, signals.learning_rate))
            if self.args.meta_normalization == "rms":
                normalized *= evidence(normalized, gradient.t_value)
        # μ_lr is the largest move per window of W steps, however many estimates fall into it.
        estimates_per_window = max(self.args.meta_window / self.args.meta_estimate_interval, 1.0)
        self.mu = next_weight(
            self.mu,
            normalized,
            entropy_gap,
            self.args.mu_lr / estimates_per_window,
            self.args.mu_entropy_lr,
            self.args.mu_min,
            self.args.mu_max,
        )
        return self.mu

    def measure_entropy(self, signals: MixingSignals) -> float:
        """H* − H in nats, 0 in a step without rollouts. The first H that is seen becomes H*, where none is given."""
        if signals.entropy is None:
            return 0.0
        if self.entropy_target is None:
            self.entropy_target = signals.entropy
        self._entropy_gap = self.entropy_target - signals.entropy
        return self._entropy_gap

    def _dimensionless(self, gradient, learning_rate: float) -> float:
        match self.args.meta_normalization:
            case "cosine":
                return gradient.cosine
            case "none":
                return gradient.value * learning_rate
            case _:
                return gradient.value

    def metrics(self) -> dict[str, float]:
        return {
            "entropy_gap": self._entropy_gap,
            "meta_updates": float(self.updates),
            "skipped_updates": float(self.skipped),
            "at_bound": float(self.mu in (self.args.mu_min, self.args.mu_max)),
        }

    def state(self) -> dict[str, Any]:
        return {
            "mu": self.mu,
            "entropy_target": self.entropy_target,
            "entropy_gap": self._entropy_gap,
            "first_moment": self.normalizer.first,
            "second_moment": self.normalizer.second,
            "moment_count": self.normalizer.count,
            "updates": self.updates,
            "skipped": self.skipped,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.mu = state["mu"]
        self.entropy_target = state["entropy_target"]
        self._entropy_gap = state["entropy_gap"]
        self.normalizer.first = state["first_moment"]
        self.normalizer.second = state["second_moment"]
        self.normalizer.count = state["moment_count"]
        self.updates = state["updates"]
        self.skipped = state["skipped"]
