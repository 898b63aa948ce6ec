"""The surrogate of pilot runs: a planted optimum is found, and pilots that determine nothing are refused."""

import json
import re

import numpy as np
import pytest
import yaml

from trl_amft.cli.fit_mixture import main, with_weights
from trl_amft.cli.recipe_file import RecipeLoader, read_recipe
from trl_amft.cli.usage import UsageError
from trl_amft.data.mixture_surrogate import (
    best_weights,
    fit_surrogate,
    num_coefficients,
    pilot_weights,
    pilots_needed,
    products,
)


OPTIMUM = np.array([0.5, 0.3, 0.2])


def score(weights, optimum=OPTIMUM):
    """Highest at the optimum, .9; on average .6 over the simplex of three."""
    return 0.9 - ((weights - optimum) ** 2).sum(axis=-1)


class TestSurrogate:
    @pytest.mark.parametrize("seed", range(5))
    def test_planted_optimum_from_noisy_pilots(self, seed):
        weights = pilot_weights(3, 30, seed)
        scores = score(weights) + np.random.default_rng(100 + seed).normal(0.0, 0.015, 30)
        found = fit_surrogate(weights, scores)
        assert found.r_squared > 0.9
        assert np.abs(best_weights(found.coefficients, 3) - OPTIMUM).max() < 0.05

    @pytest.mark.parametrize("optimum", [[1.2, -0.1, -0.1], [0.6, 0.6, -0.2], [0.25, 0.25, 0.5]])
    def test_optimum_on_the_boundary(self, optimum):
        """Against a fine grid."""
        steps = np.linspace(0, 1, 101)
        grid = np.array([[a, b, 1 - a - b] for a in steps for b in steps if a + b <= 1 + 1e-9])
        fitted = fit_surrogate(pilot_weights(3, 12, 0), score(pilot_weights(3, 12, 0), np.array(optimum)))
        best = best_weights(fitted.coefficients, 3)
        assert best.min() >= 0 and best.sum() == pytest.approx(1)
        highest = grid[(products(grid) @ fitted.coefficients).argmax()]
        assert np.abs(best - highest).max() < 0.01

    def test_a_minimum_inside_is_no_maximum(self):
        weights = pilot_weights(3, 12, 0)
        best = best_weights(fit_surrogate(weights, -score(weights)).coefficients, 3)
        assert best.tolist() == [0, 0, 1]

    def test_fourteen_pilots_for_five_domains_are_refused(self):
        weights = pilot_weights(5, 14, 0)
        with pytest.raises(
            ValueError, match="14 pilots for 5 domains: .* 15 coefficients.* needs 19 pilots; run 5 more"
        ):
            fit_surrogate(weights, weights[:, 0])
        assert fit_surrogate(pilot_weights(5, 19, 0), pilot_weights(5, 19, 0)[:, 0]).r_squared > 0.99

    def test_pilots_that_all_lie_on_a_line_are_refused(self):
        share = np.linspace(0, 1, 30)[:, None]
        weights = np.hstack([share, 1 - share, 0 * share])
        with pytest.raises(ValueError, match="do not determine the 6 coefficients"):
            fit_surrogate(weights, share[:, 0])

    def test_noise_is_not_predicted(self):
        weights = pilot_weights(3, 30, 0)
        assert fit_surrogate(weights, np.random.default_rng(0).normal(size=30)).r_squared < 0.1
        assert fit_surrogate(weights, np.ones(30)).r_squared == -np.inf

    def test_counts(self):
        assert [num_coefficients(m) for m in (2, 3, 5)] == [3, 6, 15]
        assert [pilots_needed(m, 5) for m in (2, 3, 5)] == [5, 8, 19] and pilots_needed(2, 10) == 10

    def test_first_pilots_determine_a_quadratic(self):
        weights = pilot_weights(4, 15, 0)
        assert np.linalg.matrix_rank(products(weights[:10])) == 10
        assert np.allclose(weights.sum(axis=1), 1) and weights.min() >= 0


RECIPE = """\
# A recipe.
task: countdown
domain_weights:       # equal at first
  sums: 1.0

  words: 1
  maps: 1.0
seed: 0               # stays
"""


