"""
Which DeepSpeed configuration a run uses, where both the recipe and the launcher may have one.

A recipe's `deepspeed:` makes `accelerate launch scripts/train.py --recipe FILE` shard the model on a machine with
several GPUs without a second file. A launcher that has chosen a way of sharding wins. Plain DDP cannot be told from no
choice, because `accelerate launch` leaves the same environment for both: `--deepspeed null` asks for it.
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate.utils import get_int_from_env, str_to_bool

from .usage import UsageError


WORLD_SIZES = ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"]
LAUNCHER_CHOICES = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_FSDP": "FSDP"}


def number_of_processes() -> int:
    """
    Returns:
        `int`: processes of this launch, known before they have met.
    """
    return get_int_from_env(WORLD_SIZES, 1)


def choose_deepspeed(
    entry: dict[str, Any] | str | None, environment: Mapping[str, str], processes: int
) -> tuple[dict[str, Any] | str | None, str | None]:
    """
    The entry to use, and a line that says why.

    Args:
        entry (`dict[str, Any]` or `str`, *optional*):
            `deepspeed` of the recipe or the command line: a mapping, or the path of a file.
        environment (`Mapping[str, str]`):
            Variables that the launcher has set.
        processes (`int`):
            Processes of this launch.

    Returns:
        `tuple`: what `deepspeed` of the training arguments shall be, and the line, or `None` where there was nothing
        to choose.

    Raises:
        [`UsageError`]: if deepspeed is not installed, or the entry holds what no run can use.
    """
    if entry is None:
        return None, None
    for variable, name in LAUNCHER_CHOICES.items():
        if _is_set(environment, variable):
            return None, f"sharding: {name} as the launcher says; deepspeed of the recipe is not used"
    if processes == 1:
        return None, "sharding: none; deepspeed of the recipe is not used, because one process runs"
    if _is_set(environment, "ACCELERATE_USE_CPU"):
        return None, (
            "sharding: none; deepspeed of the recipe is not used, because the launcher asks for the CPU, where "
            "accelerate leaves it out (recipes/accelerate/zero3_cpu.yaml does not)"
        )
    if find_spec("deepspeed") is None:
        raise UsageError(
            f"deepspeed of the recipe is for {processes} processes, but deepspeed is not installed: run `pip install "
            "'trl_amft[deepspeed]'`, or give --deepspeed null for plain DDP"
        )
    return entry, (
        f"sharding: {_describe(entry)} of the recipe, because {processes} processes run and the launcher chose none "
        "(--deepspeed null: plain DDP)"
    )


def _is_set(environment: Mapping[str, str], variable: str) -> bool:
    return bool(str_to_bool(environment.get(variable, "false")))


def _describe(entry: dict[str, Any] | str) -> str:
    stage = zero_settings(entry).get("stage", 0)
    return f"DeepSpeed with {entry}" if isinstance(entry, str) else f"DeepSpeed ZeRO-{stage}"


def zero_settings(entry: dict[str, Any] | str) -> dict[str, Any]:
    """
    Args:
        entry (`dict[str, Any]` or `str`):
            A configuration of DeepSpeed, or the path of its JSON file.

    Returns:
        `dict[str, Any]`: its `zero_optimization`, empty where it has none.

    Raises:
        [`UsageError`]: if the file cannot be read, or what it says of ZeRO has not the form that DeepSpeed reads.
    """
    config: Any = entry
    name = "deepspeed"
    if isinstance(entry, str):
        name = f"deepspeed={entry!r}"
        try:
            config = json.loads(Path(entry).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{name} cannot be read ({error}); give a JSON file, a mapping, or null") from None
    if not isinstance(config, dict):
        raise UsageError(f"{name} holds a {type(config).__name__}; give a JSON file that holds a mapping")
    zero = config.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise UsageError(f"{name}: zero_optimization={zero!r} is no mapping; write it as {{'stage': 3}}")
    stage = zero.get("stage", 0)
    if type(stage) is not int or not 0 <= stage <= 3:
        raise UsageError(f"{name}: zero_optimization.stage={stage!r} is not a stage; give 0, 1, 2 or 3")
    for part in ("offload_optimizer", "offload_param"):
        if not isinstance(zero.get(part) or {}, dict):
            raise UsageError(
                f"{name}: zero_optimization.{part}={zero[part]!r} is no mapping; write it as {{'device': 'cpu'}}"
            )
    return zero
