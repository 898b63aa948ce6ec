"""
A study: a grid of policies, conditions, learning rates and seeds over one recipe, read from a YAML file.

Whatever the file does not name is the recipe's, and so equal for all runs: model, data, rollouts, schedule.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from .arguments import RecipeParser
from .recipe_file import read_recipe
from .rewards import load_reward
from .usage import UsageError, suggest


FIELDS = (
    "recipe",
    "settings",
    "seeds",
    "learning_rates",
    "policies",
    "conditions",
    "grid",
    "start",
    "baselines",
    "oracle",
    "reach",
    "apart",
)
# Fields of a recipe that a study sets by itself, and where it says so.
OWN_FIELDS = {
    "learning_rate": "learning_rates",
    "seed": "seeds",
    "output_dir": "--output",
    "resume_from_checkpoint": "start",
}
SCORED_BY = "also_scored_by"
REQUIRED = ("recipe", "seeds", "learning_rates", "policies", "conditions", "grid")
# Fields that a supervised warm-up does not depend on, by how their names begin.
AFTER_WARM_UP = ("mixing_", "mu_", "meta_")


@dataclass(frozen=True, eq=False)
class StudyRun:
    """
    One training run of a study.

    Args:
        policy (`str`):
            Name of the row.
        condition (`str`):
            Name of the condition.
        learning_rate (`float`):
            Learning rate.
        seed (`int`):
            Seed of training.
        settings (`dict[str, Any]`):
            Fields of the recipe that the run sets.
        digest (`str`, *optional*, defaults to `""`):
            Changes with any field of the run, be it the study's or the recipe's, and with the further rewards that
            score it, so that a changed study repeats what it changed.
        warm_up_steps (`int`, *optional*, defaults to `0`):
            Steps of its supervised warm-up.
        start (`str`, *optional*):
            Name of the run whose checkpoint at the end of the warm-up this one goes on from.
    """

    policy: str
    condition: str
    learning_rate: float
    seed: int
    settings: dict[str, Any]
    digest: str = ""
    warm_up_steps: int = 0
    start: str | None = None

    @property
    def name(self) -> str:
        """Distinguishes the run from all others of its study."""
        return f"{self.condition}/{self.policy}/lr{self.learning_rate:g}/seed{self.seed}"


@dataclass(frozen=True)
class Study:
    """
    A study file, checked.

    Args:
        name (`str`):
            Name of the file.
        recipe (`str`):
            Recipe that all runs share.
        runs (`list[StudyRun]`):
            All runs, those that others start from first.
        scored_by (`dict[str, dict[str, str]]`):
            Per condition, further rewards of the last model as import paths, by name.
        start (`str`, *optional*):
            Policy whose checkpoint after the warm-up the others start from.
        baselines (`list[str]`):
            Policies to which the report shows the paired differences of the others.
        oracle (`list[str]`):
            Policies of which the report shows the best in hindsight as one more row.
        reach (`list[str]`):
            Policies whose final accuracy the report asks when the others reached it.
        apart (`list[str]`):
            Policies that learn from other demonstrations than the rest; the report has a regret table without them,
            too.
    """

    name: str
    recipe: str
    runs: list[StudyRun]
    scored_by: dict[str, dict[str, str]] = field(default_factory=dict)
    start: str | None = None
    baselines: list[str] = field(default_factory=list)
    oracle: list[str] = field(default_factory=list)
    reach: list[str] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)


def read_study(path: str | Path) -> Study:
    """
    Read a study.

    Args:
        path (`str` or `Path`):
            YAML file with `recipe`, `seeds`, `learning_rates`, `policies` (name to fields of the recipe), `conditions`
            (name to fields of the recipe, possibly `also_scored_by`) and `grid` (a list of `policies` and
            `conditions`, names or `all`); optionally `settings` (fields of the recipe for all runs), `start`,
            `baselines` (otherwise `start`), `oracle`, `reach` and `apart`.

    Returns:
        [`Study`]

    Raises:
        [`UsageError`]: in one line, for anything that cannot be used.
    """
    content = read_recipe(path, "study")
    for name in content:
        if name not in FIELDS:
            raise UsageError(f"{name} in study {str(path)!r} is not a known field; {suggest(name, FIELDS)}")
    missing = [name for name in REQUIRED if not content.get(name)]
    if missing:
        raise UsageError(f"study {str(path)!r} lacks {', '.join(missing)}; give each at least one entry")
    _check_kinds(content, path)
    recipe = read_recipe(content["recipe"])
    policies = {name: dict(entry or {}) for name, entry in content["policies"].items()}
    conditions = {name: dict(entry or {}) for name, entry in content["conditions"].items()}
    scored_by = {name: entry.pop(SCORED_BY, {}) for name, entry in conditions.items()}
    start = content.get("start")
    oracle, reach, apart = (list(content.get(name) or []) for name in ("oracle", "reach", "apart"))
    baselines = list(content.get("baselines") or ([start] if start else []))
    for name in [*baselines, *oracle, *reach, *apart, *([start] if start else [])]:
        # A name may be anything that YAML can hold.
        if name not in list(policies):
            remedy = suggest(str(name), map(str, policies))
            raise UsageError(f"policy {name!r} in study {str(path)!r} is not among its policies; {remedy}")
    cells = dict.fromkeys(
        (policy, condition)
        for row in content["grid"]
        for policy, condition in product(
            _names(row, "policies", policies, path), _names(row, "conditions", conditions, path)
        )
    )
    runs = []
    for rate, seed, (policy, condition) in product(content["learning_rates"], content["seeds"], cells):
        shared = {**(content.get("settings") or {}), **conditions[condition], "learning_rate": rate, "seed": seed}
        settings = {**shared, **policies[policy]}
        warm_up = {**recipe, **settings}.get("sft_warmup_steps", 0)
        if type(warm_up) is not int:
            raise UsageError(f"sft_warmup_steps={warm_up!r} in study {str(path)!r} must be a whole number")
        goes_on = warm_up > 0 and policy != start and (start, condition) in cells
        beginning = None
        if start is not None and goes_on and _before(settings) == _before({**shared, **policies[start]}):
            beginning = StudyRun(start, condition, rate, seed, {}).name
        if not {"held_out_samples": 1, **recipe, **settings}["held_out_samples"]:
            raise UsageError(f"held_out_samples=0 in study {str(path)!r} leaves nothing to compare; give at least 1")
        digest = _digest({**recipe, **settings}, scored_by[condition])
        runs.append(StudyRun(policy, condition, rate, seed, settings, digest, warm_up, beginning))
    # Seed by seed, so that a study that is broken off has whole comparisons; what others wait for comes first.
    runs.sort(key=lambda run: (run.seed, run.start is not None))
    return Study(Path(path).stem, content["recipe"], runs, scored_by, start, baselines, oracle, reach, apart)


def load_scores(study: Study, runs: list[StudyRun]) -> None:
    """
    Args:
        study ([`Study`]):
            The study.
        runs (`list[StudyRun]`):
            Those that are about to start.

    Raises:
        [`UsageError`]: if one of their further rewards cannot be loaded.
    """
    for condition in dict.fromkeys(run.condition for run in runs):
        for reward in study.scored_by[condition].values():
            load_reward(reward, SCORED_BY)


def _check_kinds(content: dict[str, Any], path: str | Path) -> None:
    if not isinstance(content["recipe"], str):
        raise UsageError(f"recipe={content['recipe']!r} in study {str(path)!r} must be the path of a recipe")
    for name in ("policies", "conditions"):
        found = content[name]
        if not isinstance(found, dict) or not all(isinstance(entry, dict | None) for entry in found.values()):
            raise UsageError(f"{name} in study {str(path)!r} must be names, each with fields of the recipe")
    settings = content.get("settings") or {}
    if not isinstance(settings, dict):
        raise UsageError(f"settings={settings!r} in study {str(path)!r} must be fields of the recipe")
    known = vars(RecipeParser().parse_known_args([])[0])
    for entry in (settings, *content["policies"].values()):
        _check_fields(entry or {}, known, path)
    for entry in content["conditions"].values():
        _check_fields(entry or {}, [*known, SCORED_BY], path)
        scored_by = (entry or {}).get(SCORED_BY, {})
        if not isinstance(scored_by, dict):
            raise UsageError(f"{SCORED_BY}={scored_by!r} in study {str(path)!r} must be names, each with a reward")
    for name in ("seeds", "learning_rates", "grid", "baselines", "oracle", "reach", "apart"):
        found = content.get(name) or []
        if not isinstance(found, list):
            raise UsageError(f"{name}={found!r} in study {str(path)!r} must be a list; write [{found}]")
    for name, kinds in (("seeds", int), ("learning_rates", int | float)):
        found = content[name]
        if not all(isinstance(one, kinds) and not isinstance(one, bool) for one in found):
            raise UsageError(f"{name}={found!r} in study {str(path)!r} must be numbers")
        if len(set(found)) < len(found):
            raise UsageError(f"{name}={found!r} in study {str(path)!r} has one of them twice; keep one")


def _check_fields(entry: dict[str, Any], known: Collection[str], path: str | Path) -> None:
    for name, value in entry.items():
        if name in OWN_FIELDS:
            raise UsageError(
                f"{name}={value!r} in study {str(path)!r} is set by the study itself; use {OWN_FIELDS[name]}"
            )
        if name not in known:
            raise UsageError(
                f"{name}={value!r} in study {str(path)!r} is no field of a recipe; {suggest(str(name), known)}"
            )


def _before(settings: dict[str, Any]) -> dict[str, Any]:
    """What a warm-up depends on."""
    return {name: value for name, value in settings.items() if not name.startswith(AFTER_WARM_UP)}


def _digest(fields: dict[str, Any], scored_by: dict[str, str]) -> str:
    numbers = {name: value for name, value in fields.items() if name != "output_dir"}
    return hashlib.sha1(json.dumps([numbers, scored_by], sort_keys=True, default=str).encode()).hexdigest()[:12]


def _names(row: dict[str, Any], kind: str, known: dict[str, Any], path: str | Path) -> list[str]:
    wanted = row.get(kind) if isinstance(row, dict) else None
    if wanted == "all":
        return list(known)
    if not isinstance(wanted, list):
        raise UsageError(f"grid of study {str(path)!r}: {kind}={wanted!r} must be a list of names, or all")
    for name in wanted:
        if name not in list(known):
            raise UsageError(f"grid of study {str(path)!r}: {name!r} is not among {kind}; {suggest(str(name), known)}")
    return wanted


def command_line(run: StudyRun, recipe: str, folder: Path, checkpoint: Path | None) -> list[str]:
    """
    Arguments of the training command.

    Args:
        run ([`StudyRun`]):
            The run.
        recipe (`str`):
            Recipe of the study.
        folder (`Path`):
            Output folder.
        checkpoint (`Path`, *optional*):
            Checkpoint to go on from.

    Returns:
        `list[str]`
    """
    fields = {**run.settings, "output_dir": str(folder)}
    if checkpoint is not None:
        fields["resume_from_checkpoint"] = str(checkpoint)
    arguments = ["--recipe", recipe]
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value)
        arguments += [f"--{name}", text]
    return arguments
