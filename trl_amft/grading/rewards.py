"""The reward of maths and of multiple choice: 1 for the right final answer, 0 for any other."""

from collections.abc import Callable

from .grader import default_grader


def maths_reward(
    completions: list,
    solution: list[str | None],
    log_metric: Callable[[str, float], None] | None = None,
    **kwargs,
) -> list[float | None]:
    """
    Reward function of TRL, for any thread.

    Args:
        completions (`list[str]` or `list[list[dict[str, str]]]`):
            Completions, as text or as messages of which the last one is read.
        solution (`list[str]`):
            Ground truths: a formula, framed by `\\boxed{}` or not, or the letter of an option from A to J.
        log_metric (`Callable[[str, float], None]`, *optional*):
            Given by the trainer. Receives `grader/timed_out`, the number of completions of this call that count as
            wrong because time or memory ran out.
        **kwargs:
            Other columns, not used.

    Returns:
        `list[float | None]`: 1.0 or 0.0; `None` where there is no ground truth.
    """
    texts = [text if isinstance(text, str) else text[-1]["content"] or "" for text in completions]
    verdicts = default_grader().grade(texts, [gold or "" for gold in solution])
    if log_metric is not None:
        log_metric("grader/timed_out", float(sum(verdict.undecided is not None for verdict in verdicts)))
    return [float(verdict.correct) if gold else None for verdict, gold in zip(verdicts, solution, strict=True)]
