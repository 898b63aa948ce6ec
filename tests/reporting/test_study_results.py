"""What a report makes of the results of a study."""

import dataclasses
import math
from pathlib import Path

import pytest

from trl_amft.cli.study import read_study
from trl_amft.reporting.study_regret import end_of_curve, regrets, rollouts_until, share_that_loses
from trl_amft.reporting.study_report import study_page
from trl_amft.reporting.study_results import along, append_result, gather, read_results, seed_mean, three_digits
from trl_amft.reporting.study_sources import source_table


ROOT = Path(__file__).parents[2]


def row(policy, condition, seed, accuracy, rate=1e-3, **more):
    settings = {"policy": policy, "condition": condition, "seed": seed, "learning_rate": rate}
    return {**settings, "accuracy": accuracy, "status": "finished", "scores": {}, "seconds": 60.0, **more}


def test_interval_over_seeds():
    found = seed_mean([0.1, 0.2, 0.3])
    # t at 2 degrees of freedom times s / √3, s = .1.
    assert (found.mean, found.margin) == pytest.approx((0.2, 4.303 * 0.1 / math.sqrt(3)))
    assert math.isnan(seed_mean([0.1]).margin)
    assert seed_mean([0.0, 1.0] * 20).margin == pytest.approx(2.0227 * 0.50637 / math.sqrt(40), rel=1e-3)


def test_differences_are_paired_and_the_best_rate_is_taken():
    rows = [row("a", "x", seed, 0.1 * seed) for seed in (1, 2, 3)]
    rows += [row("b", "x", seed, 0.1 * seed + 0.05) for seed in (3, 2, 1)]
    rows += [row("b", "x", seed, 0.0, rate=1e-2) for seed in (1, 2, 3)]
    # A rate of which a seed is missing is not finished, however good it looks.
    rows += [row("b", "x", seed, 0.9, rate=1e-1) for seed in (1, 2)]
    results = gather(rows, ["a", "b"], ["x", "y"], ["a", "b"])
    assert results.accuracy("b", "x").mean == pytest.approx(0.25)
    difference = results.difference("b", "x", "a")
    assert (difference.mean, difference.seeds) == (pytest.approx(0.05), 3)
    assert difference.margin == pytest.approx(0.0, abs=1e-9)
    assert results.best_of == {"x": "b"} and results.policies == ["a", "b", "oracle"]
    assert results.conditions == ["x"] and results.accuracy("a", "y") is None


def test_regret_is_to_what_was_best_on_other_seeds():
    scores = {"a": (0.5, 0.1, 0.3), "b": (0.2, 0.3, 0.5), "c": (0.1, 0.1, 0.0)}
    rows = [row(name, "x", seed, score) for name, of in scores.items() for seed, score in enumerate(of)]
    rows += [row("a", "y", 0, 0.9), row("c", "y", 0, 0.1)]
    found = regrets(gather(rows, ["a", "b", "c"], ["x", "y"], ["a"]))
    # Without seed 0 b is the best, without seed 1 a is (.4 and .35), and without seed 2 a is (.3 and .25).
    assert found["b"].by_condition["x"].mean == pytest.approx(((0.2 - 0.2) + (0.1 - 0.3) + (0.3 - 0.5)) / 3)
    assert found["a"].by_condition["x"].mean == pytest.approx((0.2 - 0.5) / 3)
    assert found["c"].by_condition["x"].mean == pytest.approx((0.1 + 0.0 + 0.3) / 3)
    # A single seed leaves none to choose on.
    assert all(set(regret.by_condition) == {"x"} for regret in found.values())
    assert found["c"].worst == "x"
    assert share_that_loses(found, 0.1) == (1, 3)


def test_regret_without_those_that_learn_from_other_data():
    scores = {"a": (0.9, 0.9), "b": (0.2, 0.4), "c": (0.3, 0.1)}
    rows = [row(name, "x", seed, score) for name, of in scores.items() for seed, score in enumerate(of)]
    found = regrets(gather(rows, ["a", "b", "c"], ["x"], []).without(["a"]))
    # With seed 0 b is the best for what it did with seed 1, with seed 1 c for seed 0.
    assert found["c"].by_condition["x"].mean == pytest.approx(((0.2 - 0.3) + 0.0) / 2)
    assert set(found) == {"b", "c"}


