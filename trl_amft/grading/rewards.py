"""The reward of maths and of multiple choice: 1 for the right final answer, 0 for any other."""

from collections.abc import Callable

from .grader import default_grader
from .undone import problem_text


def maths_reward(
    completions: list,
    solution: list[str | None],
    prompts: list | None = None,
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
        prompts (`list[str]` or `list[list[dict[str, Any]]]`, *optional*):
            Prompts. An answer that only says its problem again is wrong where they are given.
        log_metric (`Callable[[str, float], None]`, *optional*):
            Given by the trainer. Receives `grader/timed_out`, the number of completions of this call that count as
            wrong because time or memory ran out.
        **kwargs:
            Other columns, not used.

    Returns:
        `list[float | None]`: 1.0 or 0.0; `None` where there is no ground truth.
    """
    texts = [text if isinstance(text, str) else text[-1]["content"] or "" for text in completions]
    problems = None if prompts is None else [problem_text(prompt) for prompt in prompts]
    verdicts = default_grader().grade(texts, [gold or "" for gold in solution], problems)
    if log_metric is not None:
        log_metric("grader/timed_out", float(sum(verdict.undecided is not None for verdict in verdicts)))
    return [float(verdict.correct) if gold else None for verdict, gold in zip(verdicts, solution, strict=True)]
