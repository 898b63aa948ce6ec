"""
What a run needs in GPU memory, computed from sizes and not measured.

A run has three phases that do not overlap (rollouts, micro-batches, optimizer step), and what stays through all of
them. Not in the numbers: fragmentation, and prompts that are longer than assumed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from ..demonstrations.supervised_head import TILE


SKETCH = 1_048_573 * 4  # one of 2W
FIXED = 2e9  # assumed: CUDA context, NCCL, workspace
ZERO3_BUFFERS = 2 * 1e9 + 2 * 2 * 5e8  # DeepSpeed's defaults: live parameters, and two buckets of gradients
SUB_GROUP = 1e9  # DeepSpeed's default: parameters whose gradients are float32 at once
HEAD_TILE = 4096 * TILE * 4  # TRL's fused head
VLLM_WORKSPACE = 2e9  # assumed

STAYS = ("weights", "gradients", "optimizer", "buffers")
PHASES = ("rollouts", "RL micro-batch", "SFT micro-batch", "optimizer step")
CACHE = "sequences in vLLM's cache"


@dataclass(frozen=True)
class Sizes:
    """Sizes of a decoder; the defaults are those of Qwen2.5-Math-7B. `counted` wins over the count from sizes."""

    vocabulary: int = 152_064
    hidden: int = 3_584
    layers: int = 28
    keys: int = 512  # key/value heads x head size
    intermediate: int = 18_944
    counted: int | None = None

    @property
    def parameters(self) -> int:
        """Input and output embeddings, and per layer attention with three biases, three projections and two norms."""
        if self.counted is not None:
            return self.counted
        attention = 2 * self.hidden * (self.hidden + self.keys) + self.hidden + 2 * self.keys
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return 2 * self.vocabulary * self.hidden + self.layers * layer + self.hidden

    def adapter(self, rank: int) -> int:
        """Parameters of LoRA on all linear layers but the head."""
        attention = 2 * (self.hidden + self.hidden) + 2 * (self.hidden + self.keys)
        return self.layers * rank * (attention + 3 * (self.hidden + self.intermediate))


def sizes_of(config: PretrainedConfig) -> Sizes:
    """
    Args:
        config ([`~transformers.PretrainedConfig`]):
            Of a model whose weights need not be there.

    Returns:
        [`Sizes`]: parameters counted on a model without memory.
    """
    text: Any = config.get_text_config()
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(text)
    return Sizes(
        vocabulary=text.vocab_size,
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * size,
        intermediate=text.intermediate_size,
        counted=sum(parameter.numel() for parameter in model.parameters()),
    )


def activations(model: Sizes, tokens: int, checkpointing: bool = True) -> float:
    """
    With gradient checkpointing: the input of every layer, and one layer in full with gradients of its middle. Without:
    every layer in full.
    """
    layer = 6 * model.hidden + 2 * model.keys + 6 * model.intermediate
    if not checkpointing:
        return 2.0 * tokens * model.layers * (model.hidden + layer)
    return 2.0 * tokens * (model.layers * model.hidden + layer)


def memory(
    model: Sizes,
    *,
    gpus: int,
    gpu_memory: float,
    rollouts: int,
    demonstrations: int,
    tokens: int,
    vllm_share: float,
    lora_rank: int | None = None,
    stage: int | None = None,
    offload: bool = False,
    checkpointing: bool = True,
    window: int = 10,
    generated: int = 0,
) -> dict[str, float]:
    """
    Bytes on one GPU, with bfloat16 parameters and gradients and a float32 copy beside Adam's moments. Parameters in
    float32 without such a copy, as DDP wants them, come to the same sum.

    Args:
        model (`Sizes`):
            The model.
        gpus (`int`):
            Number of GPUs; with one, nothing is divided.
        gpu_memory (`float`):
            Bytes of each.
        rollouts (`int`):
            Sequences of an RL micro-batch.
        demonstrations (`int`):
            Sequences of a supervised micro-batch; 0 for a run without.
        tokens (`int`):
            Longest sequence, prompt and completion.
        vllm_share (`float`):
            `vllm_gpu_memory_utilization`; 0 where no engine is on these GPUs.
        lora_rank (`int`, *optional*):
            Rank of an adapter on frozen weights; all parameters are trained if not given.
        stage (`int`, *optional*):
            What is divided over the GPUs: 3 all, 2 gradients and optimizer, 1 the optimizer, 0 nothing. 3 by default.
        offload (`bool`, *optional*, defaults to `False`):
            Whether the optimizer's state is on the CPU.
        checkpointing (`bool`, *optional*, defaults to `True`):
            Gradient checkpointing.
        window (`int`, *optional*, defaults to `10`):
            W of the meta-gradient; 0 where no weight is learned.
        generated (`int`, *optional*, defaults to `0`):
            Sequences that transformers generates at once, where vLLM does not.

    Returns:
        `dict[str, float]`: what stays, the peak of each phase with it, and how many sequences of full length vLLM's
        cache holds.
    """
    everything = model.parameters
    stage = (3 if stage is None else stage) if gpus > 1 else 0
    parts = {kind: gpus if stage >= least else 1 for kind, least in (("weights", 3), ("gradients", 2), ("state", 1))}
    if lora_rank is None:
        trained, width, state = float(everything), 2, 12.0
        stays = {"weights": 2.0 * everything / parts["weights"]}
    else:
        trained, width, state = float(model.adapter(lora_rank)), 4, 8.0
        parts["gradients"] = parts["state"] = 1
        stays = {"weights": 2.0 * everything + 4.0 * trained}
    own = trained / parts["gradients"]
    stepped = trained / parts["state"]
    stays |= {"gradients": width * own, "optimizer": 0.0 if offload else state * stepped}
    stays |= {"buffers": FIXED + 2 * window * SKETCH + (ZERO3_BUFFERS if stage == 3 else 0.0)}
    base = sum(stays.values())
    head = model.vocabulary * model.hidden
    # The fused head of TRL keeps float32 gradients of its weight, where that is trained, and of its input.
    fused = {n: HEAD_TILE + 4.0 * n * tokens * model.hidden for n in (rollouts, demonstrations)}
    if lora_rank is None:
        fused = {n: size + 6.0 * head for n, size in fused.items()}
    # Logits in bfloat16, their float32 log-probabilities, two float32 gradients, and the bfloat16 gradient.
    logits = (2 + 4 + 4 + 4 + 2) * float(demonstrations * tokens * model.vocabulary)
    supervised = fused[demonstrations] if model.vocabulary > TILE else logits
    cache_per_token = 2 * 2 * model.layers * model.keys
    vllm = vllm_share * gpu_memory
    peaks = {
        "rollouts": base + vllm + float(cache_per_token * tokens * generated),
        "RL micro-batch": base + activations(model, rollouts * tokens, checkpointing) + fused[rollouts],
        "SFT micro-batch": base
        + width * own
        + activations(model, demonstrations * tokens, checkpointing)
        + supervised,
        "optimizer step": base + width * own + 4.0 * min(SUB_GROUP, stepped),
    }
    if not demonstrations:
        del peaks["SFT micro-batch"]
    if vllm_share:
        cache = vllm - 2.0 * everything - VLLM_WORKSPACE
        peaks[CACHE] = cache / (cache_per_token * tokens)
    return stays | peaks
