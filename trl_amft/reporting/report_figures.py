"""The pictures of a report, one PNG per panel: small enough for a phone, the same ones in the page and beside it."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .panels import HELD_OUT, MIXING_WEIGHT, PANELS, TIME, Panel
from .run_figure import Series
from .run_folder import Run


# Four and a half inches become 370 pixels on a phone, where a 10 point letter still is 10 pixels high.
SIZE = (4.6, 2.8)
DPI = 190
FONT_SIZE = 10
# Okabe and Ito's colours, which colour-blind readers can tell apart; more curves repeat them dashed.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777")
GREY = "#777777"


def draw_run(run: Run, folder: Path) -> dict[str, Path]:
    """
    Draw every panel that a run has numbers for.

    Args:
        run ([`~trl_amft.reporting.run_folder.Run`]):
            The run.
        folder (`Path`):
            Where to. It is created.

    Returns:
        `dict[str, Path]`: PNG by the panel's name, in the order of panels.
    """
    paths = {}
    for panel in PANELS:
        curves = panel.drawn(run)
        if not curves and not (panel.name == HELD_OUT and run.held_out):
            continue
        figure, axes = _figure()
        if panel.name == TIME:
            _stack(axes, curves)
        else:
            for index, (label, points) in enumerate(curves):
                _plot(axes, points, label, index)
        if panel.name == HELD_OUT:
            _error_bars(axes, run, "all held-out problems", 1)
        if panel.name == MIXING_WEIGHT:
            for bound in mu_bounds(run):
                axes.axhline(bound, color=GREY, linestyle="--", linewidth=1)
        if run.warmup_steps > 0:
            axes.axvspan(0, min(run.warmup_steps, run.last_step), color=GREY, alpha=0.15, linewidth=0, label="warm-up")
        paths[panel.name] = _save(figure, axes, panel, folder, run.last_step)
    return paths


def draw_comparison(runs: list[Run], names: list[str], folder: Path) -> dict[str, Path]:
    """
    Draw several runs over each other, in the panels that compare.

    Args:
        runs (`list[Run]`):
            The runs.
        names (`list[str]`):
            Their names in the legend.
        folder (`Path`):
            Where to. It is created.

    Returns:
        `dict[str, Path]`: PNG by the panel's name.
    """
    paths = {}
    last_step = max(run.last_step for run in runs)
    for panel in PANELS:
        if not panel.compared:
            continue
        figure, axes = _figure()
        for index, (run, name) in enumerate(zip(runs, names, strict=True)):
            points = panel.lines[0].read(run)
            bars = panel.name == HELD_OUT and run.held_out
            if points.steps:
                _plot(axes, points, name, index)
            if bars:
                _error_bars(axes, run, None if points.steps else name, index)
        if axes.has_data():
            paths[panel.name] = _save(figure, axes, panel, folder, last_step)
    return paths


def mu_bounds(run: Run) -> tuple[float, float] | tuple[()]:
    """Bounds of a learned weight; none for a run whose weight was not learned, or whose recipe is not there."""
    policy = run.setting("mixing_policy") if run.recipe else None
    # Not above, because it brings torch.
    from ..mixing import MIXING_POLICIES

    if policy not in MIXING_POLICIES or not MIXING_POLICIES[policy].needs_meta_gradient:
        return ()
    return float(run.setting("mu_min")), float(run.setting("mu_max"))


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.add_subplot()


def _plot(axes: Axes, points: Series, label: str, index: int) -> None:
    color = COLORS[index % len(COLORS)]
    style = ("-", "--", ":")[index // len(COLORS) % 3]
    marker = "." if len(points.steps) < 30 else None
    axes.plot(points.steps, points.values, color=color, linestyle=style, linewidth=1.5, marker=marker, label=label)


def _error_bars(axes: Axes, run: Run, label: str | None, index: int) -> None:
    if not run.held_out:
        return
    steps, accuracy, error = zip(*run.held_out, strict=True)
    bars = [value if math.isfinite(value) else 0.0 for value in error]
    color = COLORS[index % len(COLORS)]
    axes.errorbar(steps, accuracy, yerr=bars, fmt="o", markersize=4, capsize=3, color=color, label=label)


def _stack(axes: Axes, curves: list[tuple[str, Series]]) -> None:
    steps = sorted({step for _, points in curves for step in points.steps})
    heights = []
    for _, points in curves:
        at = dict(zip(*points, strict=True))
        # A supervised step has no rollouts: no time, rather than a gap.
        heights.append([max(at.get(step, 0.0), 0.0) for step in steps])
    axes.stackplot(steps, heights, labels=[label for label, _ in curves], colors=COLORS, linewidth=0)


def _save(figure: Figure, axes: Axes, panel: Panel, folder: Path, last_step: int) -> Path:
    for mark in panel.marks:
        axes.axhline(mark, color=GREY, linewidth=0.8, zorder=0)
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    axes.set_xlim(-0.02 * last_step, 1.02 * max(last_step, 1))
    axes.set_title(panel.title, fontsize=FONT_SIZE + 1)
    axes.set_xlabel("optimizer step", fontsize=FONT_SIZE)
    axes.tick_params(labelsize=FONT_SIZE)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.grid(alpha=0.3)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(fontsize=FONT_SIZE - 2, loc="best")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{panel.name}.png"
    figure.savefig(path, format="png", dpi=DPI)
    return path
