"""
Where the time of a step goes: rollouts, rewards, weights to vLLM, RL passes, SFT passes, controller, optimizer.

The trainer's methods are wrapped from outside and time is counted where it is spent: a part that runs inside another
one is taken off that one. On a GPU the clock waits for the device at each boundary, a few times per micro-batch,
because work that was only queued would otherwise be counted where somebody waits for it.
"""

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


class StepTimes(TrainerCallback):
    """
    Logs `time/…` in seconds per step, as the main process sees them. The parts sum up to `time/step`.

    Args:
        trainer ([`AMFTTrainer`]):
            The trainer that is measured.
    """

    def __init__(self, trainer: "AMFTTrainer"):
        self._trainer = trainer
        self._seconds: dict[str, float] = defaultdict(float)
        # Time spent in the parts inside each part that is open.
        self._inner: list[float] = []
        self._began = 0.0
        self._wrap(trainer, "training_step", "rl")
        self._wrap(trainer, "_generate_and_score_completions", "rollouts")
        self._wrap(trainer, "_calculate_rewards", "rewards")
        self._wrap(trainer, "_mix", "controller")
        self._wrap(trainer, "_supervised_step", "sft")
        self._wrap(getattr(trainer, "_supervised", None), "backward", "sft")
        self._wrap(getattr(trainer, "vllm_generation", None), "sync_weights", "sync")

    def on_step_begin(self, args, state, control, **kwargs):
        self._seconds.clear()
        self._began = _now()

    def on_step_end(self, args, state, control, **kwargs):
        whole = _now() - self._began
        rest = whole - sum(self._seconds.values())
        metrics = self._trainer._metrics["train"]
        for name, seconds in {**self._seconds, "optimizer": rest, "step": whole}.items():
            metrics[f"time/{name}"].append(seconds)

    def _wrap(self, owner: Any, method: str, part: str) -> None:
        if owner is not None and hasattr(owner, method):
            setattr(owner, method, self._timed(getattr(owner, method), part))

    def _timed(self, call: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(call)
        def timed(*args, **kwargs):
            began = _now()
            self._inner.append(0.0)
            try:
                return call(*args, **kwargs)
            finally:
                taken = _now() - began
                self._seconds[part] += taken - self._inner.pop()
                if self._inner:
                    self._inner[-1] += taken

        return timed


def _now() -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