@pytest.fixture
def pilots(tmp_path, capsys):
    """Planned pilots, with a function that gives them results."""
    recipe, folder = tmp_path / "recipe.yaml", tmp_path / "pilots"
    recipe.write_text(RECIPE)

    def plan(count):
        assert main(["plan", "--recipe", str(recipe), "--pilots", str(count), "--output_dir", str(folder)]) == 0
        return capsys.readouterr().out.splitlines()

    def finish(scores=score, share=1.0):
        paths = sorted(folder.glob("pilot-*.yaml"))
        for path in paths[: round(share * len(paths))]:
            weights = np.array(list(read_recipe(path)["domain_weights"].values()))
            log = [{"held_out/accuracy": 0.0}, {"held_out/accuracy": float(scores(weights)), "step": 9}, {"loss": 1.0}]
            path.with_suffix("").mkdir(exist_ok=True)
            (path.with_suffix("") / "log_history.json").write_text(json.dumps(log))

    def fit(*more):
        output = tmp_path / "best.yaml"
        return main(["fit", "--recipe", str(recipe), "--output_dir", str(folder), "--output", str(output), *more])

    return plan, finish, fit, tmp_path / "best.yaml"


class TestCommand:
    def test_from_plan_to_recipe(self, pilots, capsys):
        plan, finish, fit, output = pilots
        commands = plan(30)
        assert len(commands) == 30 and re.search(r"--recipe \S*pilot-000.yaml --output_dir \S*pilot-000$", commands[0])
        finish()
        assert fit() == 0
        found = read_recipe(output)
        assert list(found["domain_weights"].values()) == pytest.approx(OPTIMUM.tolist(), abs=1e-3)
        assert found["task"] == "countdown" and "seed: 0               # stays" in output.read_text()
        assert "# fitted to 30 pilots, R² 1.00 in 5-fold" in output.read_text()
        printed = capsys.readouterr().out
        assert "0.5000" in printed and "0.9000" in printed

    def test_earlier_ones_are_neither_taken_for_new_ones_nor_overwritten(self, pilots, capsys):
        plan, finish, fit, output = pilots
        plan(12)
        finish()
        fit()
        with pytest.raises(SystemExit):
            fit()
        assert "best.yaml' exists; delete it, or give another name" in capsys.readouterr().err
        # The plans are gone, the folders with their results are not.
        for path in (output.parent / "pilots").glob("*.yaml"):
            path.unlink()
        with pytest.raises(SystemExit):
            plan(12)
        assert "has pilots; give another one, or delete them" in capsys.readouterr().err

    def test_unfinished_pilots_do_not_count(self, pilots, capsys):
        plan, finish, fit, output = pilots
        plan(10)
        finish(share=0.7)
        with pytest.raises(SystemExit) as caught:
            fit()
        error = capsys.readouterr().err
        assert caught.value.code == 2 and not output.exists()
        assert "3 pilots (pilot-007.yaml" in error and "7 pilots for 3 domains" in error and "run 1 more" in error

    def test_smallest_of_a_loss(self, pilots):
        plan, finish, fit, output = pilots
        plan(12)
        finish(lambda weights: -score(weights))
        assert fit("--smallest") == 0
        assert list(read_recipe(output)["domain_weights"].values()) == pytest.approx(OPTIMUM.tolist(), abs=1e-3)

    def test_no_answer_from_noise(self, pilots, capsys):
        plan, finish, fit, output = pilots
        plan(12)
        finish(lambda weights: np.random.default_rng(int(1e6 * (weights @ [1, 2, 5]))).normal())
        with pytest.raises(SystemExit):
            fit()
        assert "the surrogate predicts nothing: R²" in capsys.readouterr().err and not output.exists()

    @pytest.mark.parametrize(
        ("text", "more", "line"),
        [
            (RECIPE, ["--pilots", "7"], "pilots=7 is too few for 3 domains; give at least 8"),
            ("task: countdown\n", ["--pilots", "9"], "domain_weights=None in"),
            ("domain_weights: {a: 1}\n", ["--pilots", "9"], "names 1 domains; give 2 to 12"),
            ("domain_weights: {a: -1, b: 2}\n", ["--pilots", "9"], "a=-1 must be a number from 0 on"),
            (RECIPE, ["--pilot", "9"], "the following arguments are required: --pilots"),
            (RECIPE, ["--pilots", "9", "--seed", "-1"], "seed=-1 must be at least 0"),
            ("domain_weights: {1: 1, 2: 1}\n", ["--pilots", "9"], "the domain 1 is no text; put it in quotes"),
            ("domain_weights: {a: 1, 2: 1}\n", ["--pilots", "9"], "the domain 2 is no text; put it in quotes"),
            (
                RECIPE,
                ["--pilots", "9", "--output_dir", __file__],
                "test_mixture_surrogate.py' is a file; give a folder",
            ),
            (RECIPE, ["--pilots", "9", "--output_dir", f"{__file__}/p"], "lies below"),
        ],
    )
    def test_mistakes_are_one_line(self, tmp_path, capsys, text, more, line):
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(SystemExit) as caught:
            main(["plan", "--recipe", str(tmp_path / "recipe.yaml"), "--output_dir", str(tmp_path / "p"), *more])
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count("\n") == 1 and line in error

    def test_weights_of_pilots_may_be_in_any_unit(self, pilots):
        plan, finish, fit, output = pilots
        plan(12)
        finish()
        for number, path in enumerate(sorted(output.parent.glob("pilots/pilot-*.yaml"))):
            weights = {name: weight * (1 + number) for name, weight in read_recipe(path)["domain_weights"].items()}
            path.write_text(with_weights(str(path), weights, "in another unit"))
        assert fit() == 0
        assert list(read_recipe(output)["domain_weights"].values()) == pytest.approx(OPTIMUM.tolist(), abs=1e-3)

    @pytest.mark.parametrize(
        ("log", "more", "line"),
        [
            ("[{", [], "pilot-003/log_history.json' is no log of a run (Expecting"),
            ("{}", [], "pilot-003/log_history.json' is no log of a run, which is a list of mappings; run this pilot"),
            ("[1]", [], "pilot-003/log_history.json' is no log of a run, which is a list of mappings; run this pilot"),
            ('[{"held_out/accuracy": "high"}]', [], "metric='held_out/accuracy' is 'high' in"),
            ('[{"held_out/accuracy": NaN}]', [], "metric='held_out/accuracy' is nan in"),
            (None, ["--output", __file__ + "/best.yaml"], "test_mixture_surrogate.py', which is a file"),
            (None, ["--output", "."], "output='.' is a folder; give the name of a file"),
            (None, ["--output_dir", __file__], "test_mixture_surrogate.py' is a file; give a folder"),
        ],
    )
    def test_mistakes_of_a_fit_are_one_line(self, pilots, capsys, log, more, line):
        plan, finish, fit, output = pilots
        plan(9)
        finish()
        if log is not None:
            (output.parent / "pilots" / "pilot-003" / "log_history.json").write_text(log)
        with pytest.raises(SystemExit) as caught:
            fit(*more)
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count("\n") == 1 and line in error and not output.exists()
        assert log is None or "pilot-003" in error


