"""
Recipes are YAML files of flat keys. They are read as YAML 1.2 writes numbers and truth values.

PyYAML follows YAML 1.1, where `1e-3` is a string and `no` is false, so `learning_rate` inside a nested mapping or
`eval_strategy: no` would silently mean something else than what stands in the file.
"""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml

from .usage import UsageError


class RecipeLoader(yaml.SafeLoader):
    """Safe YAML loader with the truth values and floats of YAML 1.2. A key that occurs twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise UsageError(f"{key} is given twice (again in line {key_node.start_mark.line + 1}); keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


RecipeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+|[-+]?\.(?:inf|Inf)|\.(?:nan|NaN))$"
    ),
    list("-+.0123456789"),
)


# One file of each kind; the others of its kind lie beside it.
EXAMPLES = {
    "recipe": Path("recipes/quickstart.yaml"),
    "study": Path("recipes/studies/core.yaml"),
    "scenario": Path("examples/imagined/twenty_questions.yaml"),
}


def read_recipe(path: str | Path, field: str = "recipe") -> dict[str, Any]:
    """
    Read a recipe, or another file of one mapping.

    Args:
        path (`str` or `Path`):
            YAML file that holds one mapping.
        field (`str`, *optional*, defaults to `"recipe"`):
            The argument that named it, a key of `EXAMPLES`.

    Returns:
        `dict[str, Any]`: the mapping, unchecked.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{field}={str(path)!r} is not a file; {_remedy(path, EXAMPLES[field])}")
    try:
        recipe = yaml.load(path.read_text(encoding="utf-8"), Loader=RecipeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{field}={str(path)!r} is not valid YAML ({error}); write 'key: value' lines in UTF-8, indented by spaces"
        ) from None
    except UsageError as error:
        raise UsageError(f"{field}={str(path)!r}: {error}") from None
    if not isinstance(recipe, dict) or not all(isinstance(key, str) for key in recipe):
        raise UsageError(f"{field}={str(path)!r} must hold lines of the form 'key: value'")
    return recipe


def _remedy(path: Path, example: Path) -> str:
    for folder in (path.parent, example.parent):
        there = {file.stem: file for file in _files(folder)}
        # Their ending is the same for all.
        near = difflib.get_close_matches(path.stem, there, n=1)
        if near:
            return f"did you mean {str(there[near[0]])!r}?"
    if files := _files(path.parent):
        return f"{str(path.parent)!r} holds: {', '.join(file.name for file in files)}"
    return f"give the path of a YAML file, for example {example}"


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.yaml") if not file.name.startswith("."))
