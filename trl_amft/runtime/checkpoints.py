"""
Checkpoints that are whole or not there, also when a run is killed while it saves, and one more when a run fails.

A checkpoint is written into a folder of its own and takes its name when every process is done; older ones are deleted
after that. What the meta-gradient has seen so far lies beside the optimizer's state. It is the same on every process
and does not depend on their number.
"""

import glob
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, rotate_checkpoints

from ..amft_config import AMFTConfig
from .random_state import random_state, set_random_state


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


logger = logging.getLogger(__name__)
EVIDENCE_FILE = "amft_evidence.safetensors"
# Name in it of the seed that sketches were made with; they compare with others of the same seed only.
SKETCH_SEED = "sketch_seed"
# Does not begin like a checkpoint, so that nobody takes it for one.
STAGING_FOLDER = "saving"


class ResumableError(RuntimeError):
    """
    Ends a run at a point where it can be saved. Raised on every process, none of which waits for another then.
    """


@dataclass(frozen=True)
class StepStart:
    """
    What a step changes before it fails, as it was when the step began.

    Args:
        step (`int`):
            Optimizer steps done before it.
        demonstrations_consumed (`int`):
            Demonstrations taken before it.
        tokens_seen (`int`):
            Input tokens that transformers had counted.
        random (`dict[str, Any]`):
            State of the random generators.
    """

    step: int
    demonstrations_consumed: int
    tokens_seen: int
    random: dict[str, Any]


class RunMarks(TrainerCallback):
    """
    What a run that fails has to know of itself.

    Attributes:
        first_step (`int`):
            Step at which it began.
        saved_step (`int`, *optional*):
            Step that it has saved last.
        step_start ([`StepStart`], *optional*):
            Of the step that is under way.
    """

    first_step = 0
    saved_step: int | None = None
    step_start: StepStart | None = None
    _before_epoch: dict[str, Any] | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.first_step, self.saved_step, self.step_start = state.global_step, None, None

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._before_epoch = random_state()

    def on_save(self, args, state, control, **kwargs):
        self.saved_step = state.global_step

    def begin_step(self, trainer: "AMFTTrainer") -> None:
        """
        Args:
            trainer ([`AMFTTrainer`]):
                Before the first micro-batch of a step.
        """
        state, consumed = trainer.state, trainer.mixing_callback.demonstrations_consumed
        # The data loader of an epoch has drawn its seed by now, and a resumed run draws it again.
        before = self._before_epoch if float(state.epoch or 0.0).is_integer() else None
        random = random_state() if before is None else before
        self.step_start = StepStart(state.global_step, consumed, state.num_input_tokens_seen, random)


def save_whole(trainer: "AMFTTrainer", save: Callable[[], None], run_folder: str) -> None:
    """
    Save a checkpoint so that a kill at any moment leaves it whole or absent, and older ones as they are.

    Args:
        trainer ([`AMFTTrainer`]):
            The trainer. While `save` runs, its output folder is another one.
        save (`Callable[[], None]`):
            Saves as transformers does; called on every process.
        run_folder (`str`):
            Where checkpoints belong.
    """
    args, state, accelerator = trainer.args, trainer.state, trainer.accelerator
    staging = os.path.join(run_folder, STAGING_FOLDER)
    name = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
    final = os.path.join(run_folder, name)
    if accelerator.is_local_main_process:
        shutil.rmtree(staging, ignore_errors=True)
    accelerator.wait_for_everyone()
    sees_main = _sees_disk_of_main(accelerator, staging)
    # The Hub gets the checkpoint under its own name, below.
    push, args.push_to_hub = args.push_to_hub, False
    trainer.staging_folder = staging
    try:
        save()
    finally:
        args.push_to_hub, trainer.staging_folder = push, None
    if state.best_global_step == state.global_step:
        state.best_model_checkpoint = final
        if args.should_save:
            state.save_to_json(os.path.join(staging, name, TRAINER_STATE_NAME))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _rename(staging, name, final)
    accelerator.wait_for_everyone()
    # Nodes without a common disk hold their own parts.
    if accelerator.is_local_main_process and not sees_main and os.path.isdir(os.path.join(staging, name)):
        _rename(staging, name, final)
    if push:
        trainer._push_from_checkpoint(final)
    if args.should_save:
        best = state.best_model_checkpoint
        rotate_checkpoints(
            run_folder, save_total_limit=args.save_total_limit, best_model_checkpoint=best, use_mtime=True
        )


