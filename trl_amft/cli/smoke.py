"""
`--smoke`: the same recipe with a tiny random model, a few rows and two short phases, to see in a minute that it runs.

Needs neither network nor GPU. What this machine cannot run is left out and named; everything else of the recipe, its
mixing, its loss and its optimizer, stays. A field on the command line wins over `--smoke`.
"""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig

from ..tasks import SMOKE_KWARGS
from ..tiny_model import IMAGE_MODEL_TYPE, MODEL_TYPES
from .usage import UsageError


ROWS = 16

HELP = f"""\
--smoke runs the recipe in small, offline. The model becomes a tiny random one of the same family with a character
tokenizer, a task's data from the Hub synthetic rows of the same schema, and any data at most {ROWS} rows. max_steps is
one supervised step (where the recipe has a warm-up) and one mixed step, otherwise two. num_generations and both batch
sizes per device are 2; demonstrations per device and gradient_accumulation_steps at most 2; max_completion_length at
most 16; max_demonstration_length 1024, beyond which demonstrations are cut. Every step is logged, one checkpoint is
written and one evaluation made where the recipe has any; report_to is none, push_to_hub false, resume_from_checkpoint
null, output_dir outputs/smoke/RECIPE. Without a GPU: use_cpu, and neither vLLM nor kernels nor bf16. What else is on
the command line wins.
"""

# Sizes of the tiny model. vLLM's attention on a CPU takes heads of a multiple of 32.
TINY_MODEL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 2048}

# What belongs to the model or the data that are replaced, or to a larger batch: back to its default.
DROPPED = (
    *("model_revision", "model_config", "model_init_kwargs", "load_in_4bit", "load_in_8bit", "vllm_max_model_length"),
    *("dataset_config", "dataset_streaming", "demonstration_dataset_config", "resume_from_checkpoint"),
    *("steps_per_generation", "generation_batch_size", "num_generations_eval", "meta_batch_size"),
)
ALWAYS = {
    "num_generations": 2,
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 2,
    # In characters: dropping the longer ones would often leave none.
    "max_demonstration_length": 1024,
    "demonstration_truncation": "truncate",
    "logging_steps": 1,
    "report_to": "none",
    "push_to_hub": False,
    "save_total_limit": 1,
}
AT_MOST = {
    "per_device_demonstration_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_completion_length": 16,
    "max_eval_samples": 4,
    "held_out_samples": 1,
    "validation_samples": 4,
    "meta_interval": 1,
    "dataloader_num_workers": 0,
}
DATASETS = ("dataset_name", "demonstration_dataset_name")
GPU_ONLY = ("attn_implementation", "use_liger_kernel", "tf32", "torch_compile")


@dataclass(frozen=True)
class Machine:
    """
    What decides which keys of a recipe can be run.

    Args:
        gpu (`bool`):
            Whether there is one.
        bf16 (`bool`):
            Whether it computes in bfloat16.
        vllm (`bool`):
            Whether vLLM is installed.
        deepspeed (`bool`):
            Whether DeepSpeed is installed.
        processes (`int`):
            Processes of this launch.
    """

    gpu: bool
    bf16: bool
    vllm: bool
    deepspeed: bool
    processes: int


class Smoke(NamedTuple):
    """
    Args:
        recipe (`dict[str, Any]`):
            The recipe in small.
        lines (`list[str]`):
            What was left out, and why.
        tiny_model (`dict[str, Any]`, *optional*):
            Arguments of [`~trl_amft.tiny_model.save_tiny_model`] for the folder that `model_name_or_path` now names;
            `None` where the recipe has a tiny model of its own.
    """

    recipe: dict[str, Any]
    lines: list[str]
    tiny_model: dict[str, Any] | None


def this_machine(processes: int) -> Machine:
    """
    Args:
        processes (`int`):
            Processes of this launch.

    Returns:
        [`Machine`]
    """
    gpu = torch.cuda.is_available()
    return Machine(
        gpu=gpu,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        vllm=find_spec("vllm") is not None,
        deepspeed=find_spec("deepspeed") is not None,
        processes=processes,
    )


