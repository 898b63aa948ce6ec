"""The picture and the table of a run."""

import math

import matplotlib.figure
import pytest
from rich.console import Console

from trl_amft.reporting import plot_run, run_table
from trl_amft.reporting.run_figure import series


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

WARMUP = [{"step": step, "amft/mu": 1.0, "amft/sft_loss": 3.0 - step / 10} for step in (5, 10)]
MIXED = [
    {
        "step": step,
        "reward": 0.1,
        "entropy": 1.0 + step / 100,
        "amft/entropy_gap": 0.5 - step / 100,
        "amft/mu": 0.5,
        "amft/rl_loss": 0.01,
        "amft/sft_loss": 1.0,
    }
    for step in (15, 20)
]
EVALUATION = [{"step": 10, "eval_reward": 0.2}, {"step": 20, "eval_reward": None}]
HELD_OUT = [(0, 0.0, 0.0), (10, 0.2, 0.02), (20, 0.3, math.nan)]


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draw a run and return the panels by title."""
    figures = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))
    )

    def draw(log_history, **options):
        path = plot_run(log_history, tmp_path / "new" / "run.png", **{"warmup_steps": 0, "held_out": [], **options})
        assert path.read_bytes().startswith(PNG_SIGNATURE)
        return {axes.get_title().split(" (")[0]: axes for axes in figures[-1].axes}

    return draw


def labels(axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def shade(axes) -> tuple[float, float] | None:
    spans = [patch for patch in axes.patches if patch.get_alpha() == 0.15]
    return (spans[0].get_x(), spans[0].get_x() + spans[0].get_width()) if spans else None


class TestPlotRun:
    def test_all_panels(self, draw):
        panels = draw(WARMUP + MIXED + EVALUATION, warmup_steps=10, held_out=HELD_OUT, mu_bounds=(0.05, 0.95))
        assert list(panels) == [
            "Training reward",
            "Held-out accuracy",
            "Mixing weight μ",
            "Policy entropy",
            "RL loss",
            "SFT loss",
        ]
        assert list(panels["SFT loss"].lines[0].get_xdata()) == [5, 10, 15, 20]
        assert all(shade(axes) == (0, 10) for axes in panels.values())
        assert len({axes.get_xlim() for axes in panels.values()}) == 1

    def test_supervised_run_has_no_reward_and_no_entropy(self, draw):
        assert list(draw(WARMUP, warmup_steps=0)) == ["Mixing weight μ", "SFT loss"]

    def test_no_shade_without_a_warm_up(self, draw):
        assert {shade(axes) for axes in draw(MIXED).values()} == {None}

    def test_shade_ends_with_the_run(self, draw):
        assert {shade(axes) for axes in draw(WARMUP, warmup_steps=50).values()} == {(0, 10)}

    def test_shade_is_explained_once(self, draw):
        panels = draw(MIXED, warmup_steps=10)
        assert ["warm-up" in labels(axes) for axes in panels.values()] == [True] + [False] * (len(panels) - 1)

    def test_held_out_points_with_error_bars_and_curve(self, draw):
        axes = draw(EVALUATION, held_out=HELD_OUT)["Held-out accuracy"]
        assert len(axes.containers) == 1 and axes.containers[0].has_yerr
        assert list(axes.containers[0].lines[0].get_ydata()) == [0.0, 0.2, 0.3]
        assert list(axes.lines[0].get_xdata()) == [10]

    def test_curve_is_of_the_same_quantity_as_the_points(self, draw):
        part = [{"step": 5, "held_out_part/accuracy": 0.4}, {"step": 5, "eval_reward": 3.0}]
        axes = draw(part, held_out=HELD_OUT)["Held-out accuracy"]
        assert list(axes.lines[0].get_ydata()) == [0.4]
        assert list(draw([{"step": 5, "eval_reward": 3.0}])) == ["Held-out reward"]

    def test_target_is_entropy_plus_gap(self, draw):
        axes = draw(MIXED)["Policy entropy"]
        target = next(line for line in axes.lines if line.get_label() == "target")
        assert target.get_ydata()[0] == pytest.approx(1.5)

    def test_no_target_without_a_gap(self, draw):
        axes = draw([{"step": 1, "entropy": 1.0}])["Policy entropy"]
        assert labels(axes) == []

    def test_bounds_of_a_learned_weight(self, draw):
        axes = draw(MIXED, mu_bounds=(0.05, 0.95))["Mixing weight μ"]
        bounds = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
        assert bounds == [0.05, 0.95]

    def test_empty_log(self, draw):
        assert draw([]) == {}


def test_series_skips_what_is_no_number():
    rows = [{"step": 1, "x": None}, {"step": 2, "x": math.nan}, {"step": 3}, {"step": 4, "x": 2}]
    assert series(rows, "x") == ([4], [2])


class TestRunTable:
    ROW = {
        "stage": "before",
        "step": 0,
        "accuracy": 0.125,
        "standard_error": 0.01,
        "reward": None,
        "mu": None,
        "seconds": 0.0,
        "rollouts": 0,
    }

    def lines(self, rows):
        console = Console(width=80)
        with console.capture() as captured:
            console.print(run_table(rows, "countdown, amft"))
        return captured.get()

    def test_rows(self):
        after = {**self.ROW, "stage": "after", "step": 600, "reward": 0.25, "mu": 0.031, "rollouts": 44800}
        text = self.lines([self.ROW, after])
        assert "countdown, amft" in text
        assert "before" in text and "0.125 ± 0.010" in text and "–" in text
        assert "after" in text and "44,800" in text and "0.031" in text

    @pytest.mark.parametrize("error", [None, math.nan])
    def test_without_a_standard_error(self, error):
        text = self.lines([{**self.ROW, "standard_error": error}])
        assert "0.125" in text and "0.125 ±" not in text