WEIGHTS = {"sums": 0.25, "words": 0.75, "maps": 0.0}


class TestRecipe:
    def test_everything_else_stays(self, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE)
        first, second, *old, last = RECIPE.splitlines()
        line = 'domain_weights: {"sums": 0.25, "words": 0.75, "maps": 0.0} # note'
        assert with_weights(str(path), WEIGHTS, "note").splitlines() == [first, second, line, last] and len(old) == 5

    @pytest.mark.parametrize(
        "text",
        [
            "domain_weights: {\n  sums: 1,\n  words: 1,\n  maps: 1\n}\nseed: 0\n",
            "seed: 0\ndomain_weights: {sums: 1,\n  words: 1, maps: 1\n}",
            "domain_weights:\n  sums: 1\n# no indent\n  words: 1\n\n  maps: 1  # last\n# of the seed\nseed: 0\n",
            "---\nseed: 0\ndomain_weights: {sums: 1, words: 1, maps: 1}\n...\n",
            '"domain_weights": {sums: 1, words: 1, maps: 1}\nseed: 0\n',
            "seed: 0\n'domain_weights':\n  sums: 1\n  words: 1\n  maps: 1\n",
            "domain_weights : {sums: 1, words: 1, maps: 1}\nseed: 0\n",
            "  seed: 0\n  domain_weights:\n    sums: 1\n    words: 1\n    maps: 1\n",
            "note: |\n  domain_weights: {}\ndomain_weights: {sums: 1, words: 1, maps: 1}\nlast: |+\n  text\n\n",
        ],
    )
    def test_however_the_field_is_written(self, tmp_path, text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        expected = read_recipe(path) | {"domain_weights": WEIGHTS}
        written = with_weights(str(path), WEIGHTS, "note")
        assert yaml.load(written, Loader=RecipeLoader) == expected
        assert written.count("# note\n") + written.endswith("# note") == 1
        assert ("# of the seed" in written) == ("# of the seed" in text) and "# last" not in written

    @pytest.mark.parametrize(
        "text",
        [
            "{domain_weights: {sums: 1, words: 1}, seed: 0}\n",
            "? domain_weights\n: {sums: 1, words: 1}\n",
            "domain_weights: &weights {sums: 1, words: 1}\ntask_kwargs: *weights\n",
            "task_kwargs: &weights {sums: 1, words: 1}\ndomain_weights: *weights\n",
        ],
    )
    def test_what_cannot_be_replaced_is_refused(self, tmp_path, capsys, text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        with pytest.raises(UsageError, match="cannot be replaced; write it as a line of its own .* domain_weights: {"):
            with_weights(str(path), {"sums": 0.25, "words": 0.75}, "note")
        with pytest.raises(SystemExit):
            main(["plan", "--recipe", str(path), "--pilots", "9", "--output_dir", str(tmp_path / "pilots")])
        assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "pilots").exists()
