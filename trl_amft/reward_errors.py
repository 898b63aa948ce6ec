"""What a failing reward function looks like: one line with the step, the cause, and where to go on from."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor
from transformers.trainer_utils import get_last_checkpoint


if TYPE_CHECKING:
    from .amft_trainer import AMFTTrainer


def guarded_rewards(trainer: "AMFTTrainer", compute: Callable[[], Tensor]) -> Tensor:
    """
    Compute rewards, or say in one line why they cannot be used.

    Args:
        trainer ([`AMFTTrainer`]):
            Tells step, reward names and checkpoints.
        compute (`Callable[[], torch.Tensor]`):
            Gives the rewards of shape (batch_size, num_reward_functions).

    Raises:
        `RuntimeError`: if a reward function raises, returns another number of rewards, or returns ±inf.
    """
    try:
        rewards = compute()
    except Exception as error:
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RuntimeError(_at_checkpoint(trainer, f"a reward function failed ({cause})")) from error
    infinite = rewards.isinf().any(dim=0)
    if infinite.any():
        name = trainer.reward_func_names[int(infinite.nonzero()[0])]
        raise RuntimeError(
            _at_checkpoint(trainer, f"the reward function {name!r} returned inf: return finite rewards")
        )
    return rewards


def _at_checkpoint(trainer: "AMFTTrainer", message: str) -> str:
    folder = trainer.args.output_dir
    checkpoint = get_last_checkpoint(folder) if os.path.isdir(folder) else None
    where = f"resume from {checkpoint}" if checkpoint else "no checkpoint was saved yet"
    return f"step {trainer.state.global_step}: {message}; {where}"
