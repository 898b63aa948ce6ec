"""
Which DeepSpeed configuration a run uses, where both the recipe and the launcher may have one.

A recipe's `deepspeed:` makes `accelerate launch scripts/train.py --recipe FILE` shard the model on a machine with
several GPUs without a second file. A launcher that has chosen a way of sharding wins. Plain DDP cannot be told from no
choice, because `accelerate launch` leaves the same environment for both: `--deepspeed null` asks for it.
"""

from collections.abc import Mapping
from importlib.util import find_spec
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
    if isinstance(entry, str):
        return f"DeepSpeed with {entry}"
    return f"DeepSpeed ZeRO-{entry.get('zero_optimization', {}).get('stage', 0)}"
