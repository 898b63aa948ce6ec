"""
What recipes/math.yaml needs in GPU memory, computed from sizes and not measured. Its table is this output.

    python scripts/memory_table.py

Everything is in GB of 10^9 bytes on one GPU, see trl_amft/doctor/memory.py. Parameters and gradients are in bfloat16;
under ZeRO-3 the float32 copy and Adam's moments are divided over the GPUs, with LoRA only the adapter has any. For any
other recipe: `python scripts/doctor.py --recipe FILE`.
"""

from pathlib import Path

from trl_amft.cli.recipe_file import read_recipe
from trl_amft.doctor.memory import Sizes, memory


RECIPE = Path(__file__).parents[1] / "recipes" / "math.yaml"


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
