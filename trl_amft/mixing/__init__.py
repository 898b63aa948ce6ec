"""Mixing policies: who decides the weight μ of imitation, step by step."""

from .amft import AMFTPolicy
from .fixed import FixedPolicy
from .policy import MixingPolicy, MixingSignals
from .replay import ReplayPolicy


MIXING_POLICIES: dict[str, type[MixingPolicy]] = {
    "amft": AMFTPolicy,
    "fixed": FixedPolicy,
    "replay": ReplayPolicy,
}

__all__ = ["MIXING_POLICIES", "AMFTPolicy", "FixedPolicy", "MixingPolicy", "MixingSignals", "ReplayPolicy"]
