"""
What a failing reward function looks like: one line with the process and the cause, on every process.

Rewards are computed where the completions are and gathered afterwards. A process that raised before would leave the
others waiting, so a failure is sent through the gathering as infinite rewards, which all of them see.
"""

import math
from collections.abc import Callable
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from trl import GRPOTrainer
from trl.trainer.utils import is_async_callable

from ..runtime.checkpoints import ResumableError


class RewardError(ResumableError):
    """Rewards that cannot be used. Raised on every process."""


def guarded_rewards(trainer: GRPOTrainer, compute: Callable[[], Tensor]) -> Tensor:
    """
    Compute rewards, or say in one line why they cannot be used.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            Its reward functions are watched meanwhile.
        compute (`Callable[[], torch.Tensor]`):
            Gives the gathered rewards of shape (global_batch_size, num_reward_functions).

    Raises:
        [`RewardError`]: if a reward function raises, returns another number of rewards, or returns ±inf, on any
            process.
    """
    failures: list[Exception] = []
    functions = trainer.reward_funcs
    trainer.reward_funcs = [
        _watched(function, name, failures) if callable(function) and not isinstance(function, nn.Module) else function
        for function, name in zip(functions, trainer.reward_func_names, strict=True)
    ]
    try:
        rewards = compute()
    finally:
        trainer.reward_funcs = functions
    infinite = rewards.isinf().any(dim=0)
    if infinite.any():
        causes = gather_object([failure_line(trainer.accelerator, error) for error in failures])
        name = trainer.reward_func_names[int(infinite.nonzero()[0])]
        what = f"failed ({causes[0]})" if causes else "returned inf: return finite rewards"
        raise RewardError(f"the reward function {name!r} {what}") from (failures[0] if failures else None)
    return rewards


def failure_line(accelerator: Accelerator, error: Exception) -> str:
    """Class and first line of an error; before it the process, where there are several."""
    where = f"process {accelerator.process_index}: " if accelerator.num_processes > 1 else ""
    return where + f"{type(error).__name__}: {error}".splitlines()[0]


def _watched(function: Callable, name: str, failures: list[Exception]) -> Callable:
    """The same function, except that a failure is noted and answered with infinite rewards."""

    def checked(rewards: Any, count: int) -> list[float]:
        values = [math.nan if reward is None else float(reward) for reward in rewards]
        if len(values) != count:
            raise ValueError(f"it returned {len(values)} rewards, but {count} were expected, one per completion")
        return values

    def failed(error: Exception, count: int) -> list[float]:
        failures.append(error)
        return [-math.inf] * count

    if is_async_callable(function):

        async def watched_async(prompts, **kwargs):
            try:
                return checked(await function(prompts=prompts, **kwargs), len(prompts))
            except Exception as error:
                return failed(error, len(prompts))

        return watched_async

    def watched(prompts, **kwargs):
        try:
            return checked(function(prompts=prompts, **kwargs), len(prompts))
        except Exception as error:
            return failed(error, len(prompts))

    return watched
