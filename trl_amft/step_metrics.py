"""What a mixed step writes into the log about its two gradients and about the estimate that moved μ."""

import math

from .meta_window import MetaGradient
from .mixing import MixingPolicy
from .two_segment_step import SegmentProducts


def step_metrics(
    mu: float,
    rl_loss: float,
    products: SegmentProducts,
    estimate: MetaGradient | None,
    learning_rate: float,
    policy: MixingPolicy,
) -> dict[str, float]:
    """
    Args:
        mu (`float`):
            Mixing weight of the step.
        rl_loss (`float`):
            L_RL over all processes.
        products ([`~trl_amft.two_segment_step.SegmentProducts`]):
            Of the two gradients.
        estimate ([`~trl_amft.meta_window.MetaGradient`], *optional*):
            dU/dμ divided by the learning rate, where there is one.
        learning_rate (`float`):
            Of the step.
        policy ([`~trl_amft.mixing.MixingPolicy`]):
            Adds its own.

    Returns:
        `dict[str, float]`: metrics by name, see `docs/metrics.md`.
    """
    rl_part = (1.0 - mu) * products.rl_norm
    metrics = {
        "amft/mu": mu,
        "amft/rl_loss": rl_loss,
        "amft/rl_grad_norm": products.rl_norm,
        "amft/sft_grad_norm": products.sft_norm,
        "amft/grad_cosine": products.cosine,
        "amft/effective_sft_ratio": mu * products.sft_norm / rl_part if rl_part > 0.0 else math.nan,
    }
    if estimate is not None:
        metrics["amft/meta_gradient"] = estimate.value * learning_rate
        metrics["amft/meta_gradient_cosine"] = estimate.cosine
        metrics["amft/meta_gradient_snr"] = estimate.t_value
    return metrics | {f"amft/{name}": value for name, value in policy.metrics().items()}
