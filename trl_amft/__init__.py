"""AMFT for TRL: GRPO and supervised demonstrations in one step, mixed by a learned weight."""

import importlib
from typing import TYPE_CHECKING, Any

from .compat import require_supported_trl


if TYPE_CHECKING:
    from .amft_config import AMFTConfig
    from .amft_trainer import AMFTTrainer
    from .callbacks import MixingWeightCallback
    from .runtime.preemption import StopOnSignal


__version__ = "0.1.0"

require_supported_trl()

# Imported when they are asked for: the trainer brings torch, TRL and vLLM, which a report does not need.
_PLACES = {
    "AMFTConfig": "amft_config",
    "AMFTTrainer": "amft_trainer",
    "MixingWeightCallback": "callbacks",
    "StopOnSignal": "runtime.preemption",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})


__all__ = ["AMFTConfig", "AMFTTrainer", "MixingWeightCallback", "StopOnSignal"]
