"""
The display of a run that is under way: a bar and a table in a terminal, one line per log anywhere else.

Only the main process shows anything. It takes the place of transformers' own bar, whose line per log holds every
number; those are in `log.jsonl` of the run's folder.
"""

import atexit
import math
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from .pace import Pace


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


# What is shown of a log: its name there, the label, and a format.
SHOWN = (
    ("reward", "reward", ".3f"),
    ("eval_reward", "held-out reward", ".3f"),
    ("held_out_part/accuracy", "accuracy of a part", ".3f"),
    ("held_out/accuracy", "held-out accuracy", ".3f"),
    ("amft/mu", "mu", ".3f"),
    ("entropy", "entropy", ".3f"),
    ("amft/rl_loss", "rl_loss", ".4f"),
    ("amft/sft_loss", "sft_loss", ".4f"),
)
COLUMNS = 4


class ProgressDisplay(TrainerCallback):
    """
    Shows phase, step, reward, held-out accuracy, μ, entropy, both losses, speed and the time that is left.

    Args:
        trainer ([`AMFTTrainer`]):
            The trainer; its own progress bar is taken away.
        console ([`~rich.console.Console`], *optional*):
            Where to. Standard output if not given.
    """

    def __init__(self, trainer: "AMFTTrainer", console: Console | None = None):
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        self._trainer = trainer
        self._console = console or Console()
        self._live: Live | None = None
        self._in_terminal = False
        self._values: dict[str, float] = {}
        self._speed: dict[str, float] = {}
        self._activity = "starting"
        self._began = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        rollouts = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        self._pace = Pace(
            state.max_steps, args.sft_warmup_steps, rollouts / args.num_iterations, int(state.num_input_tokens_seen)
        )
        self._activity = "starting"
        if state.is_world_process_zero and self._console.is_terminal and not args.disable_tqdm:
            # Without a thread that refreshes: a process that is forked while it draws would inherit a held lock.
            self._live = Live(self._render(state.global_step), console=self._console, auto_refresh=False)
            self._live.start(refresh=True)
            self._in_terminal = True
            # A run that ends by an exception has no `on_train_end`; the terminal must get its cursor back.
            atexit.register(self._stop)

    def on_step_begin(self, args, state, control, **kwargs):
        self._began = time.perf_counter()
        self._activity = self._phase(state.global_step, args.sft_warmup_steps)
        self._refresh(state)

    def on_step_end(self, args, state, control, **kwargs):
        self._pace.add(state.global_step, self._activity, time.perf_counter() - self._began)
        self._refresh(state)

    def on_prediction_step(self, args, state, control, **kwargs):
        self._activity = "evaluation"
        self._refresh(state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        self._values |= {key: logs[key] for key, _, _ in SHOWN if _is_number(logs.get(key))}
        if "learning_rate" in logs:
            self._speed = self._pace.speed(logs)
        if not self._in_terminal and not {"learning_rate", "eval_reward", "held_out/accuracy"}.isdisjoint(logs):
            self._console.print(self.line(state.global_step), soft_wrap=True, highlight=False, markup=False)
        self._refresh(state)

    def on_train_end(self, args, state, control, **kwargs):
        self._activity = "done"
        self._refresh(state)
        self._stop()

    def line(self, step: int) -> str:
        """Everything in one line, as it is printed where there is no terminal."""
        head = f"step {step}/{self._pace.max_steps} {self._activity}"
        return " | ".join([head, *(f"{label} {value}" for label, value in self._entries(step))])

    def _phase(self, step: int, warmup_steps: int) -> str:
        if step < warmup_steps:
            return "warm-up"
        weight = self._trainer.mixing_callback.known_weight(step, warmup_steps)
        return "mixing" if weight is None else {0.0: "exploring", 1.0: "imitating"}.get(weight, "mixing")

    def _entries(self, step: int) -> list[tuple[str, str]]:
        entries = [(label, f"{self._values[key]:{form}}") for key, label, form in SHOWN if key in self._values]
        entries += [(f"{name}/s", f"{value:,.4g}") for name, value in self._speed.items()]
        return [*entries, ("ETA", self._pace.eta(step))]

    def _render(self, step: int) -> Group:
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            f"[bold]{self._activity}[/bold]",
            ProgressBar(total=self._pace.max_steps, completed=step, width=40),
            f"step {step} of {self._pace.max_steps}",
        )
        table = Table.grid(padding=(0, 2))
        entries = self._entries(step)
        for start in range(0, len(entries), COLUMNS):
            cells = [f"[dim]{label}[/dim] {value}" for label, value in entries[start : start + COLUMNS]]
            table.add_row(*cells, *[""] * (COLUMNS - len(cells)))
        return Group(bar, table)

    def _refresh(self, state) -> None:
        if self._live is not None:
            self._live.update(self._render(state.global_step), refresh=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
