"""Rewards of finished completions, by the reward functions of training."""

import asyncio
import functools
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

from trl.trainer.utils import is_async_callable, start_event_loop_in_daemon


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
            Reward functions with TRL's signature; asynchronous ones are waited for. `None` in their result means "not
            applicable" and counts as 0.
        weights (`list[float]`):
            One per reward function.
        **extra:
            Further arguments of the reward functions. Of those that TRL gives, `trainer_state` is otherwise `None`, as
            nothing is trained, and what goes to `log_extra` and `log_metric` is dropped.

    Returns:
        `list[float]`
    """
    prompts = [row["prompt"] for row in rows]
    completions = texts if isinstance(prompts[0], str) else [[{"role": "assistant", "content": t}] for t in texts]
    given: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0] if key not in ("prompt", "completion")}
    given |= {"prompts": prompts, "completions": completions, "completion_ids": completion_ids}
    given |= {"trainer_state": None, "log_extra": no_log, "log_metric": no_log} | extra
    totals = [0.0] * len(rows)
    for reward_func, weight in zip(reward_funcs, weights, strict=True):
        scores = call_reward(reward_func, given)
        totals = [total + weight * (value or 0.0) for total, value in zip(totals, scores, strict=True)]
    return totals


def call_reward(reward_func: Callable, given: dict[str, Any], loop: AbstractEventLoop | None = None) -> list:
    """
    Args:
        reward_func (`Callable`):
            A reward function, which may be asynchronous.
        given (`dict[str, Any]`):
            Its arguments.
        loop (`AbstractEventLoop`, *optional*):
            Runs in another thread. An own one if not given, the same for all calls: connections belong to a loop.

    Returns:
        `list`: its rewards.
    """
    if not is_async_callable(reward_func):
        return reward_func(**given)
    return asyncio.run_coroutine_threadsafe(reward_func(**given), loop or _own_loop()).result()


def no_log(name: str, value: Any) -> None:
    """In the place of TRL's logs."""


@functools.cache
def _own_loop() -> AbstractEventLoop:
    _, loop, ready = start_event_loop_in_daemon(name="rewards")
    ready.wait()
    return loop
