"""
What a run writes while it goes on, so that a report can be made of it at any time, also of one that is dead.

`log.jsonl` gets every log as it comes, `samples.jsonl` some completions with their rewards. Both are small: the first
has a line per log, the second at most twenty times eight completions.
"""

import itertools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .run_folder import LOG_FILE, SAMPLES_FILE, read_lines
from .samples import as_text


if TYPE_CHECKING:
    from trl import GRPOTrainer


SAMPLED_TIMES = 20
COMPLETIONS = 8
LONGEST = 4000


class RunRecorder(TrainerCallback):
    """
    Appends to the two files, on the main process only.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer that is recorded; its rollouts are read.
    """

    def __init__(self, trainer: "GRPOTrainer"):
        self._trainer = trainer
        self._folder = Path(str(trainer.args.output_dir))
        self._sampled = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # A resumed run goes on from its checkpoint: what was logged after that is not part of it.
        head = {"max_steps": state.max_steps, "processes": args.world_size}
        _write(self._folder / LOG_FILE, [head, *state.log_history])
        samples = self._folder / SAMPLES_FILE
        kept = read_lines(samples) if state.global_step else []
        _write(samples, [row for row in kept if row["step"] <= state.global_step])
        self._sampled = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or logs is None:
            return
        _append(self._folder / LOG_FILE, [{**logs, "step": state.global_step, "epoch": state.epoch}])
        due = self._sampled + max(state.max_steps // SAMPLED_TIMES, 1)
        if "reward" in logs and (state.global_step >= due or state.global_step == state.max_steps):
            self._sampled = state.global_step
            _append(self._folder / SAMPLES_FILE, self._samples(state.global_step))

    def _samples(self, step: int) -> list[dict[str, Any]]:
        """The first completions of the newest rollouts: whole groups, whatever their rewards."""
        rollouts: dict[str, Any] = self._trainer._logs
        rewards = {name: list(values) for name, values in rollouts["rewards"].items()}
        rows = zip(rollouts["prompt"], rollouts["completion"], rollouts["advantages"], strict=False)
        return [
            {
                "step": step,
                "prompt": as_text(prompt)[-LONGEST:],
                "completion": as_text(completion)[:LONGEST],
                "rewards": {name: values[index] for name, values in rewards.items() if index < len(values)},
                "advantage": advantage,
            }
            for index, (prompt, completion, advantage) in enumerate(itertools.islice(rows, COMPLETIONS))
        ]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(_line(row) for row in rows), encoding="utf-8")


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(_line(row) for row in rows))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(_finite(row), ensure_ascii=False, default=float) + "\n"


def _finite(value: Any) -> Any:
    # JSON has no NaN.
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
