"""Where the seconds of a step with a learned weight go."""

import statistics
from collections import defaultdict

from common import seconds
from transformers import TrainerCallback

from trl_amft import AMFTTrainer


PARTS = (
    "rollouts",
    "draw of demonstrations",
    "SFT segment",
    "sketch of g_RL",
    "copy of g_RL",
    "products",
    "mix",
    "window",
)


class StepParts(TrainerCallback):
    """
    Seconds of each part of the optimizer steps, as `common.seconds` has them.

    Args:
        skip (`int`):
            Steps at the beginning that do not count.
    """

    def __init__(self, skip: int):
        self.skip = skip
        self.spent: dict[str, list[float]] = defaultdict(list)

    def watch(self, trainer: AMFTTrainer) -> AMFTTrainer:
        """Time the parts of this trainer, which has this callback."""
        self._trainer = trainer
        self._timed(trainer, "_generate_and_score_completions", "rollouts")
        self._timed(trainer._supervised, "draw", "draw of demonstrations")
        self._timed(trainer._supervised, "backward_all", "SFT segment")
        self._timed(trainer.window, "add_utility", "window")
        self._timed(trainer.window, "add_sensitivity", "window")
        return trainer

    def on_step_begin(self, args, state, control, **kwargs):
        for part in PARTS:
            self.spent[part].append(0.0)
        algebra = self._trainer.step_algebra
        if algebra is not None and state.global_step == 1:
            self._timed(algebra, "sketch_gradient", "sketch of g_RL")
            self._timed(algebra, "store_rl_gradient", "copy of g_RL")
            self._timed(algebra, "products", "products")
            self._timed(algebra, "mix", "mix")
        self._start = seconds()

    def on_step_end(self, args, state, control, **kwargs):
        self.spent["whole step"].append(seconds() - self._start)

    def milliseconds(self) -> dict[str, float]:
        """Medians over the steps."""
        parts = {part: 1e3 * statistics.median(values[self.skip :]) for part, values in self.spent.items()}
        whole = parts.pop("whole step")
        return {**parts, "RL segment, optimizer, rest": whole - sum(parts.values()), "whole step": whole}

    def _timed(self, owner, name: str, part: str) -> None:
        method = getattr(owner, name)

        def call(*args, **kwargs):
            start = seconds()
            result = method(*args, **kwargs)
            self.spent[part][-1] += seconds() - start
            return result

        setattr(owner, name, call)
