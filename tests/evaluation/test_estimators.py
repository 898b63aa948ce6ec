"""pass@k against the closed form and against enumeration, the vote by hand, the coverage of the intervals."""

import itertools
import math

import numpy as np
import pytest

from trl_amft.evaluation import interval, majority, paired_difference, pass_at_k
from trl_amft.evaluation.estimators import mean_over_sets


class TestPassAtK:
    def test_closed_form(self):
        for n, k in itertools.product(range(1, 13), range(1, 13)):
            for c in range(n + 1):
                if k <= n:
                    expected = 1 - math.comb(n - c, k) / math.comb(n, k)
                    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)

    def test_mean_over_all_subsets(self):
        flags = [1, 0, 0, 1, 0, 0]
        subsets = list(itertools.combinations(flags, 3))
        assert pass_at_k(6, 2, 3) == pytest.approx(sum(map(any, subsets)) / len(subsets))

    def test_unbiased(self):
        """Its mean over draws of n samples is the probability for k, which the share of problems solved is not."""
        n, k, p = 8, 4, 0.3
        weights = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
        mean = sum(weight * pass_at_k(n, c, k) for c, weight in enumerate(weights))
        assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-12)

    def test_large(self):
        assert pass_at_k(1000, 1, 500) == pytest.approx(0.5)
        assert pass_at_k(1000, 0, 1000) == 0 and pass_at_k(1000, 1000, 1) == 1

    @pytest.mark.parametrize(
        ("args", "message"),
        [((4, 1, 5), "k=5"), ((4, 1, 0), "k=0"), ((4, 5, 1), "correct=5"), ((4, -1, 1), "correct=-1")],
    )
    def test_arguments(self, args, message):
        with pytest.raises(ValueError, match=message):
            pass_at_k(*args)


@pytest.mark.parametrize(
    ("answers", "correct", "expected"),
    [
        (["1", "2", "2"], [True, False, False], 0),
        (["1", "2", "2"], [False, True, True], 1),
        (["1", "2"], [True, False], 0.5),
        (["1", "2", "3"], [True, False, False], pytest.approx(1 / 3)),
        ([None, None, "2"], [False, False, True], 1),
        ([None, None], [False, False], 0),
        (["1"], [True], 1),
    ],
)
def test_majority(answers, correct, expected):
    assert majority(answers, correct) == expected


class TestInterval:
    def test_deterministic_and_around_the_mean(self):
        values = list(np.random.default_rng(0).random(50))
        estimate = interval(values)
        assert estimate == interval(values) != interval(values, seed=1)
        assert estimate.low < estimate.mean < estimate.high and estimate.mean == pytest.approx(np.mean(values))

    def test_known_width(self):
        """For many problems it is the one of the normal distribution."""
        values = [0.0] * 600 + [1.0] * 400
        estimate = interval(values)
        assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * math.sqrt(0.24 / 1000), rel=0.03)

    def test_both_ways_to_draw_agree(self):
        rng = np.random.default_rng(0)
        few = rng.integers(0, 5, 300) / 4
        many = few + rng.normal(0, 1e-9, 300)
        assert interval(few).low == pytest.approx(interval(many).low, abs=4e-3)
        assert interval(few).high == pytest.approx(interval(many).high, abs=4e-3)

    @pytest.mark.parametrize(("problems", "draw"), [(30, "solved"), (100, "samples"), (500, "solved")])
    def test_coverage(self, problems, draw):
        """The share of simulated sets whose interval holds the true mean. Problems differ in difficulty."""
        rng = np.random.default_rng(problems)
        held, sets = 0, 400
        for number in range(sets):
            difficulty = rng.beta(1.0, 1.5, problems)
            samples = 4 if draw == "samples" else 1
            estimate = interval(rng.binomial(samples, difficulty) / samples, seed=number)
            held += estimate.low <= 0.4 <= estimate.high
        assert 0.91 <= held / sets <= 0.98

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_without_exception_it_has_a_width(self, value):
        estimate = interval([value] * 30)
        # 30 problems without a single success: the upper end p has (1 - p)^30 = 2.5 %.
        width = 1 - 0.025 ** (1 / 30)
        assert estimate.high - estimate.low == pytest.approx(width) and estimate.mean == value

    def test_empty(self):
        with pytest.raises(ValueError, match="values is empty"):
            interval([])


class TestDifference:
    def test_pairs_are_narrower_than_two_intervals(self):
        rng = np.random.default_rng(0)
        first = rng.random(200)
        second = first + 0.01 + rng.normal(0, 0.01, 200)
        difference = paired_difference(first, second)
        assert difference.low < 0.01 < difference.high and difference.high - difference.low < 0.005
        assert interval(first).high - interval(first).low > 0.05

    def test_sign_and_constant(self):
        assert paired_difference([1.0, 0.0], [0.0, 0.0]).mean == -0.5
        constant = paired_difference([0.0, 0.5], [0.5, 1.0])
        assert (constant.low, constant.mean, constant.high) == (0.5, 0.5, 0.5)

    def test_coverage(self):
        rng = np.random.default_rng(5)
        held = 0
        for number in range(300):
            difficulty = rng.random(120)
            better = np.clip(difficulty + 0.1, 0, 1)
            estimate = paired_difference(rng.binomial(4, difficulty) / 4, rng.binomial(4, better) / 4, seed=number)
            # E[min(u + .1, 1) - u] for u uniform on [0, 1].
            held += estimate.low <= 0.095 <= estimate.high
        assert 0.91 <= held / 300 <= 0.98

    def test_no_pairs(self):
        with pytest.raises(ValueError, match="2 and 1 values are no pairs"):
            paired_difference([1, 2], [1])


def test_mean_over_sets_weighs_sets_alike():
    estimate = mean_over_sets([[1.0] * 10, [0.0, 1.0] * 500])
    assert estimate.mean == 0.75 and 0.55 < estimate.low < 0.74 and 0.75 < estimate.high < 0.78
    sure = mean_over_sets([[0.0, 1.0] * 500, [0.0, 0.5, 1.0] * 300])
    assert sure.mean == 0.5 and 0.47 < sure.low < 0.49 and 0.51 < sure.high < 0.53


def test_mean_over_sets_without_a_single_success_has_a_width():
    one, three = mean_over_sets([[0.0] * 30]), mean_over_sets([[0.0] * 30] * 3)
    assert one.low == one.mean == 0 and one.high == pytest.approx(interval([0.0] * 30).high, rel=0.03)
    assert 0 < three.high < one.high
    same = mean_over_sets([[0.0] * 30] * 3, shares=False)
    assert (same.low, same.mean, same.high) == (0, 0, 0)
