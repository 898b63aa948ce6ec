"""A demonstration as one more member of its group."""

import torch
from torch import Tensor

from .policy import DemonstrationBatch, GroupBatch, MixingPolicy, MixingSignals, Number, RolloutBatch


class LuffyPolicy(MixingPolicy):
    r"""
    LUFFY: the demonstration of a prompt joins its rollouts. All members are compared with their common mean, rollouts
    by TRL's loss, the demonstration by the shaped policy f(p) = p / (p + γ) without clipping:

        L = −1/(T_R + T_S) · [Σ_rollout tokens A_i r_t + Σ_demonstration tokens A* f(p_t)],  A = R − mean(R_1..R_G, R*)

    Written in two segments: μ = T_S / (T_R + T_S), the share of demonstration tokens among all tokens of the step;
    ∇f(p) = γ p / (p + γ)² · ∇log p, so token t of the demonstration gets the weight A* γ p / (p + γ)² on its negative
    log-likelihood. The gradient is exactly that of L for `loss_type="dapo"` where a generation batch is one step,
    otherwise on average; other types keep their own normalisation of the rollouts' part. A demonstration that the
    rewards reject has a negative advantage and is pushed away.

    Source: arXiv 2504.14945. Deviations: the group is G rollouts and the demonstration, not G − 1 of them and the
    demonstration; the reward of a demonstration is what the reward functions give it, once, before training; reused
    rollouts keep TRL's clipping; token means instead of a constant divisor; `scale_rewards` and
    `multi_objective_aggregation` have no effect, because the advantages are those above.

    `mixing_policy_kwargs`:
        gamma (`float`, *optional*, defaults to `0.1`):
            γ > 0, at which probability half of the full weight is reached.
    """

    keywords = {"gamma": Number(0.1, 1e-6)}
    paired = True
    scores_demonstrations = True

    def chosen(self, groups: GroupBatch) -> Tensor:
        return groups.demonstrated & ~groups.demonstration_rewards.isnan()

    def global_weight(self, signals: MixingSignals) -> float:
        total = signals.rollout_tokens + signals.demonstration_tokens
        return signals.demonstration_tokens / total if total > 0.0 else 0.0

    def advantages(self, rollouts: RolloutBatch) -> Tensor:
        rewards, means, sizes = rollouts.rewards, rollouts.group_means, rollouts.group_sizes
        own = rollouts.demonstration_rewards
        assert rewards is not None and means is not None and sizes is not None and own is not None
        return (rewards - joint_mean(means, sizes, own)).nan_to_num(0.0).to(rollouts.advantages.dtype)

    def demonstration_weights(self, demonstrations: DemonstrationBatch) -> Tensor:
        assert demonstrations.advantages is not None, "they are there where demonstrations are scored"
        gamma = self.options["gamma"]
        probabilities = demonstrations.log_probs.exp()
        shaping = gamma * probabilities / (probabilities + gamma).square()
        return demonstrations.advantages.unsqueeze(1) * shaping


def joint_mean(group_means: Tensor, group_sizes: Tensor, demonstration_rewards: Tensor) -> Tensor:
    """
    Mean reward of a group with its demonstration; without one, of the rollouts alone.

    Args:
        group_means (`torch.Tensor` of any shape):
            Mean reward of the rollouts.
        group_sizes (`torch.Tensor`, same shape):
            Their number.
        demonstration_rewards (`torch.Tensor`, same shape):
            Reward of the demonstration, NaN without one.

    Returns:
        `torch.Tensor`, same shape
    """
    joint = (group_means * group_sizes + demonstration_rewards) / (group_sizes + 1.0)
    return torch.where(demonstration_rewards.isnan(), group_means, joint)