def test_a_policy_that_fails_with_one_seed_loses_in_hindsight():
    scores = {"a": (0.1, 0.7, 0.7), "b": (0.6, 0.6, 0.6)}
    rows = [row(name, "x", seed, score) for name, of in scores.items() for seed, score in enumerate(of)]
    results = gather(rows, ["a", "b"], ["x"], [])
    # Without seed 0 a is the best, without another one b.
    assert regrets(results)["a"].by_condition["x"].mean == pytest.approx((0.0 - 0.1 - 0.1) / 3)
    found = regrets(results, hindsight=True)
    assert found["a"].by_condition["x"].mean == pytest.approx(0.1)
    assert found["b"].by_condition["x"].mean == found["b"].by_condition["x"].margin == 0.0
    assert (share_that_loses(regrets(results), 0.09), share_that_loses(found, 0.09)) == ((0, 2), (1, 2))


@pytest.mark.parametrize("hindsight", [False, True])
def test_a_policy_with_fewer_seeds_is_not_the_best(hindsight):
    rows = [row("a", "x", seed, score) for seed, score in enumerate((0.9, 0.5, 0.5))]
    # Its two seeds are the better ones of the task or the worse ones, which its mean does not tell.
    rows += [row("b", "x", seed, score) for seed, score in enumerate((0.8, 0.7))]
    rows += [row("c", "x", seed, 0.4) for seed in (0, 1, 2)]
    results = gather(rows, ["a", "b", "c"], ["x"], ["b", "c"])
    found = regrets(results, hindsight)
    assert found["b"].by_condition["x"].mean == pytest.approx((0.9 - 0.8 + 0.5 - 0.7) / 2)
    assert found["b"].by_condition["x"].seeds == 2 and results.best_of == {"x": "c"}


def test_rollouts_until_an_accuracy():
    curve = {"marks": [[0, 0, 0.0], [10, 0, 20.0], [20, 100, 80.0]]}
    rows = [
        row("a", "x", seed, 0.4, accuracy_curve=[[10, 0.1], [15, high], [20, 0.5]], **curve)
        for seed, high in ((0, 0.3), (1, 0.5))
    ]
    results = gather(rows, ["a"], ["x"], [])
    assert rollouts_until(results, "a", "x", 0.1) == 0
    assert rollouts_until(results, "a", "x", 0.4) == 50
    assert rollouts_until(results, "a", "x", 0.41) == 100
    assert rollouts_until(results, "a", "x", 0.6) is None
    assert rollouts_until(results, "a", "y", 0.1) is None
    assert end_of_curve(results, "a", "x") == 0.5 and end_of_curve(results, "a", "y") is None
    assert end_of_curve(gather([row("a", "x", 0, 0.4, accuracy_curve=[])], ["a"], ["x"], []), "a", "x") is None


