"""A weight for every token of a demonstration, from its probability under the policy."""

from torch import Tensor

from .policy import DemonstrationBatch, MixingPolicy, Number


class ChordPhiPolicy(MixingPolicy):
    """
    CHORD-φ: L = (1 − μ) L_RL + μ · mean_t φ_t · (−log p_t) with φ_t = p_t (1 − p_t), p_t = π(y*_t) detached.

    Tokens that the policy is sure of and tokens that it holds for impossible are both left alone; φ ≤ 1/4. The mean is
    over all labelled tokens of the step, so φ also scales the loss as a whole.

    Source: arXiv 2508.11408. Deviation: μ is constant, as in that paper's φ rows, and both losses are means over the
    tokens of the whole step.

    `mixing_policy_kwargs`:
        mu (`float`, *optional*, defaults to `0.1`):
            μ in [0, 1]; `mu_init` has no effect.
    """

    keywords = {"mu": Number(0.1, 0.0, 1.0)}

    def known_weight(self, step: int) -> float:
        return self.options["mu"]

    def demonstration_weights(self, demonstrations: DemonstrationBatch) -> Tensor:
        probabilities = demonstrations.log_probs.exp()
        return probabilities * (1.0 - probabilities)
