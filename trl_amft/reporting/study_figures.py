"""The pictures of a study: accuracy by condition, accuracy over rollouts and time, and μ over steps."""

import math
from pathlib import Path
from statistics import fmean

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .study_results import ORACLE, StudyResults, along


PANEL = (5.2, 3.6)
ACCURACY_COLUMNS = 4
LINE = 0.25  # inches
FONT_SIZE = 9
STYLES = ("-", "--", ":")


def _look(results: StudyResults, policy: str) -> dict:
    """One colour and line style per policy, the same in all pictures."""
    index = results.policies.index(policy)
    return {"color": colormaps["tab10"](index % 10), "linestyle": STYLES[index // 10 % len(STYLES)]}


def plot_accuracy(results: StudyResults, path: Path) -> Path:
    """
    Final held-out accuracy by condition with 95 % intervals over seeds.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            What to draw.
        path (`Path`):
            PNG to write.

    Returns:
        `Path`: the file.
    """
    ran = [
        [policy for policy in reversed(results.policies) if results.accuracy(policy, condition)]
        for condition in results.conditions
    ]
    columns = min(len(ran), ACCURACY_COLUMNS)
    # As high as the longest list of policies in the row.
    heights = [max(map(len, ran[first : first + columns])) + 3 for first in range(0, len(ran), columns)]
    figure = Figure(figsize=(PANEL[0] * 0.75 * columns, LINE * sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    for index, (condition, policies) in enumerate(zip(results.conditions, ran, strict=True)):
        axes = figure.add_subplot(grid[divmod(index, columns)])
        for place, policy in enumerate(policies):
            found = results.accuracy(policy, condition)
            assert found is not None
            margin = 0.0 if math.isnan(found.margin) else found.margin
            axes.errorbar(found.mean, place, xerr=margin, fmt="o", markersize=4, capsize=2, **_look(results, policy))
        axes.set_yticks(range(len(policies)), policies)
        axes.set_ylim(-0.6, len(policies) - 0.4)
        axes.set_xlabel("held-out accuracy", fontsize=FONT_SIZE)
        dress(axes, condition)
    return save(figure, path)


def plot_curves(results: StudyResults, path: Path, column: int, label: str) -> Path:
    """
    Held-out accuracy during training, mean over seeds, over rollouts or seconds.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            What to draw.
        path (`Path`):
            PNG to write.
        column (`int`):
            As in [`~trl_amft.reporting.study_results.along`].
        label (`str`):
            Label of the axis.

    Returns:
        `Path`: the file.
    """

    def curve(rows: list[dict]) -> tuple[list[float], list[float]]:
        curves = [along(row["accuracy_curve"], row["marks"], column) for row in rows if row["accuracy_curve"]]
        return _mean_curve(curves)

    return _panels(results, path, curve, label, "held-out accuracy")


def plot_weights(results: StudyResults, path: Path) -> Path:
    """
    μ over the optimizer steps after the warm-up, mean over seeds.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            What to draw.
        path (`Path`):
            PNG to write.

    Returns:
        `Path`: the file.
    """

    def curve(rows: list[dict]) -> tuple[list[float], list[float]]:
        curves = []
        for row in rows:
            warm_up = row["marks"][1][0] if row.get("after_warm_up") is not None else 0
            mixed = [point for point in row["mu_curve"] if point[0] > warm_up]
            curves.append(([step for step, _ in mixed], [weight for _, weight in mixed]))
        return _mean_curve(curves)

    return _panels(results, path, curve, "optimizer step", "mixing weight μ")


def _mean_curve(curves: list[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    length = min((len(values) for _, values in curves), default=0)
    positions = [fmean(curve[0][n] for curve in curves) for n in range(length)]
    return positions, [fmean(curve[1][n] for curve in curves) for n in range(length)]


def _panels(results: StudyResults, path: Path, curve, x_label: str, y_label: str) -> Path:
    columns = min(len(results.conditions), 3)
    rows = math.ceil(len(results.conditions) / columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + 1.0), layout="constrained")
    drawn: dict[str, Line2D] = {}
    for index, condition in enumerate(results.conditions):
        axes = figure.add_subplot(rows, columns, index + 1)
        for policy in results.policies:
            positions, values = curve(results.cells.get((policy, condition), []))
            if policy != ORACLE and positions:
                (line,) = axes.plot(positions, values, linewidth=1.2, label=policy, **_look(results, policy))
                drawn.setdefault(policy, line)
        axes.set_xlabel(x_label, fontsize=FONT_SIZE)
        axes.set_ylabel(y_label, fontsize=FONT_SIZE)
        dress(axes, condition)
    figure.legend(list(drawn.values()), list(drawn), loc="outside lower center", ncols=6, fontsize=FONT_SIZE - 1)
    return save(figure, path)


def dress(axes: Axes, title: str) -> None:
    """Title, size of the ticks and a grid."""
    axes.set_title(title, fontsize=FONT_SIZE + 1)
    axes.tick_params(labelsize=FONT_SIZE - 1)
    axes.grid(alpha=0.3)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, in a folder that may not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=110)
    return path
