"""Which source of demonstrations was trusted: the learned weight of each, seed by seed."""

from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from .study_figures import FONT_SIZE, PANEL, dress, save
from .study_results import StudyResults, three_digits


CURVES = "source_curves"


def runs_by_source(results: StudyResults) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """
    The runs that had a weight per source.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            Results of a study.

    Returns:
        `dict[tuple[str, str], list[dict[str, Any]]]`: rows by policy and condition.
    """
    found = {pair: [row for row in rows if row.get(CURVES)] for pair, rows in results.cells.items()}
    return {pair: rows for pair, rows in found.items() if rows}


def source_table(results: StudyResults) -> list[str]:
    """
    Lines of a Markdown table.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            Results of a study.

    Returns:
        `list[str]`: per run and source the mean of its weight over all mixed steps that were logged, and over the
        second half of them; empty if there is no such run.
    """
    lines = ["| policy | condition | seed | source | mean | second half |", "|---" * 6 + "|"]
    for (policy, condition), rows in runs_by_source(results).items():
        for row in rows:
            for source, curve in row[CURVES].items():
                weights = [weight for _, weight in curve]
                later = weights[len(weights) // 2 :]
                begin = f"| `{policy}` | {condition} | {row['seed']} | {source} |"
                lines.append(f"{begin} {three_digits(fmean(weights))} | {three_digits(fmean(later))} |")
    return lines if len(lines) > 2 else []


def plot_sources(results: StudyResults, path: Path) -> Path | None:
    """
    Weight of each source over optimizer steps, a line per seed.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            What to draw.
        path (`Path`):
            PNG to write.

    Returns:
        `Path`, *optional*: the file; `None` if there is nothing to draw.
    """
    pairs = runs_by_source(results)
    if not pairs:
        return None
    figure = Figure(figsize=(PANEL[0] * len(pairs), PANEL[1]), layout="constrained")
    for index, ((policy, condition), rows) in enumerate(pairs.items()):
        axes = figure.add_subplot(1, len(pairs), index + 1)
        for row in rows:
            for number, (source, curve) in enumerate(row[CURVES].items()):
                label = source if row is rows[0] else None
                axes.plot(*zip(*curve, strict=True), color=colormaps["tab10"](number), linewidth=1.2, label=label)
        axes.set_xlabel("optimizer step", fontsize=FONT_SIZE)
        axes.set_ylabel("weight of the source", fontsize=FONT_SIZE)
        axes.legend(fontsize=FONT_SIZE - 1)
        dress(axes, f"{policy}, {condition}")
    return save(figure, path)