def test_page(monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = [row("sft_then_rl", "right", seed, accuracy) for seed, accuracy in ((0, 0.2), (1, 0.3))]
    rows += [row("gate", "right", seed, accuracy) for seed, accuracy in ((0, 0.3), (1, 0.4))]
    study = read_study(ROOT / "recipes" / "studies" / "tiny.yaml")
    rows = [{**one, "accuracy_curve": [[2, 0.1], [5, 0.3]], "marks": [[2, 0, 1], [5, 9000, 2]]} for one in rows]
    results = gather(rows, ["sft_then_rl", "gate"], ["right"], [])
    page = study_page(study, results, rows)
    assert "| policy | right | worst |" in page and "| `gate` | +0.000 ± 0.000 | +0.000 |" in page
    assert "1 of 2 pairs of policy and condition lose 10% or more." in page
    assert "in hindsight" in page and "(n = 1)" not in page and "different warm-ups" not in page
    assert "Difference to `sft_then_rl`" in page and "Difference to `gate`" not in page
    both = dataclasses.replace(study, baselines=["sft_then_rl", "gate"])
    second = study_page(both, results, rows).partition("## Difference to `gate`")[2]
    assert "| `sft_then_rl` | -0.100 ± 0.000 |" in second
    assert "Regret without" not in page
    apart = study_page(
        dataclasses.replace(study, apart=["gate"]), gather(rows, ["sft_then_rl", "gate"], ["right"], []), rows
    )
    last = apart.partition("## Regret without `gate`")[2].partition("##")[0]
    assert "| `sft_then_rl` | +0.000" in last and "| `gate`" not in last and "0 of 1 pairs" in last
    reached = page.partition("## Thousand rollouts until `sft_then_rl` is reached")[2].partition("##")[0]
    assert "| `sft_then_rl` | 9.0 |" in reached and "| `gate` | 9.0 |" in reached
    assert "| `sft_then_rl` | 0.250 ± 0.635 |" in page
    assert "| `gate` | +0.100 ± 0.000 |" in page and "| `gate` | 1.0 |" in page


def test_the_oracle_chooses_from_what_was_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    scores = {("a", "x"): (0.1, 0.1), ("b", "x"): (0.2, 0.2), ("a", "y"): (0.1, 0.2), ("b", "z"): (0.3, 0.3)}
    # Of a policy with fewer seeds than the others nobody knows.
    scores |= {("c", "y"): (0.9,), ("a", "v"): (0.4, 0.4), ("b", "v"): (0.3, 0.3)}
    rows = [row(*pair, seed, score) for pair, of in scores.items() for seed, score in enumerate(of)]
    rows = [{**one, "accuracy_curve": [], "marks": []} for one in rows]
    study = dataclasses.replace(
        read_study(ROOT / "recipes" / "studies" / "tiny.yaml"), reach=[], oracle=["a", "b", "c"]
    )
    page = study_page(study, gather(rows, ["a", "b", "c"], ["x", "y", "z", "v"], study.oracle), rows)
    assert "`oracle` is the best in hindsight of a, b (x: b, v: a); of a (y: a); of b (z: b).\n" in page


def test_numbers_are_rounded_as_decimals():
    # As a mean in binary .3335 is a little less.
    mean = seed_mean([0.3664, 0.3194, 0.3147]).mean
    assert f"{mean:.3f}" == "0.333" and three_digits(mean) == "0.334"
    assert [three_digits(value) for value in (0.0005, 0.00049, 1.0, 0.3334)] == ["0.001", "0.000", "1.000", "0.333"]
    assert [three_digits(value, sign=True) for value in (0.0125, -0.0125, 0.0)] == ["+0.013", "-0.013", "+0.000"]


def test_page_of_what_is_not_finished(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = read_study(ROOT / "recipes" / "studies" / "tiny.yaml")
    curve = {"marks": [[2, 0, 1], [5, 9000, 2]]}
    rows = []
    for policy, end, warm_up in (("sft_then_rl", 0.3, 0.1), ("fixed_.5", 0.2, 0.1), ("gate", 0.3, 0.15)):
        name = next(run.name for run in study.runs if (run.policy, run.condition) == (policy, "right"))
        more = {"name": name, "after_warm_up": warm_up, "accuracy_curve": [[2, 0.1], [5, end]], **curve}
        rows += [row(policy, "right", seed, end, **more) for seed in range(3 if policy != "gate" else 1)]
    rows += [row("filter", "wrong", seed, None, reason="none", name="f") | {"status": "refused"} for seed in (0, 1)]
    page = study_page(study, gather(rows, ["sft_then_rl", "fixed_.5", "gate", "filter"], ["right", "wrong"], []), rows)
    assert "from right/sft_then_rl/lr0.002/seed0 had different warm-ups (0.1, 0.15); they" in page
    assert "| `gate` | 0.300 (n = 1) |" in page and "* filter, wrong, seeds 0, 1: none" in page
    reached = page.partition("## Thousand rollouts")[2].partition("##")[0]
    assert "| `sft_then_rl` | 9.0 |" in reached and "| `fixed_.5` | never |" in reached


def test_weights_of_sources():
    curves = {
        "good": [[5, 0.1], [10, 0.2], [15, 0.3], [20, 0.5]],
        "bad": [[5, 0.1], [10, 0.1], [15, 0.0], [20, 0.0]],
    }
    rows = [
        row("p", "x", 7, 0.4, source_curves=curves),
        row("q", "x", 7, 0.4, source_curves={}),
        row("o", "x", 7, 0.4),
    ]
    head, _, *lines = source_table(gather(rows, ["p", "q", "o"], ["x"], []))
    assert head == "| policy | condition | seed | source | mean | second half |"
    assert lines == ["| `p` | x | 7 | good | 0.275 | 0.400 |", "| `p` | x | 7 | bad | 0.050 | 0.000 |"]
    assert source_table(gather(rows[1:], ["q", "o"], ["x"], [])) == []


def test_steps_become_rollouts_and_seconds():
    marks = [[0, 0, 0.0], [10, 0, 20.0], [20, 100, 80.0]]
    curve = [[5, 0.1], [10, 0.2], [15, 0.3], [20, 0.4]]
    assert along(curve, marks, 1) == ([0.0, 0.0, 50.0, 100.0], [0.1, 0.2, 0.3, 0.4])
    assert along(curve, marks, 2)[0] == [10.0, 20.0, 50.0, 80.0]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"name": "a", "n": 1}\n{"name": "a", "n": 2}\n{"name": "b", "n"')
    assert read_results(path) == [{"name": "a", "n": 2}]
    # Nor does it take the next one with it, whether it is whole or not.
    append_result(path, {"name": "c"})
    assert read_results(path) == [{"name": "a", "n": 2}, {"name": "c"}]
    path.write_text('{"name": "a", "n": 1}')
    append_result(path, {"name": "c"})
    append_result(path, {"name": "d"})
    assert path.read_text() == '{"name": "a", "n": 1}\n{"name": "c"}\n{"name": "d"}\n'
