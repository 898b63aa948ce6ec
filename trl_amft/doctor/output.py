"""Where a run writes: whether anything can be written there, and whether its checkpoints fit."""

import math
import shutil

from ..amft_config import AMFTConfig
from ..cli.arguments import Recipe
from ..cli.output_file import check_writable
from ..cli.usage import UsageError
from .findings import OK, Finding, gigabytes, problem
from .memory import Sizes


# Bytes of a checkpoint per trained parameter: weights in bfloat16, a float32 copy and two moments.
CHECKPOINT_BYTES = 14


def check_output_folder(recipe: Recipe) -> list[Finding]:
    """Nothing is said of a folder that can be written."""
    try:
        check_writable(recipe.folder, "output_dir")
    except UsageError as error:
        return [problem(error)]
    return []


def check_disk(recipe: Recipe, sizes: Sizes | None) -> list[Finding]:
    """Whether the checkpoints that are kept fit on the disk of the output folder."""
    args = recipe.training
    if sizes is None or args.save_strategy == "no":
        return []
    folder = recipe.folder.absolute()
    while not folder.exists():
        folder = folder.parent
    trained = sizes.adapter(recipe.model.lora_r) if recipe.model.use_peft else sizes.parameters
    # One more than are kept: the new one is whole before an old one goes.
    count = args.save_total_limit + 1 if args.save_total_limit else saves_of_run(args)
    needed, free = CHECKPOINT_BYTES * trained * (count or 1), shutil.disk_usage(folder).free
    many = "1 checkpoint takes" if count == 1 else f"{count} checkpoints take" if count else "each checkpoint takes"
    text = f"{many} about {gigabytes(needed)}, {gigabytes(free)} are free in {folder}"
    remedy = "lower save_total_limit"
    if not args.save_total_limit:
        text = f"all checkpoints are kept, because save_total_limit is null: {text}"
        remedy = "set save_total_limit, raise save_steps"
    return [problem(f"{text}: {remedy} or change output_dir") if needed > free else Finding(OK, text)]


def saves_of_run(args: AMFTConfig) -> int | None:
    """Checkpoints that a whole run writes; `None` where its steps are not known before the data are."""
    if args.save_strategy != "steps" or args.max_steps <= 0:
        return None
    # Below 1 it is a share of the run. The last step is saved in any case.
    every = args.save_steps if args.save_steps >= 1 else math.ceil(args.save_steps * args.max_steps)
    return math.ceil(args.max_steps / every)
