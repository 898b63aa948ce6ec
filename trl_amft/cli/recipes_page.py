"""
The reference of recipes, made from the help texts of the fields and from the recipes themselves.

Fields of TRL and transformers are named and not explained: their texts belong to the installed versions.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from trl import GRPOConfig, ScriptArguments

from ..amft_config import CHOICES, AMFTConfig
from ..tasks import TASKS
from . import recipe_ranges
from .recipe_fields import METHODS, RecipeArguments, expected
from .recipe_file import read_recipe


HEAD = """\
# Recipes

<!-- Written by `python scripts/write_docs.py` from the help texts of the fields; a test compares. -->

A recipe is a YAML file of flat keys. Every key can be overridden on the command line; the order of precedence is
command line, then `--method`, then recipe, then default. An unknown key, a wrong type or a value out of range is
refused in one line before a model is loaded.

```bash
python scripts/train.py --recipe recipes/quickstart.yaml --mu_init 0.3 --output_dir outputs/other
```

Numbers and truth values are read as YAML 1.2 does: `1e-3` is a number, `no` is text. `null` empties a field that may
be empty. Mappings on the command line are JSON: `--task_kwargs '{"seed": 1}'`. A mapping takes the place of the
recipe's whole mapping: give all its keys. (`scripts/evaluate.py` adds its `--task_kwargs` to the recipe's.)
"""


def recipes_page(folder: Path) -> str:
    """
    Args:
        folder (`Path`):
            Where the recipes are.

    Returns:
        `str`: the page, as Markdown.
    """
    inherited = {entry.name for parent in (ScriptArguments, GRPOConfig) for entry in dataclasses.fields(parent)}
    parts = [HEAD, "## Recipes here\n", *_recipes(folder)]
    parts += ["## Run, data and evaluation\n", *_fields(RecipeArguments, inherited)]
    parts += [_methods(), _tasks()]
    parts += ["## Mixing, meta-gradient and demonstrations\n", *_fields(AMFTConfig, inherited)]
    parts += ["## Of TRL and transformers\n", _foreign(folder), "\n### Ranges that are checked here\n", *_ranges()]
    return "\n".join(parts).rstrip() + "\n"


def _recipes(folder: Path) -> list[str]:
    lines = ["| recipe | command |", "|---|---|"]
    for path in sorted(folder.glob("*.yaml")):
        command = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        lines.append(f"| [`{path.name}`](../recipes/{path.name}) | `{command}` |")
    return [*lines, ""]


def _fields(arguments: type, inherited: set[str]) -> list[str]:
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for entry in dataclasses.fields(arguments):
        if entry.name in inherited:
            continue
        choices = entry.metadata.get("choices") or CHOICES.get(entry.name)
        kind = "one of " + ", ".join(f"`{choice}`" for choice in choices) if choices else expected(entry.name)
        lines.append(f"| `{entry.name}` | {kind} | {_value(entry.default)} | {entry.metadata.get('help', '')} |")
    return [*lines, ""]


def _methods() -> str:
    lines = ["| `--method` | sets |", "|---|---|"]
    for name, changes in METHODS.items():
        shown = ", ".join(f"`{key}: {_plain(value)}`" for key, value in changes.items()) or "nothing"
        lines.append(f"| `{name}` | {shown} |")
    return "\n".join([*lines, ""])


def _tasks() -> str:
    names = ", ".join(f"`{name}`" for name in TASKS)
    return f"Tasks: {names}; their arguments are in [Tasks](tasks.md).\n"


def _foreign(folder: Path) -> str:
    own = {entry.name for arguments in (RecipeArguments, AMFTConfig) for entry in dataclasses.fields(arguments)}
    own -= {entry.name for entry in dataclasses.fields(GRPOConfig)}
    used = {key for path in folder.glob("*.yaml") for key in read_recipe(path)} - own
    names = ", ".join(f"`{name}`" for name in sorted(used))
    return (
        "Every argument of TRL's `GRPOConfig`, `ModelConfig` and `ScriptArguments` is a field too, with its meaning "
        f"there. The recipes here set: {names}."
    )


def _ranges() -> list[str]:
    lines = ["| field | allowed |", "|---|---|"]
    lines += [f"| `{name}` | {allowed} |" for name, allowed in recipe_ranges.RANGES.items()]
    lines += [
        f"| `{name}` | {', '.join(f'`{_plain(choice)}`' for choice in choices)} |"
        for name, choices in recipe_ranges.CHOICES.items()
    ]
    return lines


def _value(value: Any) -> str:
    return "–" if value is dataclasses.MISSING else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
