"""SIGTERM and SIGINT end a run with a checkpoint, at the end of the step that is under way."""

import logging
import signal
import threading
from typing import Any

import torch
from accelerate import Accelerator
from transformers import TrainerCallback


logger = logging.getLogger(__name__)


class StopOnSignal(TrainerCallback):
    """
    Saves and stops at the next step boundary after a SIGTERM or SIGINT to any process of the run.

    Schedulers send SIGTERM before they take a machine away, and launchers pass it on, so it may come more than once.
    Ctrl-C is SIGINT; a second one does what it always did. A boundary inside a batch of rollouts that serves several
    steps is passed over, because a resumed run would not be the same. Nothing is installed outside the main thread.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Tells the other processes: one scalar per optimizer step.
    """

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self._received: signal.Signals | None = None
        self._stopping = False
        self._previous: dict[int, Any] = {}

    def on_train_begin(self, args, state, control, **kwargs):
        self._received, self._stopping = None, False
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def on_step_end(self, args, state, control, **kwargs):
        if self._everywhere() and not state.global_step * args.gradient_accumulation_steps % args.generation_steps:
            logger.warning("Stopping at step %d of %d, with a checkpoint.", state.global_step, state.max_steps)
            control.should_save = control.should_training_stop = True
            control.should_evaluate, self._stopping = False, True

    def on_epoch_end(self, args, state, control, **kwargs):
        # The step is saved already, and the time that is left is short.
        if self._stopping:
            control.should_evaluate = control.should_save = False

    def on_train_end(self, args, state, control, **kwargs):
        self._restore()

    def _note(self, number: int, frame: Any) -> None:
        self._received = signal.Signals(number)
        logger.warning("%s: stopping after this step.", self._received.name)
        if number == signal.SIGINT:
            signal.signal(number, self._previous[number])

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _everywhere(self) -> bool:
        flag = torch.tensor(float(self._received is not None), device=self._accelerator.device)
        return self._accelerator.reduce(flag, reduction="sum").item() > 0.0