def smoke_recipe(
    recipe: dict[str, Any], defaults: dict[str, Any], given: dict[str, Any], name: str, machine: Machine
) -> Smoke:
    """
    A recipe in small. Writes and loads nothing.

    Args:
        recipe (`dict[str, Any]`):
            Every field, with recipe, method and command line applied.
        defaults (`dict[str, Any]`):
            Every field's default.
        given (`dict[str, Any]`):
            Fields of the command line.
        name (`str`):
            Name of the recipe, for its output folder.
        machine ([`Machine`]):
            Where it will run.

    Returns:
        [`Smoke`]
    """
    for key in DATASETS:
        if recipe[key] is not None and not Path(recipe[key]).exists():
            raise UsageError(f"{key}={recipe[key]!r} is no local file or folder, and --smoke is offline; give a copy")
    small = recipe | {key: defaults[key] for key in DROPPED} | ALWAYS
    small |= {key: min(recipe[key], most) for key, most in AT_MOST.items() if recipe[key] is not None}
    # With these sizes a generation batch lasts as many optimizer steps as it is used.
    steps = recipe["num_iterations"]
    small |= {"sft_warmup_steps": min(recipe["sft_warmup_steps"], steps), "max_steps": 2 * steps}
    small |= {f"{kind}_steps": 2 * steps for kind in ("save", "eval")}
    small["output_dir"] = str(Path("outputs") / "smoke" / name)
    small |= given

    tiny_model = None
    if recipe["model_name_or_path"] is not None:
        tiny_model = {"model_type": family(recipe["model_name_or_path"]), **TINY_MODEL}
        small["model_name_or_path"] = str(Path(small["output_dir"]) / "tiny_model")
    if recipe["task"] in SMOKE_KWARGS:
        small["task_kwargs"] = (recipe["task_kwargs"] or {}) | SMOKE_KWARGS[recipe["task"]]
    return Smoke(small, _fit_machine(small, given, machine), tiny_model)


def _fit_machine(small: dict[str, Any], given: dict[str, Any], machine: Machine) -> list[str]:
    """Leave out of `small` what the machine cannot run; one line for each."""
    lines = []

    def leave_out(key: str, instead: Any, reason: str) -> None:
        if key not in given:
            lines.append(f"smoke: {key}={small[key]!r} is left out, because {reason}")
            small[key] = instead

    if small["use_vllm"] and not machine.gpu:
        leave_out("use_vllm", False, "there is no GPU")
    elif small["use_vllm"] and not machine.vllm:
        leave_out("use_vllm", False, "vllm is not installed")
    elif small["use_vllm"] and small["vllm_mode"] == "server":
        leave_out("use_vllm", False, "no server has the tiny model")
    elif small["use_vllm"] and (machine.processes % small["vllm_tensor_parallel_size"] or machine.processes == 1):
        small["vllm_tensor_parallel_size"] = 1
    if small["deepspeed"] and machine.processes > 1 and not machine.deepspeed:
        leave_out("deepspeed", None, "deepspeed is not installed")
    if not machine.gpu:
        small["use_cpu"] = True
        for key in GPU_ONLY:
            if small[key]:
                leave_out(key, None if key == "attn_implementation" else False, "there is no GPU")
    if not machine.bf16:
        # TRL turns it on where nothing is said.
        if small["bf16"] is not False:
            leave_out("bf16", False, "there is no GPU that computes in it")
        if small["dtype"] != "float32":
            leave_out("dtype", "float32", "there is no GPU that computes in it")
    return lines


def family(model_name: str) -> str:
    """
    The family of a tiny model like this one.

    Args:
        model_name (`str`):
            A local folder, or a name on the Hub, which is not asked.

    Returns:
        `str`: one of [`~trl_amft.tiny_model.MODEL_TYPES`], or that for images; of the configuration if it can be read,
        otherwise the first that the name contains, otherwise `"qwen2"`.
    """
    try:
        found = AutoConfig.from_pretrained(model_name, local_files_only=True).model_type
    except (OSError, ValueError):
        found = Path(model_name).name.lower()
    # A model that sees stays one.
    if {"vl", IMAGE_MODEL_TYPE} & set(re.split("[-_.]", found)):
        return IMAGE_MODEL_TYPE
    return next((known for known in MODEL_TYPES if known in found), "qwen2")
