"""What a mixing policy sees and what it must answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..compat import as_mapping
from ..gradient_moments import GradientVariances
from ..meta_window import MetaGradient


if TYPE_CHECKING:
    from ..amft_config import AMFTConfig


@dataclass(frozen=True)
class MixingSignals:
    """
    What is known about a step when its weight is decided. All numbers are detached and equal on every rank.

    Args:
        step (`int`):
            Optimizer steps already taken.
        entropy (`float`, *optional*):
            Token-mean entropy of the policy on the step's rollouts, in nats; `None` without rollouts.
        meta_gradient ([`~trl_amft.meta_window.MetaGradient`], *optional*):
            Estimate of dU/dμ; `None` where the step brings no evidence; by source for a policy that weighs sources.
        learning_rate (`float`, *optional*, defaults to `0.0`):
            Learning rate of the step.
        rl_grad_norm (`float`, *optional*, defaults to `0.0`):
            ‖g_RL‖.
        sft_grad_norm (`float`, *optional*, defaults to `0.0`):
            ‖g_SFT‖.
        variances ([`~trl_amft.gradient_moments.GradientVariances`], *optional*):
            Noise and disagreement of the two gradients, for a policy that asks for them.
        chosen_share (`float`, *optional*, defaults to `0.0`):
            Share of the rollouts, in [0, 1], whose prompt's demonstration a paired policy has chosen.
        rollout_tokens (`float`, *optional*, defaults to `0.0`):
            Tokens of the step's rollouts.
        demonstration_tokens (`float`, *optional*, defaults to `0.0`):
            Labelled tokens of the step's demonstrations.
    """

    step: int
    entropy: float | None = None
    meta_gradient: MetaGradient | dict[str, MetaGradient] | None = None
    learning_rate: float = 0.0
    rl_grad_norm: float = 0.0
    sft_grad_norm: float = 0.0
    variances: GradientVariances | None = None
    chosen_share: float = 0.0
    rollout_tokens: float = 0.0
    demonstration_tokens: float = 0.0


@dataclass(frozen=True)
class GroupBatch:
    """
    The groups of a generation batch, over all processes.

    Args:
        rewards (`torch.Tensor` of shape (num_groups, num_generations)):
            Weighted sum of rewards; NaN where no reward function applies.
        varies (`torch.Tensor` of shape (num_groups,)):
            Whether the rewards of the group differ.
        demonstrated (`torch.Tensor` of shape (num_groups,)):
            Whether the prompt has a demonstration.
        demonstration_rewards (`torch.Tensor` of shape (num_groups,)):
            Reward of that demonstration; NaN without one, and for policies that do not ask for it.
    """

    rewards: Tensor
    varies: Tensor
    demonstrated: Tensor
    demonstration_rewards: Tensor


@dataclass(frozen=True)
class RolloutBatch:
    """
    The rollouts of a micro-batch before their loss. Detached.

    Args:
        advantages (`torch.Tensor` of shape (batch_size,)):
            TRL's advantages.
        mask (`torch.Tensor` of shape (batch_size, completion_len)):
            1 at tokens that the policy sampled.
        entropies (`torch.Tensor` of shape (batch_size, completion_len), *optional*):
            Entropy of the policy at each of them, in nats at the sampling temperature, if `reads_entropy`.
        chosen (`torch.Tensor` of shape (batch_size,), *optional*):
            Whether the demonstration of the prompt was chosen; this and the rest for paired policies only.
        chosen_share (`float`, *optional*, defaults to `0.0`):
            Share of chosen rollouts in the whole generation batch.
        rewards (`torch.Tensor` of shape (batch_size,), *optional*):
            Rewards; NaN where no reward function applies.
        group_means (`torch.Tensor` of shape (batch_size,), *optional*):
            Mean reward of the group, without its demonstration.
        demonstration_rewards (`torch.Tensor` of shape (batch_size,), *optional*):
            As in [`GroupBatch`], one per rollout.
        group_sizes (`torch.Tensor` of shape (batch_size,), *optional*):
            Number of rollouts of the group that have a reward.
    """

    advantages: Tensor
    mask: Tensor
    entropies: Tensor | None = None
    chosen: Tensor | None = None
    chosen_share: float = 0.0
    rewards: Tensor | None = None
    group_means: Tensor | None = None
    demonstration_rewards: Tensor | None = None
    group_sizes: Tensor | None = None


@dataclass(frozen=True)
class DemonstrationBatch:
    """
    The demonstration tokens of a micro-batch. Detached.

    Args:
        log_probs (`torch.Tensor` of shape (batch_size, seq_len)):
            log π of each labelled token at temperature 1; 0 elsewhere.
        mask (`torch.Tensor` of shape (batch_size, seq_len)):
            True at labelled tokens.
        entropies (`torch.Tensor` of shape (batch_size, seq_len), *optional*):
            Entropy of the policy at each position, in nats at temperature 1, if `reads_entropy`.
        advantages (`torch.Tensor` of shape (batch_size,), *optional*):
            Advantage of the demonstration as a member of its group, for policies that ask for demonstration rewards.
    """

    log_probs: Tensor
    mask: Tensor
    entropies: Tensor | None = None
    advantages: Tensor | None = None


class Number(NamedTuple):
    """
    A number among `mixing_policy_kwargs`: its default and range.

    Args:
        default (`float` or `int`, *optional*):
            Value if not given.
        low (`float`):
            Lowest value.
        high (`float`, *optional*, defaults to infinity):
            Highest value.
        whole (`bool`, *optional*, defaults to `False`):
            Whether it must be an integer.
    """

    default: float | None
    low: float
    high: float = math.inf
    whole: bool = False


class MixingPolicy:
    """
    Decides how demonstrations and rollouts weigh: L = (1 − μ) L_RL + μ L_SFT.

    A policy that knows μ before the step answers [`~MixingPolicy.known_weight`]; the trainer then leaves out the
    segment of weight 0. Any other policy is asked for [`~MixingPolicy.global_weight`] once both gradients are there.
    Inside the two losses a policy may weigh tokens of demonstrations and advantages of rollouts. All answers are
    constants of the step: no gradient flows through them.

    Attributes:
        keywords (`dict[str, Number | None]`):
            Entries of `mixing_policy_kwargs` that the policy takes; `None` for one that is no number.
        bounded (`bool`):
            Whether it starts at `mu_init` and stays in [`mu_min`, `mu_max`].
        needs_meta_gradient (`bool`):
            Whether dU/dμ is estimated for it.
        needs_variances (`bool`):
            Whether noise and disagreement of the gradients are.
        reads_entropy (`bool`):
            Whether its token or advantage weights read entropies.
        paired (`bool`):
            Whether it imitates the demonstrations of the prompts that were just rolled out, those that
            [`~MixingPolicy.chosen`] names, instead of drawing from all.
        scores_demonstrations (`bool`):
            Whether it needs the rewards of demonstrations.
        per_source (`bool`):
            Whether it has a weight for every source of demonstrations.
    """

    keywords: dict[str, Number | None] = {}
    bounded = False
    needs_meta_gradient = False
    needs_variances = False
    reads_entropy = False
    paired = False
    scores_demonstrations = False
    per_source = False

    def __init__(self, args: AMFTConfig):
        self.args = args
        self.source_weights: dict[str, float] = {}
        given = as_mapping(args.mixing_policy_kwargs)
        self.options: dict[str, Any] = {
            name: _checked(name, given[name], number) if name in given else number.default
            for name, number in self.keywords.items()
            if number is not None
        }

    def known_weight(self, step: int) -> float | None:
        """μ of optimizer step `step` (0-based) if it depends on nothing else, otherwise `None`."""
        return None

    def global_weight(self, signals: MixingSignals) -> float:
        """μ in [0, 1] of the step that the signals describe. Called once per optimizer step, on every rank."""
        raise TypeError(f"{type(self).__name__} must define known_weight or global_weight")

    def demonstration_weights(self, demonstrations: DemonstrationBatch) -> Tensor | None:
        """Factors of shape (batch_size, seq_len) on the negative log-likelihoods; `None` means 1."""
        return None

    def advantage_weights(self, rollouts: RolloutBatch) -> Tensor | None:
        """Factors of shape (batch_size,) on the advantages; `None` means 1."""
        return None

    def advantages(self, rollouts: RolloutBatch) -> Tensor:
        """Advantages of shape (batch_size,) that take the place of TRL's."""
        weights = self.advantage_weights(rollouts)
        return rollouts.advantages if weights is None else rollouts.advantages * weights

    def chosen(self, groups: GroupBatch) -> Tensor:
        """Paired policies: of which groups, (num_groups,), the demonstration is imitated."""
        raise TypeError(f"{type(self).__name__} is paired and must define chosen")

    def metrics(self) -> dict[str, float]:
        """Further numbers to log, by name without the `amft/` prefix."""
        return {}

    def state(self) -> dict[str, Any]:
        """Plain JSON state for the checkpoint."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what [`~MixingPolicy.state`] returned."""


def sequence_means(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the masked tokens of each row, (batch_size,); 0 for a row without any."""
    mask = mask.to(values.dtype)
    # Not a product: positions outside the mask may hold anything, infinities included.
    return torch.where(mask > 0, values, 0.0).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)


def _checked(name: str, value: Any, number: Number) -> float:
    kind = "an integer" if number.whole else "a number"
    fits = isinstance(value, int if number.whole else (int, float)) and not isinstance(value, bool)
    if not fits or not number.low <= value <= number.high or not math.isfinite(value):
        closing = "]" if math.isfinite(number.high) else ")"
        raise ValueError(
            f"mixing_policy_kwargs: {name}={value!r} is not usable: give {kind} in [{number.low:g}, "
            f"{number.high:g}{closing}"
        )
    return value
