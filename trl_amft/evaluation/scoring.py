"""Rewards of finished completions, by the reward functions of training."""

from collections.abc import Callable


def score(
    rows: list[dict],
    texts: list[str],
    completion_ids: list[list[int]],
    reward_funcs: list[Callable],
    weights: list[float],
    **extra,
) -> list[float]:
    """
    Weighted sum of the rewards of each completion.

    Args:
        rows (`list[dict]`):
            One row of the data set per completion, with `prompt` and the columns that the rewards read.
        texts (`list[str]`):
            Completions.
        completion_ids (`list[list[int]]`):
            Their token ids.
        reward_funcs (`list[Callable]`):
            Reward functions with TRL's signature. `None` in their result means "not applicable" and counts as 0.
        weights (`list[float]`):
            One per reward function.
        **extra:
            Further arguments of the reward functions.

    Returns:
        `list[float]`
    """
    prompts = [row["prompt"] for row in rows]
    completions = texts if isinstance(prompts[0], str) else [[{"role": "assistant", "content": t}] for t in texts]
    columns = {key: [row[key] for row in rows] for key in rows[0] if key not in ("prompt", "completion")}
    totals = [0.0] * len(rows)
    for reward_func, weight in zip(reward_funcs, weights, strict=True):
        scores = reward_func(
            prompts=prompts, completions=completions, completion_ids=completion_ids, **columns, **extra
        )
        totals = [total + weight * (value or 0.0) for total, value in zip(totals, scores, strict=True)]
    return totals
