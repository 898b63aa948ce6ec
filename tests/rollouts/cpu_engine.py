"""
vLLM's build for CPUs, for tests only.

It repacks weights for the processor and drops the originals, into which TRL has to load the weights of the next step.
It would also round models in float32 and compile for a minute. On a GPU nothing of this is needed.
"""

import os
from functools import partial


def prepare_cpu_engine() -> None:
    """Call before an engine is created."""
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    import trl.generation.vllm_generation
    import vllm._custom_ops
    import vllm.model_executor.layers.utils

    vllm._custom_ops._supports_onednn = False
    vllm.model_executor.layers.utils.check_cpu_sgl_kernel = lambda *args, **kwargs: False
    trl.generation.vllm_generation.LLM = partial(vllm.LLM, dtype="float32", enforce_eager=True)
