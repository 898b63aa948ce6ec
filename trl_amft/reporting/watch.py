"""One call that makes a trainer's run visible: on the screen, in its folder, and in the trackers."""

from pathlib import Path
from typing import TYPE_CHECKING

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
        folder = Path(str(trainer.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECIPE_FILE).write_text(recipe, encoding="utf-8")