def _sees_disk_of_main(accelerator: Accelerator, staging: str) -> bool:
    """
    Whether the staging folder of this process is that of the main one. Asked by opening a file that is new: whether a
    folder is still there a network file system may answer from its cache, long after another node has renamed it.
    """
    token = [uuid.uuid4().hex]
    broadcast_object_list(token)
    path = os.path.join(staging, token[0])
    if accelerator.is_main_process:
        os.makedirs(staging, exist_ok=True)
        open(path, "x").close()
    accelerator.wait_for_everyone()
    # Asks the server, so that no cache says that the folder is not there.
    os.makedirs(staging, exist_ok=True)
    try:
        open(path).close()
    except FileNotFoundError:
        return False
    return True


def _rename(staging: str, name: str, final: str) -> None:
    if os.path.isdir(final):
        os.rename(final, os.path.join(staging, "replaced"))
    os.rename(os.path.join(staging, name), final)
    shutil.rmtree(staging)


@contextmanager
def saved_on_failure(trainer: "AMFTTrainer") -> Iterator[None]:
    """
    Save the run where a [`ResumableError`] ends it, and say where.

    Args:
        trainer ([`AMFTTrainer`]):
            The trainer that runs inside.
    """
    try:
        yield
    except ResumableError as error:
        raise type(error)(f"step {trainer.state.global_step}: {error}; {_save_now(trainer)}") from error.__cause__


def _save_now(trainer: "AMFTTrainer") -> str:
    state, marks = trainer.state, trainer.run_marks
    start = marks.step_start
    if state.global_step == marks.first_step:
        return "nothing was trained yet" + ("; resume from where this run did" if state.global_step else "")
    if start is not None and start.step == state.global_step:
        trainer.mixing_callback.demonstrations_consumed = start.demonstrations_consumed
        state.num_input_tokens_seen = start.tokens_seen
        set_random_state(start.random)
    folder = trainer._get_output_dir(None)
    if marks.saved_step != state.global_step:
        try:
            trainer._save_checkpoint(trainer.model, None)
        # What is written with safetensors or torch does not fail with the error of the system.
        except (OSError, RuntimeError, SafetensorError) as error:
            logger.error("This step could not be saved: %s", error)
    return f"resume from {get_last_checkpoint(folder)}"


def save_evidence(trainer: "AMFTTrainer", folder: str) -> None:
    """Write what the meta-gradient has seen so far; on the process that writes checkpoints."""
    if trainer.args.should_save and trainer.has_evidence:
        evidence = {**trainer.window.state_dict(), SKETCH_SEED: torch.tensor(trainer.args.seed)}
        save_file(evidence, os.path.join(folder, EVIDENCE_FILE))


def load_evidence(trainer: "AMFTTrainer", folder: str | None) -> None:
    """Read it again; a file that does not fit, or is missing, leaves the window empty."""
    path = os.path.join(folder or "", EVIDENCE_FILE)
    if not folder or not trainer.has_evidence or not os.path.isfile(path):
        return
    evidence, seed = load_file(path), trainer.args.seed
    try:
        if (stored := int(evidence.pop(SKETCH_SEED, torch.tensor(seed)))) != seed:
            raise ValueError(f"it was sketched with seed={stored}, not {seed}")
        trainer.window.load_state_dict(evidence, trainer.accelerator.device)
    except ValueError as error:
        logger.warning("%s: the evidence so far is dropped.", error)


def check_world_size(resume_from_checkpoint: str | bool, args: AMFTConfig, deepspeed: dict[str, Any]) -> None:
    """
    DeepSpeed's shards can only be read by as many processes as wrote them, unless they were made universal. On disks
    that nodes do not share each sees only its own.

    Args:
        resume_from_checkpoint (`str` or `bool`):
            Checkpoint; `True` means the newest one.
        args ([`AMFTConfig`]):
            Configuration of this run, under DeepSpeed.
        deepspeed (`dict[str, Any]`):
            DeepSpeed's own configuration.

    Raises:
        `ValueError`: one line with both numbers.
    """
    checkpoint = deepspeed.get("checkpoint") or {}
    if checkpoint.get("load_universal") or checkpoint.get("use_node_local_storage"):
        return
    folder = resume_from_checkpoint
    if isinstance(folder, bool):
        folder = get_last_checkpoint(args.output_dir)
    shards = glob.glob(os.path.join(folder or "", "global_step*", "*zero_pp_rank_*_optim_states.pt"))
    if shards and len(shards) != args.world_size:
        raise ValueError(
            f"resume_from_checkpoint={folder!r} was written by {len(shards)} DeepSpeed processes, this run has "
            f"{args.world_size}: start as many, or make it universal with DeepSpeed's ds_to_universal.py and "
            "set checkpoint.load_universal in its configuration"
        )
