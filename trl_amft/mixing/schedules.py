"""Weights that depend on the step only. Steps are counted from the end of the supervised warm-up."""

import math

from .policy import MixingPolicy, Number


class SchedulePolicy(MixingPolicy):
    """
    Base of schedules from `start` to `end` over `steps` steps, constant afterwards.

    `mixing_policy_kwargs`:
        start (`float`, *optional*, defaults to `0.9`):
            μ of the first step after the warm-up, in [0, 1].
        end (`float`, *optional*, defaults to `0.05`):
            μ after `steps` steps, in [0, 1].
        steps (`int`, *optional*):
            Length, ≥ 1. All steps of the run after the warm-up if not given.
    """

    keywords = {"start": Number(0.9, 0.0, 1.0), "end": Number(0.05, 0.0, 1.0), "steps": Number(None, 1, whole=True)}

    def __init__(self, args):
        super().__init__(args)
        self.length = self.options["steps"] or args.max_steps - args.sft_warmup_steps
        if self.options["steps"] is None and args.max_steps <= 0:
            raise ValueError(
                f"mixing_policy={args.mixing_policy!r} must know its length, but max_steps={args.max_steps}: set "
                "max_steps, or `steps` in mixing_policy_kwargs"
            )

    def known_weight(self, step: int) -> float:
        progress = min((step - self.args.sft_warmup_steps) / max(self.length, 1), 1.0)
        start, end = self.options["start"], self.options["end"]
        return end + (start - end) * self.remaining(progress)

    def remaining(self, progress: float) -> float:
        """Share of the way that is left, from 1 at `progress` 0 to 0 at `progress` 1."""
        raise NotImplementedError


class LinearPolicy(SchedulePolicy):
    """
    μ(t) = end + (start − end) · (1 − t / steps); keywords of [`SchedulePolicy`].

    Source: a common schedule, no single one.
    """

    def remaining(self, progress: float) -> float:
        return 1.0 - progress


class CosinePolicy(SchedulePolicy):
    """
    μ(t) = end + (start − end) · ½ (1 + cos(π t / steps)); keywords of [`SchedulePolicy`].

    Source: a common schedule, no single one.
    """

    def remaining(self, progress: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * progress))


class ChordMuPolicy(MixingPolicy):
    """
    CHORD-μ: μ(t) = peak · t / W for t < W, then valley + (peak − valley) · ½ (1 + cos(π (t − W) / D)), from W + D on
    valley.

    Source: arXiv 2508.11408, with the constants of its public implementations. Deviation: the paper's SFT stage and
    its data are not part of it; t counts from the end of `sft_warmup_steps`.

    `mixing_policy_kwargs`:
        warmup_steps (`int`, *optional*, defaults to `0`):
            W, ≥ 0.
        decay_steps (`int`, *optional*, defaults to `200`):
            D, ≥ 1.
        peak (`float`, *optional*, defaults to `0.9`):
            In [0, 1].
        valley (`float`, *optional*, defaults to `0.05`):
            In [0, 1].
    """

    keywords = {
        "warmup_steps": Number(0, 0, whole=True),
        "decay_steps": Number(200, 1, whole=True),
        "peak": Number(0.9, 0.0, 1.0),
        "valley": Number(0.05, 0.0, 1.0),
    }

    def known_weight(self, step: int) -> float:
        time = step - self.args.sft_warmup_steps
        warmup, decay = self.options["warmup_steps"], self.options["decay_steps"]
        peak, valley = self.options["peak"], self.options["valley"]
        if time < warmup:
            return peak * time / warmup
        if time >= warmup + decay:
            return valley
        return valley + (peak - valley) * 0.5 * (1.0 + math.cos(math.pi * (time - warmup) / decay))
