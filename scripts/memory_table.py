"""
What recipes/math.yaml needs in GPU memory, computed from sizes and not measured. Its table is this output.

    python scripts/memory_table.py

Everything is in GB of 10^9 bytes on one GPU. A run has three phases that do not overlap, and what stays through all of
them. Parameters and gradients are in bfloat16; under ZeRO-3 the float32 copy and Adam's moments are divided over the
GPUs, with LoRA only the adapter has any. Not in the table: fragmentation, and prompts longer than 1,024 tokens.
"""

from dataclasses import dataclass
from pathlib import Path

from trl_amft.cli.recipe_file import read_recipe


RECIPE = Path(__file__).parents[1] / "recipes" / "math.yaml"

SKETCHES = 20 * 1_048_573 * 4  # 2W of them, W = 10
FIXED = 2e9  # assumed: CUDA context, NCCL, workspace
ZERO3_BUFFERS = 2 * 1e9 + 2 * 2 * 5e8  # DeepSpeed's defaults: live parameters, and two buckets of gradients
SUB_GROUP = 1e9  # DeepSpeed's default: parameters whose gradients are float32 at once
HEAD_TILE = 4096 * 32768 * 4  # TRL's fused head
VLLM_WORKSPACE = 2e9  # assumed


@dataclass(frozen=True)
class Sizes:
    """Sizes of a Qwen2 model; the defaults are those of Qwen2.5-Math-7B."""

    vocabulary: int = 152_064
    hidden: int = 3_584
    layers: int = 28
    keys: int = 512  # key/value heads x head size
    intermediate: int = 18_944

    @property
    def parameters(self) -> int:
        """Input and output embeddings, and per layer attention with three biases, three projections and two norms."""
        attention = 2 * self.hidden * (self.hidden + self.keys) + self.hidden + 2 * self.keys
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return 2 * self.vocabulary * self.hidden + self.layers * layer + self.hidden

    def adapter(self, rank: int) -> int:
        """Parameters of LoRA on all linear layers but the head."""
        attention = 2 * (self.hidden + self.hidden) + 2 * (self.hidden + self.keys)
        return self.layers * rank * (attention + 3 * (self.hidden + self.intermediate))


def activations(model: Sizes, tokens: int) -> float:
    """With gradient checkpointing: the input of every layer, and one layer in full with gradients of its middle."""
    kept = model.layers * model.hidden
    layer = 6 * model.hidden + 2 * model.keys + 6 * model.intermediate
    return 2.0 * tokens * (kept + layer)


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
) -> dict[str, float]:
    """
    Bytes on one GPU.

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
            Sequences of a supervised micro-batch.
        tokens (`int`):
            Longest sequence, prompt and completion.
        vllm_share (`float`):
            `vllm_gpu_memory_utilization`.
        lora_rank (`int`, *optional*):
            Rank of an adapter on frozen weights; all parameters are trained if not given.

    Returns:
        `dict[str, float]`: what stays, the peak of each phase with it, and how many sequences of full length vLLM's
        cache holds.
    """
    everything = model.parameters
    if lora_rank is None:
        trained, width, state = everything / gpus, 2, 12.0
        stays = {"weights": 2.0 * everything / gpus}
    else:
        trained, width, state = model.adapter(lora_rank), 4, 8.0
        stays = {"weights": 2.0 * everything + 4.0 * trained}
    stays |= {"gradients": width * trained, "optimizer": state * trained}
    stays |= {"buffers": FIXED + SKETCHES + (ZERO3_BUFFERS if gpus > 1 else 0.0)}
    base = sum(stays.values())
    head = model.vocabulary * model.hidden
    # The fused head of TRL keeps float32 gradients of its weight, where that is trained, and of its input.
    fused = HEAD_TILE + 4.0 * rollouts * tokens * model.hidden + (6.0 * head if lora_rank is None else 0.0)
    # Logits in bfloat16, their float32 log-probabilities, two float32 gradients, and the bfloat16 gradient.
    logits = (2 + 4 + 4 + 4 + 2) * float(demonstrations * tokens * model.vocabulary)
    cache_per_token = 2 * 2 * model.layers * model.keys
    vllm = vllm_share * gpu_memory
    cache = vllm - 2.0 * everything - VLLM_WORKSPACE
    return stays | {
        "rollouts": base + vllm,
        "RL micro-batch": base + activations(model, rollouts * tokens) + fused,
        "SFT micro-batch": base + width * trained + activations(model, demonstrations * tokens) + logits,
        "optimizer step": base + width * trained + 4.0 * min(SUB_GROUP, trained),
        "sequences in vLLM's cache": cache / (cache_per_token * tokens),
    }


def table() -> list[str]:
    """The lines of the table in the recipe."""
    recipe = read_recipe(RECIPE)
    common = {
        "rollouts": recipe["per_device_train_batch_size"],
        "demonstrations": recipe["per_device_demonstration_batch_size"],
        "tokens": recipe["vllm_max_model_length"],
        "vllm_share": recipe["vllm_gpu_memory_utilization"],
    }
    columns = {
        "8 x 80 GB": memory(Sizes(), gpus=8, gpu_memory=80e9, **common),
        "8 x 141 GB": memory(Sizes(), gpus=8, gpu_memory=141e9, **common),
        "1 x 80 GB, LoRA": memory(Sizes(), gpus=1, gpu_memory=80e9, lora_rank=64, **common),
        "1 x 80 GB, full": memory(Sizes(), gpus=1, gpu_memory=80e9, **common),
    }
    lines = [f"{'GB on each GPU, computed':26}" + "".join(f"{name:>17}" for name in columns)]
    for row in next(iter(columns.values())):
        scale, digits = (1, 0) if row.startswith("sequences") else (1e9, 1)
        lines.append(f"{row:26}" + "".join(f"{column[row] / scale:>17.{digits}f}" for column in columns.values()))
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
