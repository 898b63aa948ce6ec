"""
One PNG per run: what the trainer logged, over optimizer steps, one quantity per panel.

A run only gets the panels that it has numbers for: a supervised baseline has no reward, a plain GRPO run no SFT loss.
"""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


COLUMNS = 2
PANEL_SIZE = (6.0, 3.0)
FONT_SIZE = 11
COLORS = {"blue": "#0072B2", "orange": "#D55E00", "green": "#009E73", "grey": "#777777"}


class Series(NamedTuple):
    """Values of one logged quantity and the optimizer steps at which they were logged."""

    steps: list[int]
    values: list[float]


def series(log_history: list[dict], key: str) -> Series:
    """
    Collect one quantity from a log.

    Args:
        log_history (`list[dict]`):
            Rows as `TrainerState.log_history` holds them.
        key (`str`):
            Name of the quantity.

    Returns:
        [`Series`]: without the rows where it is absent, `None` or not finite.
    """
    rows = [(row["step"], row[key]) for row in log_history if isinstance(row.get(key), int | float)]
    rows = [(step, value) for step, value in rows if math.isfinite(value)]
    return Series([step for step, _ in rows], [value for _, value in rows])


def plot_run(
    log_history: list[dict],
    path: str | Path,
    *,
    warmup_steps: int,
    held_out: list[tuple[int, float, float]],
    mu_bounds: tuple[float, float] | None = None,
) -> Path:
    """
    Draw a run.

    Args:
        log_history (`list[dict]`):
            Rows as `TrainerState.log_history` holds them.
        path (`str` or `Path`):
            PNG to write.
        warmup_steps (`int`):
            Steps of the supervised warm-up, shaded in every panel.
        held_out (`list[tuple[int, float, float]]`):
            Step, accuracy and standard error of each evaluation on all held-out problems.
        mu_bounds (`tuple[float, float]`, *optional*):
            Bounds of a learned mixing weight.

    Returns:
        `Path`: the file written.
    """
    panels: list[tuple[str, Callable[[Axes], None]]] = [
        ("reward", lambda axes: _line(axes, log_history, "reward", "Training reward", "blue")),
        ("eval_reward", lambda axes: _held_out(axes, log_history, held_out)),
        ("amft/mu", lambda axes: _mixing_weight(axes, log_history, mu_bounds)),
        ("entropy", lambda axes: _entropy(axes, log_history)),
        ("amft/rl_loss", lambda axes: _line(axes, log_history, "amft/rl_loss", "RL loss", "blue")),
        ("amft/sft_loss", lambda axes: _line(axes, log_history, "amft/sft_loss", "SFT loss (nats/token)", "orange")),
    ]
    draws = [draw for key, draw in panels if series(log_history, key).steps or (key == "eval_reward" and held_out)]
    last_step = max([row["step"] for row in log_history] + [step for step, _, _ in held_out], default=1)

    rows = max(math.ceil(len(draws) / COLUMNS), 1)
    figure = Figure(figsize=(COLUMNS * PANEL_SIZE[0], rows * PANEL_SIZE[1]), layout="constrained")
    for index, draw in enumerate(draws, start=1):
        axes = figure.add_subplot(rows, COLUMNS, index)
        draw(axes)
        _dress(axes, warmup_steps, last_step, explain_shade=index == 1)

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=130)
    return path


def _line(axes: Axes, log_history: list[dict], key: str, title: str, color: str) -> None:
    steps, values = series(log_history, key)
    axes.plot(steps, values, color=COLORS[color], linewidth=1.6, marker="." if len(steps) < 30 else None)
    axes.set_title(title)


def _held_out(axes: Axes, log_history: list[dict], held_out: list[tuple[int, float, float]]) -> None:
    # The rewards of a run may be others than what makes an answer right.
    key = "held_out_part/accuracy" if series(log_history, "held_out_part/accuracy").steps else "eval_reward"
    steps, values = series(log_history, key)
    if steps:
        axes.plot(steps, values, color=COLORS["green"], linewidth=1.4, label=f"{key}, during training")
    if held_out:
        at, accuracy, error = zip(*held_out, strict=True)
        bars = [value if math.isfinite(value) else 0.0 for value in error]
        label = "all held-out problems, ± 1 standard error"
        axes.errorbar(at, accuracy, yerr=bars, fmt="o", color=COLORS["orange"], capsize=4, label=label)
    axes.set_title("Held-out accuracy" if held_out or key != "eval_reward" else "Held-out reward")


def _mixing_weight(axes: Axes, log_history: list[dict], bounds: tuple[float, float] | None) -> None:
    _line(axes, log_history, "amft/mu", "Mixing weight μ (1 = imitation only)", "blue")
    for index, bound in enumerate(bounds or ()):
        label = "bounds" if index == 0 else None
        axes.axhline(bound, color=COLORS["grey"], linestyle="--", linewidth=1, label=label)
    axes.set_ylim(-0.03, 1.03)


def _entropy(axes: Axes, log_history: list[dict]) -> None:
    _line(axes, log_history, "entropy", "Policy entropy (nats per token)", "blue")
    entropy = dict(zip(*series(log_history, "entropy"), strict=True))
    gap = dict(zip(*series(log_history, "amft/entropy_gap"), strict=True))
    # The gap is target minus entropy, so the target itself need not be logged.
    targets = [entropy[step] + gap[step] for step in entropy if step in gap]
    if targets:
        axes.axhline(median(targets), color=COLORS["grey"], linestyle="--", linewidth=1, label="target")


def _dress(axes: Axes, warmup_steps: int, last_step: int, explain_shade: bool) -> None:
    if warmup_steps > 0:
        label = "warm-up" if explain_shade else None
        end = min(warmup_steps, last_step)
        axes.axvspan(0, end, color=COLORS["grey"], alpha=0.15, linewidth=0, label=label)
    # A little more than the run, or the markers at both ends are cut in half.
    axes.set_xlim(-0.02 * last_step, 1.02 * last_step)
    axes.set_xlabel("optimizer step", fontsize=FONT_SIZE)
    axes.set_title(axes.get_title(), fontsize=FONT_SIZE + 2)
    axes.tick_params(labelsize=FONT_SIZE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=FONT_SIZE - 2, loc="best")
