"""
What the rollouts of one optimizer step say beside their gradient: the policy's entropy H, and whether there is any
learning signal at all.
"""

from typing import Any, NamedTuple

import torch
from accelerate import Accelerator


# Key beside TRL's own inputs of the loss: (batch_size,), whether the rewards of the row's group differ.
GROUP_VARIES = "group_varies"


def total_rewards(rewards: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """
    What a completion is worth, as TRL sums it.

    Args:
        rewards (`torch.Tensor` of shape (batch_size, num_reward_functions)):
            Rewards; NaN where a function does not apply, which counts as 0.
        weights (`torch.Tensor` of shape (num_reward_functions,)):
            Weights of the functions.

    Returns:
        `torch.Tensor` of shape (batch_size,): NaN where no function applies.
    """
    total = (rewards * weights.to(rewards.device)).nansum(dim=1)
    return total.masked_fill(rewards.isnan().all(dim=1), torch.nan)


def group_varies(
    rewards: torch.Tensor, weights: torch.Tensor, num_generations: int, summed: bool = True
) -> torch.Tensor:
    """
    Whether what the advantages are made of differs inside each group. Advantages cannot tell: the mean of equal
    rewards such as 0.1 is off by rounding, which scaling by the standard deviation blows up.

    Args:
        rewards (`torch.Tensor` of shape (batch_size, num_reward_functions)):
            Rewards of whole groups in order; NaN where a function does not apply.
        weights (`torch.Tensor` of shape (num_reward_functions,)):
            Weights of the functions. One of weight 0 is only logged.
        num_generations (`int`):
            Completions per group.
        summed (`bool`, *optional*, defaults to `True`):
            Whether the weighted sum is compared, in which a function that does not apply counts as 0; otherwise each
            function for itself (`multi_objective_aggregation="normalize_then_sum"`).

    Returns:
        `torch.Tensor` of shape (batch_size,)
    """
    if summed:
        counted = total_rewards(rewards, weights)[:, None]
    else:
        counted = rewards.masked_fill(weights.to(rewards.device) == 0.0, 0.0)
    grouped = counted.view(-1, num_generations, counted.size(1))
    missing = grouped.isnan()
    highest = grouped.masked_fill(missing, -torch.inf).amax(dim=1)
    lowest = grouped.masked_fill(missing, torch.inf).amin(dim=1)
    return (highest > lowest).any(dim=1).repeat_interleave(num_generations)


class StepSignals(NamedTuple):
    """
    Args:
        entropy (`float`, *optional*):
            H in nats; `None` without a token.
        has_signal (`bool`):
            Whether any group of the step, on any process, has rewards that differ.
        tokens (`int`):
            Tokens of the step's rollouts that the policy sampled, over all processes.
    """

    entropy: float | None
    has_signal: bool
    tokens: int


class RolloutSignals:
    """
    Collects over the micro-batches of a step, reduces once over processes at its end.

    H is a mean over *tokens* of the whole accumulation window and all processes, so micro-batches of unequal length
    weigh by their tokens. TRL computes entropies at the sampling temperature; H and its target both have it.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Reduces over processes.
    """

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self.reset()

    def reset(self) -> None:
        """Forget the micro-batches of the step."""
        self._entropies: list[float] = []
        self._tokens: list[torch.Tensor] = []
        self._signals: list[torch.Tensor] = []

    def observe(self, inputs: dict[str, Any], entropy: float) -> None:
        """
        Take in one micro-batch.

        Args:
            inputs (`dict[str, Any]`):
                TRL's inputs of the loss; `completion_mask` and `tool_mask` of shape (batch_size, completion_len) and
                `group_varies` of shape (batch_size,) are read.
            entropy (`float`):
                Token-mean entropy of the micro-batch over all processes, as TRL logs it, in nats.
        """
        mask = inputs["completion_mask"]
        if "tool_mask" in inputs:
            mask = mask * inputs["tool_mask"]
        self._entropies.append(entropy)
        self._tokens.append(mask.sum())
        # A truncated completion may be masked as a whole; its advantage then moves nothing.
        self._signals.append((inputs[GROUP_VARIES] & (mask.sum(dim=1) > 0)).any())

    def reduce(self) -> StepSignals:
        """What the micro-batches of the step say together; the next step starts empty."""
        local = torch.stack([*self._tokens, torch.stack(self._signals).sum()])
        *tokens, signals = self._accelerator.reduce(local, reduction="sum").tolist()
        total = sum(tokens)
        weighted = sum(entropy * count for entropy, count in zip(self._entropies, tokens, strict=True))
        self.reset()
        return StepSignals(weighted / total if total else None, signals > 0, total)
