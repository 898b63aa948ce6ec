"""What every worker of `forked.launch` imports, once."""

from trl import import_utils


# None of these runs uses vLLM, and importing it takes longer than a run.
import_utils.is_vllm_available = lambda *args, **kwargs: False

import peft  # noqa: E402, F401

import sharded  # noqa: E402, F401
import toy  # noqa: E402, F401
import trl_amft  # noqa: E402, F401
from trl_amft import AMFTTrainer  # noqa: E402, F401
