"""One learned weight per source of demonstrations, so that the trainer learns which of them to trust."""

import math
from itertools import accumulate
from typing import Any

from .amft import AMFTPolicy, MetaGradientNormalizer, evidence
from .policy import MixingSignals


def project(weights: list[float], low: float, total: float) -> list[float]:
    """
    The nearest point with every weight at least `low` and a sum of at most `total`.

    Args:
        weights (`list[float]`):
            Any numbers.
        low (`float`):
            Lower bound of each, at most `total` divided by their number.
        total (`float`):
            Upper bound of their sum.

    Returns:
        `list[float]`
    """
    clipped = [max(weight, low) for weight in weights]
    if sum(clipped) <= total:
        return clipped
    # All that stay above the bound lose the same: the most that any number of the largest would have to lose each.
    room = total - low * len(weights)
    above = accumulate(sorted((weight - low for weight in weights), reverse=True))
    loss = max((kept - room) / count for count, kept in enumerate(above, start=1))
    return [max(weight - loss, low) for weight in weights]


class AMFTSourcesPolicy(AMFTPolicy):
    r"""
    Learned μ_s per value of the column `demonstration_source`: L = (1 − Σ μ_s) L_RL + Σ μ_s L_s, each L_s a token mean
    within its source, Σ μ_s ≤ `mu_max` by projection.

    One source has its turn per optimizer step, in rotation over the S sources: g = (1 − Σ μ) g_RL + S μ_s g_s. Over S
    steps that is the gradient of L on average, each step has an exact sensitivity to every weight, and it needs no
    more buffers and passes than with one weight: two gradients, of which one is kept aside. All sources in each step
    would need one gradient-sized buffer per source, because dθ'/dμ_s goes through Adam's denominator, which is known
    only when the last of them has run.

    dθ'/dμ_s comes from the direction S g_s − g_RL for the source that has its turn and −g_RL for the others. Each
    source has its own window, normaliser and evidence, and the law of [`AMFTPolicy`]. A step without a demonstration
    brings no evidence. All start at `mu_init` / S and stay at or above `mu_min` / S; the entropy term is divided
    alike. `amft/mu` is Σ μ_s.

    Source: this project. It needs `meta_gradient="lagged"` and demonstrations that can be indexed.
    """

    per_source = True

    def __init__(self, args):
        super().__init__(args)
        if args.meta_gradient != "lagged":
            raise ValueError(
                f"meta_gradient={args.meta_gradient!r} does not judge single sources: use 'lagged' with "
                "mixing_policy='amft_sources'"
            )
        self.sources: list[str] = []
        self.normalizers: dict[str, MetaGradientNormalizer] = {}

    def begin(self, sources: list[str]) -> None:
        """Told before each step which sources there are; those that are new start at their share."""
        self.sources, share = sources, self.args.mu_init / len(sources)
        # A checkpoint may know sources that are gone.
        self.source_weights = {source: self.source_weights.get(source, share) for source in sources}
        self.normalizers = {source: self.normalizers.get(source) or self._normalizer() for source in sources}

    def _normalizer(self) -> MetaGradientNormalizer:
        args = self.args
        return MetaGradientNormalizer(args.meta_normalization, args.meta_momentum, args.meta_variance_decay)

    def mixture(self, turn: int) -> tuple[tuple[float, float], list[tuple[float, float]]]:
        """
        Coefficients of g_RL and g_SFT, and their derivatives by the weight of the source that has its turn and, if
        there are others, by any of theirs.
        """
        count = len(self.sources)
        directions = [(-1.0, float(count)), (-1.0, 0.0)][: min(count, 2)]
        # Rounding may leave a sum of projected weights above 1.
        explored = max(1.0 - sum(self.source_weights.values()), 0.0)
        return (explored, count * self.source_weights[self.sources[turn]]), directions

    def _total(self) -> float:
        return min(sum(self.source_weights.values()), self.args.mu_max)

    def global_weight(self, signals: MixingSignals) -> float:
        found = signals.meta_gradient or {}
        assert isinstance(found, dict), "one estimate for all sources is for amft"
        numbers = [signals.rl_grad_norm, signals.sft_grad_norm]
        numbers += [] if signals.entropy is None else [signals.entropy]
        numbers += [number for gradient in found.values() for number in (gradient.value, gradient.cosine)]
        if not all(map(math.isfinite, numbers)):
            self.skipped += 1
            return self._total()
        self.updates += bool(found)
        self.skipped += not found
        count = len(self.sources)
        estimates_per_window = max(self.args.meta_window / self.args.meta_estimate_interval, 1.0)
        entropy_step = self.args.mu_entropy_lr * self.measure_entropy(signals) / count
        moved = []
        for source in self.sources:
            step, gradient = 0.0, found.get(source)
            if gradient is not None:
                step = self.normalizers[source](self._dimensionless(gradient, signals.learning_rate))
                if self.args.meta_normalization == "rms":
                    step *= evidence(step, gradient.t_value)
            moved.append(self.source_weights[source] + self.args.mu_lr / estimates_per_window * step + entropy_step)
        projected = project(moved, self.args.mu_min / count, self.args.mu_max)
        self.source_weights = dict(zip(self.sources, projected, strict=True))
        self.mu = self._total()
        return self.mu

    def metrics(self) -> dict[str, float]:
        return super().metrics() | {f"mu/{source}": weight for source, weight in self.source_weights.items()}

    def state(self) -> dict[str, Any]:
        moments = {source: [n.first, n.second, n.count] for source, n in self.normalizers.items()}
        return super().state() | {"source_weights": dict(self.source_weights), "source_moments": moments}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.source_weights = dict(state["source_weights"])
        for source, moments in state["source_moments"].items():
            self.normalizers[source] = normalizer = self._normalizer()
            normalizer.first, normalizer.second, normalizer.count = moments
