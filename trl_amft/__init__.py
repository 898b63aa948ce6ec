"""AMFT for TRL: GRPO and supervised demonstrations in one step, mixed by a learned weight."""

from .compat import require_supported_trl


__version__ = "0.1.0"

require_supported_trl()

from .amft_config import AMFTConfig  # noqa: E402
from .amft_trainer import AMFTTrainer  # noqa: E402
from .callbacks import MixingWeightCallback  # noqa: E402
from .preemption import StopOnSignal  # noqa: E402


__all__ = ["AMFTConfig", "AMFTTrainer", "MixingWeightCallback", "StopOnSignal"]
