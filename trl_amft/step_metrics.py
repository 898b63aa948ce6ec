"""What a mixed step writes into the log about its two gradients and about the estimate that moved μ."""

import math

from .meta_window import MetaGradient
from .two_segment_step import SegmentProducts


def step_metrics(
    mu: float,
    sft_weight: float,
    rl_loss: float,
    products: SegmentProducts,
    estimate: MetaGradient | dict[str, MetaGradient] | None,
    learning_rate: float,
) -> dict[str, float]:
    """
    Args:
        mu (`float`):
            Mixing weight of the step.
        sft_weight (`float`):
            Coefficient of g_SFT; μ, unless sources have turns.
        rl_loss (`float`):
            L_RL over all processes.
        products ([`~trl_amft.two_segment_step.SegmentProducts`]):
            Of the two gradients.
        estimate ([`~trl_amft.meta_window.MetaGradient`], *optional*):
            dU/dμ divided by the learning rate, where there is one; by source where each has a weight of its own.
        learning_rate (`float`):
            Of the step.

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
        "amft/effective_sft_ratio": sft_weight * products.sft_norm / rl_part if rl_part > 0.0 else math.nan,
    }
    by_source = estimate if isinstance(estimate, dict) else {"": estimate}
    for source, found in by_source.items():
        if found is not None:
            ending = f"/{source}" if source else ""
            metrics[f"amft/meta_gradient{ending}"] = found.value * learning_rate
            metrics[f"amft/meta_gradient_cosine{ending}"] = found.cosine
            metrics[f"amft/meta_gradient_snr{ending}"] = found.t_value
    return metrics
