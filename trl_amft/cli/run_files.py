"""What a run leaves in its output folder beside the model: its recipe, its log, its numbers and its picture."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from .. import __version__
from ..compat import installed_versions
from ..reporting.run_figure import plot_run, series
from ..reporting.watch import write_recipe
from .arguments import Recipe


METRICS_FILE = "metrics.json"
PREFIX = "held_out/"


def held_out_rows(log_history: list[dict], rollouts_before: Callable[[int], int]) -> list[dict[str, Any]]:
    """
    The evaluations of a run with what it had cost by then.

    Args:
        log_history (`list[dict]`):
            Rows as `TrainerState.log_history` holds them.
        rollouts_before (`Callable[[int], int]`):
            Number of rollouts made up to a step.

    Returns:
        `list[dict[str, Any]]`: one row per evaluation, in the order of steps, with the keys that
        [`~trl_amft.reporting.run_table`] reads and all numbers of the evaluation. `reward` and `mu` are the last ones
        logged by then.
    """
    # A run that is resumed at its end evaluates that end again.
    evaluations = {row["step"]: row for row in log_history if f"{PREFIX}accuracy" in row}
    rows = []
    for step, row in sorted(evaluations.items()):
        stage = "before" if step == 0 else "after" if step == max(evaluations) else "warm_up"
        rows.append(
            {
                "stage": stage,
                "step": step,
                **{key.removeprefix(PREFIX): value for key, value in row.items() if key.startswith(PREFIX)},
                "reward": _last(log_history, "reward", step),
                "mu": _last(log_history, "amft/mu", step),
                "rollouts": rollouts_before(step),
            }
        )
    return rows


def write_run_files(recipe: Recipe, log_history: list[dict], rows: list[dict[str, Any]]) -> Path:
    """
    Write `resolved_recipe.yaml`, `log_history.json`, `metrics.json` and `run.png` into the output folder.

    Args:
        recipe ([`~trl_amft.cli.arguments.Recipe`]):
            What was run.
        log_history (`list[dict]`):
            Rows as `TrainerState.log_history` holds them.
        rows (`list[dict[str, Any]]`):
            From [`held_out_rows`].

    Returns:
        `Path`: the picture.
    """
    folder = recipe.folder
    versions = {"trl_amft": __version__, **installed_versions()}
    write_recipe(folder, resolved_recipe(recipe, versions))
    _write_json(folder / "log_history.json", log_history)
    metrics = {
        "method": recipe.run.method,
        "task": recipe.run.task or recipe.run.dataset_name,
        "seed": recipe.training.seed,
        "held_out": rows,
        "versions": versions,
    }
    _write_json(folder / METRICS_FILE, metrics)
    learned = recipe.training.policy_class.needs_meta_gradient
    return plot_run(
        log_history,
        folder / "run.png",
        warmup_steps=recipe.training.sft_warmup_steps,
        held_out=[(row["step"], row["accuracy"], row["standard_error"]) for row in rows],
        mu_bounds=(recipe.training.mu_min, recipe.training.mu_max) if learned else None,
    )


def resolved_recipe(recipe: Recipe, versions: dict[str, str]) -> str:
    """
    The run as a recipe of its own: every key that differs from its default, with the versions as a comment.

    Args:
        recipe ([`~trl_amft.cli.arguments.Recipe`]):
            What was run.
        versions (`dict[str, str]`):
            Versions by package.

    Returns:
        `str`: YAML.
    """
    # Tokens of the Hub are fields like any other, and must not end up in a file that is shared.
    shared = {name: value for name, value in recipe.changed.items() if not name.endswith("_token")}
    header = ", ".join(f"{package} {version}" for package, version in versions.items())
    return f"# {header}\n" + yaml.safe_dump(shared, allow_unicode=True)


def _last(log_history: list[dict], key: str, step: int) -> float | None:
    values = [value for at, value in zip(*series(log_history, key), strict=True) if at <= step]
    return values[-1] if values else None


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    # JSON has no NaN and no infinity.
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
