"""Mixing policies: who decides the weight μ of imitation, step by step."""

from .amft import AMFTPolicy
from .amft_paper import PAPER_SETTINGS, AMFTPaperPolicy
from .chord_phi import ChordPhiPolicy
from .fixed import FixedPolicy, SFTThenRLPolicy
from .gates import DeadGroupPolicy, GatePolicy
from .gradients import GradNormPolicy, VariancePolicy
from .luffy import LuffyPolicy
from .per_source import AMFTSourcesPolicy
from .policy import DemonstrationBatch, GroupBatch, MixingPolicy, MixingSignals, RolloutBatch
from .replay import ReplayPolicy
from .schedules import ChordMuPolicy, CosinePolicy, LinearPolicy
from .srft import SRFTPolicy


MIXING_POLICIES: dict[str, type[MixingPolicy]] = {
    "amft": AMFTPolicy,
    "amft_sources": AMFTSourcesPolicy,
    "amft_paper": AMFTPaperPolicy,
    "fixed": FixedPolicy,
    "sft_then_rl": SFTThenRLPolicy,
    "linear": LinearPolicy,
    "cosine": CosinePolicy,
    "chord_mu": ChordMuPolicy,
    "chord_phi": ChordPhiPolicy,
    "srft": SRFTPolicy,
    "gate": GatePolicy,
    "dead_group": DeadGroupPolicy,
    "luffy": LuffyPolicy,
    "grad_norm": GradNormPolicy,
    "variance": VariancePolicy,
    "replay": ReplayPolicy,
}

__all__ = [
    "MIXING_POLICIES",
    "PAPER_SETTINGS",
    "DemonstrationBatch",
    "GroupBatch",
    "MixingPolicy",
    "MixingSignals",
    "RolloutBatch",
    "AMFTPolicy",
    "FixedPolicy",
    "ReplayPolicy",
]
