"""Either loss per prompt: imitate where the rollouts fail, explore where they do not."""

import torch
from torch import Tensor

from .policy import GroupBatch, MixingPolicy, MixingSignals, Number, RolloutBatch


def reaches(rewards: Tensor, threshold: float) -> Tensor:
    """
    Whether rewards are at least a threshold, but for the rounding of their sum in float32: .9 is not below .9.

    Args:
        rewards (`torch.Tensor`):
            Weighted sums of rewards. NaN, one without a reward, reaches nothing.
        threshold (`float`):
            The threshold.

    Returns:
        `torch.Tensor`: of the same shape.
    """
    return rewards >= threshold - 1e-6 * max(1.0, abs(threshold))


class PromptGatePolicy(MixingPolicy):
    """
    Base of the gates: the loss of a prompt is that of its demonstration if the prompt is chosen, else that of its
    rollouts.

    With s the share of chosen prompts, μ = s and the advantages of the other rollouts are multiplied by 1 / (1 − s),
    those of chosen prompts by 0: (1 − μ) L_RL + μ L_SFT is then TRL's loss of the rollouts that are not chosen, at
    their own weight, plus s times the token mean of the chosen demonstrations. With s = 0 it is GRPO. The share is
    taken over the generation batch, which is the step unless `steps_per_generation` says otherwise. KL and entropy
    terms of L_RL, where configured, have the weight 1 − s. A prompt without a demonstration is never chosen.
    """

    paired = True

    def global_weight(self, signals: MixingSignals) -> float:
        return signals.chosen_share

    def advantage_weights(self, rollouts: RolloutBatch) -> Tensor:
        assert rollouts.chosen is not None, "a paired policy is told what it has chosen"
        share = rollouts.chosen_share
        scale = 1.0 / (1.0 - share) if share < 1.0 else 0.0
        return torch.where(rollouts.chosen, 0.0, scale).to(rollouts.advantages.dtype)


class GatePolicy(PromptGatePolicy):
    """
    Gate by the number of solved rollouts: SFT on the demonstration of a prompt that at most `gate` of its rollouts
    solve, RL on the other prompts.

    Source: HPT (arXiv 2509.04419; gate 0, and 2 for weak base models) and SuperRL (arXiv 2506.01096). Deviation: both
    losses are means over tokens of the whole step, so long sequences weigh more than short ones.

    `mixing_policy_kwargs`:
        gate (`int`, *optional*, defaults to `0`):
            Largest number of solved rollouts at which a prompt is imitated, ≥ 0.
        pass_reward (`float`, *optional*, defaults to `1.0`):
            Weighted sum of rewards from which on a rollout counts as solved.
    """

    keywords = {"gate": Number(0, 0, whole=True), "pass_reward": Number(1.0, -1e9)}

    def chosen(self, groups: GroupBatch) -> Tensor:
        passes = reaches(groups.rewards, self.options["pass_reward"]).sum(dim=1)
        return (passes <= self.options["gate"]) & groups.demonstrated


class DeadGroupPolicy(PromptGatePolicy):
    """
    SFT on the demonstrations of dead groups, those that are all wrong and all rewarded alike, so that GRPO learns
    nothing from them. Unlike [`GatePolicy`] it leaves groups with partial credit to GRPO.

    Source: DyME (arXiv 2506.23061) and ReLIFT (arXiv 2506.07527). Deviations: no visual refinement (DyME); hard
    prompts are imitated in the same step instead of being collected in a buffer (ReLIFT).

    `mixing_policy_kwargs`:
        pass_reward (`float`, *optional*, defaults to `1.0`):
            Weighted sum of rewards from which on a rollout counts as right.
    """

    keywords = {"pass_reward": Number(1.0, -1e9)}

    def chosen(self, groups: GroupBatch) -> Tensor:
        wrong = reaches(groups.rewards, self.options["pass_reward"]).sum(dim=1) == 0
        return wrong & ~groups.varies & groups.demonstrated
