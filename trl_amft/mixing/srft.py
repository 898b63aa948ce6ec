"""Weights from the entropy of the policy, one per sequence."""

import torch
from torch import Tensor

from .policy import DemonstrationBatch, MixingPolicy, MixingSignals, Number, RolloutBatch, sequence_means


class SRFTPolicy(MixingPolicy):
    """
    SRFT: L = a e^{−H(y*)} · L_SFT + L_RL with the advantages of positive rollouts times b e^{H(y)}, those of the
    others times 1. H is the mean entropy of the policy over the tokens of one sequence, detached.

    Written as (1 − μ) L_RL + μ L_SFT with μ = ½ and both weights doubled, so that the coefficients above hold.

    Source: arXiv 2506.19767 as re-implemented in the code of HPT (arXiv 2509.04419); the authors' own code was not
    found. Deviations: demonstrations are not also members of the RL groups; H of a rollout is at the sampling
    temperature, as TRL computes it; both losses are means over the tokens of the whole step. KL and entropy terms of
    L_RL, where configured, are not doubled.

    `mixing_policy_kwargs`:
        sft_scale (`float`, *optional*, defaults to `0.5`):
            a, ≥ 0.
        positive_scale (`float`, *optional*, defaults to `0.1`):
            b, ≥ 0.
    """

    keywords = {"sft_scale": Number(0.5, 0.0), "positive_scale": Number(0.1, 0.0)}
    reads_entropy = True

    def global_weight(self, signals: MixingSignals) -> float:
        return 0.5

    def demonstration_weights(self, demonstrations: DemonstrationBatch) -> Tensor:
        assert demonstrations.entropies is not None, "reads_entropy asks for them"
        entropies = sequence_means(demonstrations.entropies, demonstrations.mask)
        weights = 2.0 * self.options["sft_scale"] * (-entropies).exp()
        return weights.unsqueeze(1).expand_as(demonstrations.log_probs)

    def advantage_weights(self, rollouts: RolloutBatch) -> Tensor:
        assert rollouts.entropies is not None, "reads_entropy asks for them"
        entropies = sequence_means(rollouts.entropies, rollouts.mask)
        weights = self.options["positive_scale"] * entropies.exp()
        return 2.0 * torch.where(rollouts.advantages > 0.0, weights, torch.ones_like(weights))
