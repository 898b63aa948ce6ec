"""The closed form of dθ'/dμ against central finite differences through torch's own AdamW and clipping."""

import pytest
import torch

from trl_amft.meta_gradient import adamw_sensitivity, clipping


SHAPES = [(7, 5), (11,), (3, 2, 4)]
LRS = [1e-3, 3e-4, 1e-3]
BETAS = [(0.9, 0.999), (0.8, 0.99), (0.9, 0.95)]
EPS = [1e-8, 1e-8, 1e-6]


def draw(scale: float, generator: torch.Generator) -> list[torch.Tensor]:
    return [scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def step_through_torch(parameters, grads, exp_avg, exp_avg_sq, step, max_grad_norm):
    """θ' of one real optimizer step from the given state."""
    tensors = [torch.nn.Parameter(p.clone()) for p in parameters]
    groups = [
        {"params": [p], "lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.1}
        for p, lr, betas, eps in zip(tensors, LRS, BETAS, EPS, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups)
    for p, grad, m, v in zip(tensors, grads, exp_avg, exp_avg_sq, strict=True):
        p.grad = grad.clone()
        optimizer.state[p] = {"step": torch.tensor(float(step)), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    if max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(tensors, max_grad_norm)
    optimizer.step()
    return [p.detach() for p in tensors]


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("clip_share", [None, 0.3, 3.0], ids=["off", "active", "inactive"])
@pytest.mark.parametrize("step", [1, 2, 10, 1000])
def test_sensitivity_equals_finite_differences(scale, clip_share, step):
    generator = torch.Generator().manual_seed(step)
    parameters, rl, sft = draw(1.0, generator), draw(scale, generator), draw(scale, generator)
    exp_avg = draw(0.5 * scale, generator)
    exp_avg_sq = [t.square() + 1e-3 * scale**2 for t in draw(scale, generator)]
    mu = 0.35
    mixed = [(1 - mu) * r + mu * s for r, s in zip(rl, sft, strict=True)]
    norm = torch.stack([g.norm() for g in mixed]).norm().item()
    max_grad_norm = None if clip_share is None else clip_share * norm

    result, sensitivity = adamw_sensitivity(rl, sft, mu, exp_avg, exp_avg_sq, step, LRS, BETAS, EPS, max_grad_norm)

    def theta(weight):
        grads = [(1 - weight) * r + weight * s for r, s in zip(rl, sft, strict=True)]
        return step_through_torch(parameters, grads, exp_avg, exp_avg_sq, step, max_grad_norm)

    h = 1e-5
    numeric = [(a - b) / (2 * h) for a, b in zip(theta(mu + h), theta(mu - h), strict=True)]
    error = sum((a - b).square().sum() for a, b in zip(sensitivity, numeric, strict=True)).sqrt()
    size = sum(b.square().sum() for b in numeric).sqrt()
    assert error / size <= 1e-6
    for a, b in zip(result, mixed, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)


def test_no_gradient_and_no_moment_means_no_sensitivity():
    zero, one = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    _, (sensitivity,) = adamw_sensitivity([zero], [zero], 0.5, [zero], [zero], 4, 1e-3, (0.9, 0.999), 1e-8, 1.0)
    assert sensitivity.tolist() == [0.0, 0.0, 0.0]
    _, (sensitivity,) = adamw_sensitivity([one], [zero], 0.5, [zero], [one], 4, 1e-3, (0.9, 0.999), 1e-8, 1.0)
    assert (sensitivity != 0.0).all()


def test_the_first_step_is_refused():
    zero = [torch.zeros(2)]
    with pytest.raises(ValueError, match="step must be at least 1"):
        adamw_sensitivity(zero, zero, 0.5, zero, zero, 0, 1e-3, (0.9, 0.999), 1e-8, 1.0)


def test_clipping_threshold_is_that_of_torch():
    # Active iff c < n + 1e-6: a norm just below the threshold is already scaled.
    assert clipping(norm=1.0 - 5e-7, inner=0.3, max_grad_norm=1.0).scale < 1.0
    assert clipping(norm=1.0 - 2e-6, inner=0.3, max_grad_norm=1.0).scale == 1.0
    assert clipping(norm=5.0, inner=0.3, max_grad_norm=0.0).scale == 1.0
    active = clipping(norm=2.0, inner=3.0, max_grad_norm=1.0)
    assert active.scale == pytest.approx(1.0 / (2.0 + 1e-6), rel=1e-12)
    assert active.shrink == pytest.approx(3.0 / (2.0 * (2.0 + 1e-6) ** 2), rel=1e-12)
