"""
A run as it lies on disk: finished, still running, or dead. Whatever is missing is left out of the report.

A run of the train command appends every log to `log.jsonl`. A run of a script of one's own, or one whose folder was
not copied whole, may only have checkpoints; their `trainer_state.json` holds the log up to the step of the checkpoint.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


LOG_FILE = "log.jsonl"
SAMPLES_FILE = "samples.jsonl"
RECIPE_FILE = "resolved_recipe.yaml"
HELD_OUT = "held_out/"
# As transformers calls it.
TRAINER_STATE_NAME = "trainer_state.json"


class NoRunError(ValueError):
    """A folder that holds no run. The message is one line."""


@dataclass
class Run:
    """
    What a report is made of.

    Args:
        name (`str`):
            Name of the folder.
        folder (`Path`):
            Where the run lies.
        log (`list[dict[str, Any]]`):
            Rows as `TrainerState.log_history` holds them, in the order of steps.
        source (`str`):
            The file that the log was read from.
        max_steps (`int`, *optional*):
            Steps that the run was to take.
        recipe (`dict[str, Any]`):
            Resolved recipe; empty where there is none.
        versions (`str`):
            Versions of the stack, as the recipe's first line tells them.
        samples (`list[dict[str, Any]]`):
            Completions with `step`, `prompt`, `completion`, `rewards` and `advantage`.
    """

    name: str
    folder: Path
    log: list[dict[str, Any]]
    source: str
    max_steps: int | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    versions: str = ""
    samples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last_step(self) -> int:
        """Step of the last log."""
        return max((row["step"] for row in self.log), default=0)

    @property
    def finished(self) -> bool:
        """Whether the last step was taken."""
        return self.max_steps is not None and self.last_step >= self.max_steps

    @property
    def warmup_steps(self) -> int:
        """Steps of the supervised warm-up; from the recipe, or as long as μ stays 1 from the start."""
        if self.recipe:
            return int(_number(self.recipe.get("sft_warmup_steps"), 0))
        mixed = [row["step"] for row in self.log if row.get("amft/mu", 1.0) != 1.0]
        logged = [row["step"] for row in self.log if "amft/mu" in row]
        before = [step for step in logged if not mixed or step < mixed[0]]
        return before[-1] if before and mixed else 0

    @property
    def held_out(self) -> list[tuple[int, float, float]]:
        """Step, accuracy and standard error of each evaluation on all held-out problems."""
        rows = {row["step"]: row for row in self.log if isinstance(row.get(f"{HELD_OUT}accuracy"), int | float)}
        return [
            (step, row[f"{HELD_OUT}accuracy"], _number(row.get(f"{HELD_OUT}standard_error")))
            for step, row in sorted(rows.items())
        ]

    @property
    def method(self) -> str:
        """The baseline, or the mixing policy, whose run it is; "–" without a recipe."""
        method = str(self.recipe.get("method", "amft")) if self.recipe else "–"
        return str(self.setting("mixing_policy")) if method == "amft" else method

    def setting(self, name: str) -> Any:
        """A field of the run's configuration: as the recipe has it, otherwise its default."""
        # Not above, because it brings torch and TRL, for which a reader of a help text would have to wait.
        from ..amft_config import AMFTConfig
        from ..mixing import PAPER_SETTINGS

        paper = PAPER_SETTINGS if self.recipe.get("mixing_policy") == "amft_paper" else {}
        known = paper | self.recipe
        return known[name] if name in known else AMFTConfig.__dataclass_fields__[name].default

    def last(self, key: str) -> float | None:
        """The last finite number logged under a name."""
        values = [row[key] for row in self.log if isinstance(row.get(key), int | float) and math.isfinite(row[key])]
        return values[-1] if values else None


def read_run(folder: str | Path) -> Run:
    """
    Read what is there of a run.

    Args:
        folder (`str` or `Path`):
            The run's `output_dir`, or one of its checkpoints.

    Returns:
        [`Run`]

    Raises:
        [`NoRunError`]: where there is no log at all; says what was looked for.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NoRunError(f"run={str(folder)!r} is not a folder; give the output_dir of a run")
    log, source, max_steps = _read_log(folder)
    if not log:
        raise NoRunError(
            f"run={str(folder)!r} holds no log: neither {LOG_FILE} nor log_history.json nor a checkpoint with "
            f"{TRAINER_STATE_NAME}; give the output_dir of a run that has logged at least once"
        )
    recipe, versions = _read_recipe(folder)
    max_steps = max_steps or recipe.get("max_steps")
    return Run(
        name=folder.resolve().name,
        folder=folder,
        log=log,
        source=source,
        max_steps=int(max_steps) if max_steps else None,
        recipe=recipe,
        versions=versions,
        samples=_read_samples(folder),
    )


def _read_log(folder: Path) -> tuple[list[dict[str, Any]], str, int | None]:
    """The log, the file it is from, and `max_steps` where that file knows it."""
    rows = read_lines(folder / LOG_FILE)
    if log := _in_order(rows):
        return log, LOG_FILE, rows[0].get("max_steps")
    whole = folder / "log_history.json"
    if whole.is_file() and (log := _in_order(_read_json(whole, []))):
        return log, whole.name, None
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    checkpoints = sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2]))
    for place in [*reversed(checkpoints), folder]:
        state = _read_json(place / TRAINER_STATE_NAME, {})
        state = state if isinstance(state, dict) else {}
        if log := _in_order(state.get("log_history", [])):
            return log, str((place / TRAINER_STATE_NAME).relative_to(folder)), state.get("max_steps")
    return [], "", None


def _read_json(path: Path, otherwise: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(rows, list):
        return []
    steps = (row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int))
    return sorted(steps, key=lambda row: row["step"])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON lines file, which end at line breaks only; a line that a kill cut in half is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _read_recipe(folder: Path) -> tuple[dict[str, Any], str]:
    path = folder / RECIPE_FILE
    if not path.is_file():
        return {}, ""
    text = path.read_text(encoding="utf-8")
    try:
        recipe = yaml.safe_load(text)
    except yaml.YAMLError:
        recipe = {}
    header = re.match(r"# (.+)", text)
    return recipe if isinstance(recipe, dict) else {}, header.group(1) if header else ""


def _read_samples(folder: Path) -> list[dict[str, Any]]:
    samples = [row for row in read_lines(folder / SAMPLES_FILE) if isinstance(row.get("step"), int)]
    return samples or _read_tables(folder / "completions")


def _read_tables(folder: Path, tables: int = 3, rows: int = 8) -> list[dict[str, Any]]:
    """The last tables that `log_completions` wrote, where nothing else recorded completions."""
    files = sorted(folder.glob("completions_*.parquet"))[-tables:] if folder.is_dir() else []
    samples = []
    import pandas

    known = {"step", "prompt", "completion", "advantage"}
    for file in files:
        try:
            table = pandas.read_parquet(file).head(rows)
        except (OSError, ValueError):  # Half written by a run that was killed.
            continue
        for row in table.to_dict("records"):
            rewards = {name: row[name] for name in row if name not in known and isinstance(row[name], int | float)}
            samples.append({name: row.get(name) for name in known} | {"rewards": rewards})
    return samples


def _number(value: Any, otherwise: float = math.nan) -> float:
    return float(value) if isinstance(value, int | float) else otherwise
