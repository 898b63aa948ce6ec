"""A constant weight: μ = `mu_init`, whatever the bounds."""

from .policy import MixingPolicy


class FixedPolicy(MixingPolicy):
    """
    Constant μ = `mu_init` in [0, 1]; `mu_min` and `mu_max` do not apply.

    0 is GRPO exactly, with no demonstration drawn. 1 is supervised fine-tuning exactly, with no rollout made.
    """

    def known_weight(self, step: int) -> float:
        return self.args.mu_init
