"""The windowed estimate: which pairs enter it, what they weigh, and whether its standard error is honest."""

import math

import pytest
import torch

from trl_amft.meta_window import MIN_WINDOWS, MetaGradientWindow


def feed(window, sensitivities, utilities):
    """Utility of step t is seen before the sensitivity of step t, as in training. Returns all estimates."""
    estimates = []
    for step, (q, g) in enumerate(zip(sensitivities, utilities, strict=True)):
        estimates.append(window.add_utility(step, g, g.norm().item()) if g is not None else None)
        if q is not None:
            window.add_sensitivity(step, q, q.norm().item())
    return estimates


def draws(count, size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator) for _ in range(count)]


def test_one_step_form():
    q, g = draws(5), draws(5, seed=1)
    estimates = feed(MetaGradientWindow(1), q, g)
    assert estimates[0] is None
    for t in range(1, 5):
        assert estimates[t].value == pytest.approx(-g[t].dot(q[t - 1]).item(), rel=1e-5)
        cosine = -torch.nn.functional.cosine_similarity(g[t], q[t - 1], dim=0).item()
        assert estimates[t].cosine == pytest.approx(cosine, rel=1e-5)


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.0])
def test_mean_over_all_ordered_pairs_of_the_window(decay):
    q, g = draws(12), draws(12, seed=1)
    estimates = feed(MetaGradientWindow(3, trace_decay=decay), q, g)
    for t in range(5, 12):
        pairs = [(i, j) for j in range(t - 5, t + 1) for i in range(t - 5, j)]
        assert len(pairs) == 15
        weights = [decay ** (j - i - 1) for i, j in pairs]
        products = [-g[j].dot(q[i]).item() for i, j in pairs]
        expected = sum(w * p for w, p in zip(weights, products, strict=True)) / sum(weights)
        assert estimates[t].value == pytest.approx(expected, rel=1e-4)


def test_pairs_equal_the_product_of_averages_without_the_diagonal():
    q, g = draws(4), draws(4, seed=1)
    early, late = torch.stack(q[:2]).mean(0), torch.stack(g[2:]).mean(0)
    window = MetaGradientWindow(2)
    feed(window, q, g)
    pairs = [window._products[j % window.history, j - i - 1].item() for i in (0, 1) for j in (2, 3)]
    assert sum(pairs) / 4 == pytest.approx(-early.dot(late).item(), rel=1e-4)


def test_no_estimate_before_half_of_the_pairs():
    q, g = draws(12), draws(12, seed=1)
    estimates = feed(MetaGradientWindow(3), q, g)
    assert [e is None for e in estimates[:5]] == [True, True, True, True, False]


def test_steps_without_signal_or_sensitivity_leave_gaps():
    q, g = draws(8), draws(8, seed=1)
    g[3], q[4] = None, None
    estimates = feed(MetaGradientWindow(1), q, g)
    assert estimates[3] is None and estimates[5] is None
    assert estimates[6].value == pytest.approx(-g[6].dot(q[5]).item(), rel=1e-5)


def test_non_finite_factors_never_enter():
    window = MetaGradientWindow(1)
    q, g = draws(4), draws(4, seed=1)
    q[1] = q[1] * math.nan
    g[3] = g[3] * math.inf
    estimates = feed(window, q, g)
    assert estimates[2] is None and estimates[3] is None
    assert window.add_utility(4, g[0], g[0].norm().item()) is not None


def test_validation_interval():
    """Utility gradients every fourth step, taken after the step, judge that step and the ones before it."""
    window = MetaGradientWindow(1, interval=4)
    q, g = draws(8), draws(8, seed=1)
    for step in range(8):
        window.add_sensitivity(step, q[step], q[step].norm().item())
        if step % 4 == 3:
            estimate = window.add_utility(step + 1, g[step], g[step].norm().item())
            assert estimate.value == pytest.approx(-g[step].dot(q[step]).item(), rel=1e-5)


def test_t_value_is_nan_before_four_windows():
    q, g = draws(30), draws(30, seed=1)
    estimates = feed(MetaGradientWindow(5), q, g)
    assert all(math.isnan(e.t_value) for e in estimates[: 5 * (MIN_WINDOWS - 1)] if e is not None)
    assert not math.isnan(estimates[-1].t_value)


def test_t_value_by_hand():
    """Every window left out in turn, with all pairs that touch it."""
    q, g = draws(30), draws(30, seed=1)
    estimates = feed(MetaGradientWindow(3), q, g)
    for step in (14, 20, 29):
        pairs = [(i, j) for j in range(step + 1) for i in range(max(j - 5, 0), j) if i > step - 24]
        products = {(i, j): -g[j].double().dot(q[i].double()).item() for i, j in pairs}
        windows = sorted({(step - s) // 3 for pair in pairs for s in pair})
        left = [[p for pair, p in products.items() if k not in [(step - s) // 3 for s in pair]] for k in windows]
        means = torch.tensor([sum(part) / len(part) for part in left], dtype=torch.float64)
        count, mean = len(windows), sum(products.values()) / len(products)
        error = ((count - 1) / count * (means - means.mean()).square().sum()).sqrt().item()
        assert estimates[step].t_value == pytest.approx(mean / error, rel=1e-4)


def test_standard_error_is_honest_without_signal():
    """
    Independent noise in both factors, true value 0: about 5 % of |t| may exceed the 97.5 % quantile of Student with
    seven degrees of freedom. A standard error that took the overlapping products for independent fails by far.
    """
    exceed, count = 0, 400
    for seed in range(count):
        window = MetaGradientWindow(4)
        estimates = feed(window, draws(32, size=30, seed=2 * seed), draws(32, size=30, seed=2 * seed + 1))
        exceed += abs(estimates[-1].t_value) > 2.365
    assert exceed / count < 0.12


def test_averaging_both_factors_raises_the_signal_to_noise():
    """Signal of the shape measured on language models: strong noise in both factors, a common direction."""
    direction = torch.ones(400) / 20

    def snr(width):
        values = []
        for seed in range(60):
            noise = draws(2 * 2 * width, size=400, seed=seed)
            q = [0.3 * direction + 0.2 * n for n in noise[: 2 * width]]
            g = [-0.3 * direction + 0.2 * n for n in noise[2 * width :]]
            values.append(feed(MetaGradientWindow(width), q, g)[-1].value)
        values = torch.tensor(values)
        return (values.mean() / values.std()).item()

    assert snr(10) > 3 * snr(1)


def test_state_round_trip():
    q, g = draws(20), draws(20, seed=1)
    one, other = MetaGradientWindow(3), MetaGradientWindow(3)
    feed(one, q[:10], g[:10])
    other.load_state_dict(one.state_dict())
    for step in range(10, 20):
        first, second = (w.add_utility(step, g[step], g[step].norm().item()) for w in (one, other))
        assert first.value == second.value and first.cosine == second.cosine
        assert first.t_value == second.t_value or math.isnan(first.t_value)
        for w in (one, other):
            w.add_sensitivity(step, q[step], q[step].norm().item())
    with pytest.raises(ValueError, match="meta_window=4"):
        MetaGradientWindow(4).load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match="another kind of evidence"):
        other.load_state_dict({"sums": torch.zeros(4)})
