"""The learned weight on the demonstrations of those prompts alone from which the rollouts learn nothing."""

from torch import Tensor

from .amft import AMFTPolicy
from .gates import dead_groups
from .policy import GroupBatch, MixingSignals, Number


class AMFTDeadGroupPolicy(AMFTPolicy):
    """
    Routing and learned weight together: L = (1 − μ) L_RL + μ L_SFT, where L_SFT is the token mean of the
    demonstrations of dead groups, those that are all wrong and all rewarded alike, and μ follows the law of
    [`AMFTPolicy`] with the sensitivity to exactly this loss.

    Where [`DeadGroupPolicy`] imitates a demonstration because its prompt is hard, this one also asks whether doing so
    raises the reward of later rollouts. A step without a dead group that has a demonstration is GRPO: its weight is 0
    and it brings no evidence, while the learned μ waits. Advantages are left as they are; those of dead groups are 0.

    Source: this project; routing as in DyME (arXiv 2506.23061) and ReLIFT (arXiv 2506.07527).

    `mixing_policy_kwargs`:
        pass_reward (`float`, *optional*, defaults to `1.0`):
            Weighted sum of rewards from which on a rollout counts as right.
    """

    keywords = {"pass_reward": Number(1.0, -1e9)}
    paired = True

    def chosen(self, groups: GroupBatch) -> Tensor:
        return dead_groups(groups, self.options["pass_reward"])

    def global_weight(self, signals: MixingSignals) -> float:
        learned = super().global_weight(signals)
        return learned if signals.demonstration_tokens > 0 else 0.0
