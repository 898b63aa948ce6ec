"""One call that makes a trainer's run visible: on the screen, in its folder, and in the trackers."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .progress import ProgressDisplay
from .run_folder import RECIPE_FILE
from .run_recorder import RunRecorder
from .step_times import StepTimes


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


def watch(trainer: "AMFTTrainer", recipe: str | None = None) -> None:
    """
    Add the progress display, the log in the run's folder, and the times of a step.

    Args:
        trainer ([`AMFTTrainer`]):
            Before training.
        recipe (`str`, *optional*):
            The resolved recipe, as a report shows it. Written now, because a run that dies writes nothing at its end.
    """
    trainer.add_callback(StepTimes(trainer))
    trainer.add_callback(RunRecorder(trainer))
    trainer.add_callback(ProgressDisplay(trainer))
    if recipe is not None and trainer.is_world_process_zero():
        write_recipe(Path(str(trainer.args.output_dir)), recipe)
        trainer.add_callback(RecipeInCheckpoints(recipe))


class RecipeInCheckpoints(TrainerCallback):
    """
    Puts the recipe of the run beside what it saves, because another run may be started in its folder.

    Args:
        recipe (`str`):
            The resolved recipe.
    """

    def __init__(self, recipe: str):
        self.recipe = recipe

    def on_save(self, args, state, control, **kwargs):
        folder = Path(str(args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
        if folder.is_dir():
            write_recipe(folder, self.recipe)


def write_recipe(folder: Path, recipe: str) -> None:
    """Write a resolved recipe into a folder, whole or not at all: a run that is started again reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{RECIPE_FILE}.part"
    part.write_text(recipe, encoding="utf-8")
    os.replace(part, folder / RECIPE_FILE)
