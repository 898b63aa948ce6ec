"""
How the parameters after a step depend on the mixing weight of that step: dθ'/dμ.

With g = (1 − μ) g_RL + μ g_SFT, d = g_SFT − g_RL, clipping by global norm and AdamW, dθ'/dμ has a closed form that is
elementwise but for two scalars, ‖g‖ and ⟨g, d⟩. Its scalar product with the gradient of the utility is the
meta-gradient dU/dμ. Pure functions on tensors: nothing here knows trainers, processes or shards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


# `torch.nn.utils.clip_grad_norm_` and DeepSpeed both divide by norm + 1e-6.
CLIP_EPSILON = 1e-6


@dataclass(frozen=True)
class Clipping:
    """
    Global-norm clipping and its derivative, as two scalars: ĝ = `scale` · g and dĝ/dμ = `scale` · d − `shrink` · g.

    Args:
        scale (`float`):
            Factor on the gradient, in (0, 1].
        shrink (`float`):
            Factor on g in the derivative; 0 where clipping is inactive.
    """

    scale: float
    shrink: float


def clipping(norm: float, inner: float, max_grad_norm: float | None) -> Clipping:
    """
    Clipping of a gradient of norm `norm`, as `torch.nn.utils.clip_grad_norm_` does it.

    Active iff c < n + δ with c = `max_grad_norm`, n = ‖g‖, δ = 1e-6; then ĝ = c g / (n + δ) and
    dĝ/dμ = c/(n + δ) · d − c · g ⟨g, d⟩ / (n (n + δ)²).

    Args:
        norm (`float`):
            ‖g‖ over all parameters and ranks.
        inner (`float`):
            ⟨g, d⟩ over all parameters and ranks.
        max_grad_norm (`float`, *optional*):
            Threshold c. `None` or 0 means no clipping, as in `TrainingArguments.max_grad_norm`.

    Returns:
        [`Clipping`]
    """
    if not max_grad_norm or max_grad_norm >= norm + CLIP_EPSILON:
        return Clipping(scale=1.0, shrink=0.0)
    padded = norm + CLIP_EPSILON
    shrink = max_grad_norm * inner / (norm * padded**2) if norm > 0.0 else 0.0
    return Clipping(scale=max_grad_norm / padded, shrink=shrink)


def adamw_slope(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> Tensor:
    """
    Derivative of one AdamW update with respect to its gradient, elementwise.

    With k = `step` + 1, m_k = β1 m + (1 − β1) ĝ, v_k = β2 v + (1 − β2) ĝ², bias-corrected to m̂ and v̂, s = √v̂:
    dθ'/dĝ = −α [ (1−β1)/(1−β1^k) / (s+ε) − m̂ · (1−β2)/(1−β2^k) · ĝ / (s (s+ε)²) ]. Decoupled weight decay
    drops out. Where v̂ = 0 the result is 0.

    Args:
        grad (`torch.Tensor` of any shape):
            ĝ, the clipped gradient of the step.
        exp_avg (`torch.Tensor`, same shape):
            First moment m *before* the step.
        exp_avg_sq (`torch.Tensor`, same shape):
            Second moment v *before* the step.
        step (`int`):
            Optimizer steps already taken, ≥ 0.
        lr (`float`):
            Learning rate α of the step.
        betas (`tuple[float, float]`):
            (β1, β2).
        eps (`float`):
            ε.

    Returns:
        `torch.Tensor`: dθ'/dĝ, same shape. Times dĝ/dμ it is dθ'/dμ.
    """
    beta1, beta2 = betas
    first_correction, second_correction = 1.0 - beta1 ** (step + 1), 1.0 - beta2 ** (step + 1)
    first, second = (1.0 - beta1) / first_correction, (1.0 - beta2) / second_correction
    slope = torch.mul(exp_avg, beta1 / first_correction).add_(grad, alpha=first)
    root = torch.mul(exp_avg_sq, beta2 / second_correction).addcmul_(grad, grad, value=second).sqrt_()
    padded = root + eps
    # A factor and not `torch.where`, which costs as much as six other passes on a CPU.
    moved = root.sign()
    root.clamp_(min=torch.finfo(root.dtype).tiny)
    slope.mul_(grad).div_(root).div_(padded).mul_(lr * second).sub_(lr * first)
    return slope.div_(padded).mul_(moved)


def adamw_sensitivity(
    rl_grad: Sequence[Tensor],
    sft_grad: Sequence[Tensor],
    mu: float,
    exp_avg: Sequence[Tensor],
    exp_avg_sq: Sequence[Tensor],
    step: int,
    lr: float | Sequence[float],
    betas: tuple[float, float] | Sequence[tuple[float, float]],
    eps: float | Sequence[float],
    max_grad_norm: float | None,
) -> tuple[list[Tensor], list[Tensor]]:
    """
    Mixed gradient and sensitivity of the parameters to the mixing weight, for a whole model.

    Args:
        rl_grad (`Sequence[torch.Tensor]`):
            g_RL, one tensor per parameter, after averaging over ranks and accumulation.
        sft_grad (`Sequence[torch.Tensor]`):
            g_SFT, same shapes.
        mu (`float`):
            Mixing weight μ in [0, 1].
        exp_avg (`Sequence[torch.Tensor]`):
            Adam's first moments as they were before the step.
        exp_avg_sq (`Sequence[torch.Tensor]`):
            Adam's second moments as they were before the step.
        step (`int`):
            Optimizer steps already taken, ≥ 1. (The update from empty moments has the form of a sign; its derivative
            carries no information.)
        lr (`float` or `Sequence[float]`):
            Learning rate, one for all or one per tensor.
        betas (`tuple[float, float]` or a sequence of them):
            Adam's decay rates, one pair for all or one per tensor.
        eps (`float` or `Sequence[float]`):
            Adam's ε, one for all or one per tensor.
        max_grad_norm (`float`, *optional*):
            Clipping threshold, as in `torch.nn.utils.clip_grad_norm_`; `None` switches clipping off.

    Returns:
        `tuple[list[torch.Tensor], list[torch.Tensor]]`: g before clipping, and dθ'/dμ.

    Raises:
        `ValueError`: if `step` is less than 1.
    """
    if step < 1:
        raise ValueError(
            f"step must be at least 1 (Adam's first update is a sign, its derivative is void), got {step}"
        )
    count = len(rl_grad)
    lrs = [lr] * count if isinstance(lr, (int, float)) else list(lr)
    epss = [eps] * count if isinstance(eps, (int, float)) else list(eps)
    pairs = [betas] * count if isinstance(betas[0], (int, float)) else list(betas)

    mixed = [torch.lerp(r, s, mu) for r, s in zip(rl_grad, sft_grad, strict=True)]
    differences = [s - r for r, s in zip(rl_grad, sft_grad, strict=True)]
    zero = torch.zeros((), dtype=torch.float64)
    norm = sum((g.square().sum().double() for g in mixed), start=zero).sqrt().item()
    products = ((g * d).sum().double() for g, d in zip(mixed, differences, strict=True))
    inner = sum(products, start=zero).item()
    clip = clipping(norm, inner, max_grad_norm)
    sensitivity = [
        (clip.scale * d - clip.shrink * g) * adamw_slope(clip.scale * g, m, v, step, *hyperparameters)
        for g, d, m, v, *hyperparameters in zip(mixed, differences, exp_avg, exp_avg_sq, lrs, pairs, epss, strict=True)
    ]
    return mixed, sensitivity
