"""Constant weights: μ = `mu_init`, and the pipeline of two stages."""

from .policy import MixingPolicy


class FixedPolicy(MixingPolicy):
    """
    Constant μ = `mu_init` in [0, 1]; `mu_min` and `mu_max` do not apply.

    0 is GRPO exactly, with no demonstration drawn. 1 is supervised fine-tuning exactly, with no rollout made.

    Source: the public rows "RL with SFT loss" (LUFFY, arXiv 2504.14945, HPT, arXiv 2509.04419). Deviation: there the
    SFT loss is added with coefficient 1 to an RL loss of another normalisation; here both are token means and
    `mu_init=0.5` is the nearest equivalent.
    """

    def known_weight(self, step: int) -> float:
        return self.args.mu_init


class SFTThenRLPolicy(MixingPolicy):
    """
    Supervised fine-tuning, then GRPO: μ = 1 for `sft_warmup_steps` steps, then 0.

    Source: the usual pipeline of two stages; arXiv 2604.23747 asks for it as a row of every comparison. Deviation:
    one optimizer and one learning-rate schedule go through both stages.
    """

    def __init__(self, args):
        super().__init__(args)
        if args.sft_warmup_steps == 0:
            raise ValueError(
                "mixing_policy='sft_then_rl' with sft_warmup_steps=0 has no first stage: set sft_warmup_steps to its "
                "number of steps"
            )

    def known_weight(self, step: int) -> float:
        return 0.0
