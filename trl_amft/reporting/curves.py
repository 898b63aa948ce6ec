"""
The curves of a run: what was logged under a name, and what follows from the log, such as why μ moved.

A run that lacks the numbers has a curve without points.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .run_figure import Series, series
from .run_folder import Run


@dataclass(frozen=True)
class Line:
    """
    One curve.

    Args:
        label (`str`):
            Its name in the legend.
        read (`Callable[[Run], Series]`):
            Its points.
    """

    label: str
    read: Callable[[Run], Series]


def logged(key: str, label: str = "") -> Line:
    """A curve of what was logged under a name."""
    return Line(label or key, lambda run: series(run.log, key))


def held_out_during_training(run: Run) -> Series:
    """Accuracy of the part that the train command evaluates; the reward of TRL's evaluation for other runs."""
    found = series(run.log, "held_out_part/accuracy")
    return found if found.steps else series(run.log, "eval_reward")


def moved_by_entropy(run: Run) -> Series:
    """
    Sum of η_H (H* − H) over the steps so far: what the entropy term has added to μ.

    A log holds means over the steps since the log before, so the sum is exact whatever `logging_steps` is, but for
    steps at a bound, where the law clips.
    """
    rate = float(run.setting("mu_entropy_lr"))
    gaps = series(run.log, "amft/entropy_gap")
    total, before, sums = 0.0, run.warmup_steps, []
    for step, gap in zip(*gaps, strict=True):
        total += rate * gap * max(step - before, 0)
        before = step
        sums.append(total)
    return Series(gaps.steps, sums)


def moved_by_evidence(run: Run) -> Series:
    """What is left of μ's way from its first value: the term of dU/dμ, and what the bounds have cut off."""
    entropy = dict(zip(*moved_by_entropy(run), strict=True))
    weights = dict(zip(*series(run.log, "amft/mu"), strict=True))
    steps = [step for step in weights if step in entropy]
    if not steps:
        return Series([], [])
    start = float(run.setting("mu_init")) if run.recipe else weights[steps[0]]
    return Series(steps, [weights[step] - start - entropy[step] for step in steps])


def entropy_target(run: Run) -> Series:
    """H*: the gap is target minus entropy, so the target itself need not be logged."""
    entropy = dict(zip(*series(run.log, "entropy"), strict=True))
    gap = dict(zip(*series(run.log, "amft/entropy_gap"), strict=True))
    steps = [step for step in entropy if step in gap]
    return Series(steps, [entropy[step] + gap[step] for step in steps])


def tokens_per_second(run: Run) -> Series:
    """Tokens of rollouts and demonstrations per second of a step."""
    rows = [row for row in run.log if isinstance(row.get("time/step"), float) and row["time/step"] > 0.0]
    steps, values, before = [], [], {"step": 0, "num_tokens": 0.0}
    for row in rows:
        taken = max(row["step"] - before["step"], 1)
        rollouts = (row.get("num_tokens") or before["num_tokens"]) - before["num_tokens"]
        demonstrations = row.get("demonstrations/tokens") or 0.0
        steps.append(row["step"])
        values.append((rollouts / taken + demonstrations) / row["time/step"])
        before = {"step": row["step"], "num_tokens": before["num_tokens"] + rollouts}
    return Series(steps, values)
