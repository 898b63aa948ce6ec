"""Arguments of an evaluation, checked before anything is loaded."""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..tasks import TASKS
from ..tasks.maths_sets import SETS, SUITES
from .arguments import RecipeParser
from .output_file import may_be_folder
from .recipe_fields import RecipeArguments, check_type
from .recipe_file import read_recipe
from .recipe_ranges import check_values
from .usage import UsageError, suggest


# Suites that are tasks of this package, with the splits that are evaluated.
TASK_SUITES = dict.fromkeys(("general_points", "virl"), ("in_distribution", "rule"))
TASK_SAMPLES = 4
# What an evaluation takes from a recipe, which may not fit this machine otherwise.
RUN_FIELDS = ("task", "task_kwargs", "held_out_samples")
OF_RECIPE = (*RUN_FIELDS, "temperature", "max_completion_length", "chat_template_kwargs")
ENGINES = ("auto", "vllm", "transformers")


class OneLineParser(argparse.ArgumentParser):
    """A parser that answers mistakes with [`UsageError`] instead of a page of usage."""

    def error(self, message: str):
        unknown = re.match(r"unrecognized arguments: (--\S+)", message)
        if unknown:
            names = [option for action in self._actions for option in action.option_strings]
            raise UsageError(f"{unknown.group(1)} is not a known argument; {suggest(unknown.group(1), names)}")
        raise UsageError(f"{message}; see --help")


@dataclass(frozen=True)
class PlannedSet:
    """
    A set to evaluate.

    Args:
        name (`str`):
            Name of its files.
        samples (`int`):
            Completions per problem.
        task (`str`, *optional*):
            The task that it is the held-out part of; a set of `trl_amft.tasks.maths_sets.SETS` if not given.
        task_kwargs (`dict[str, Any]`, *optional*):
            Arguments of the task.
    """

    name: str
    samples: int
    task: str | None = None
    task_kwargs: dict[str, Any] | None = None


def parser(description: str | None = None) -> OneLineParser:
    made = OneLineParser(
        prog="evaluate.py",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--model", help="local folder of a checkpoint, or a name on the Hub")
    add("--revision", help="revision on the Hub")
    add("--suite", nargs="+", default=[], metavar="SUITE", help=f"one or more of {', '.join([*SUITES, *TASK_SUITES])}")
    add("--set", nargs="+", default=[], metavar="SET", help=f"one or more of {', '.join(SETS)}")
    add("--recipe", help="evaluate on the held-out problems of a recipe's task, sampled as its rollouts are")
    add("--task", help=f"evaluate on the held-out problems of a task: {', '.join(TASKS)}")
    add("--task_kwargs", help="arguments of the task as JSON; with --recipe they are added to the recipe's")
    add("--data_dir", help="folder with local copies NAME.jsonl or NAME.parquet of the sets")
    add(
        "--output_dir", help="where results go, and from where an evaluation goes on; default outputs/evaluation/MODEL"
    )
    add(
        "--samples",
        type=int,
        help="completions per problem; default 32 for AIME and AMC, 1 for other sets, 4 for tasks",
    )
    add("--limit", type=int, help="only the first problems of each set")
    add("--temperature", type=float, help="default 0.6")
    add("--top_p", type=float, default=1.0, help="default 1.0")
    add("--max_tokens", type=int, help="longest completion; default 8192")
    add("--seed", type=int, default=0, help="default 0")
    add("--engine", choices=ENGINES, default="auto", help="auto takes vLLM where it is installed and a GPU is there")
    add("--batch_size", type=int, help="completions at once; default 32, with vLLM 2048")
    add("--dtype", default="auto", help="auto, float32, bfloat16 or float16; default that of the checkpoint")
    add("--tensor_parallel_size", type=int, default=1, help="GPUs of one vLLM engine; default 1")
    add("--gpu_memory_utilization", type=float, default=0.9, help="share of a GPU for vLLM; default 0.9")
    add("--chat_template", help="file with a chat template, for a model without one")
    add("--chat_template_kwargs", help="arguments of the chat template as JSON, for all sets; added to the recipe's")
    add("--trust_remote_code", action="store_true", help="run code that comes with the model")
    add(
        "--compare", nargs=2, metavar=("A", "B"), help="paired differences B - A of two output folders; nothing is run"
    )
    return made


def parse_arguments(argv: list[str], description: str | None = None) -> argparse.Namespace:
    """
    Parse and check the arguments.

    Args:
        argv (`list[str]`):
            Command line without the program.
        description (`str`, *optional*):
            For the help.

    Returns:
        `argparse.Namespace`: with `plan`, a list of [`PlannedSet`], and the defaults filled in.

    Raises:
        [`UsageError`]: on anything that cannot be used, in one line.
    """
    args = parser(description).parse_args(argv)
    if args.compare:
        return args
    if not args.model:
        raise UsageError("--model is missing; give the folder of a checkpoint or a name on the Hub")
    recipe = _recipe(args.recipe) if args.recipe else {}
    args.plan = _plan(args, recipe)
    args.temperature = _given(args.temperature, recipe.get("temperature"), 0.6)
    args.max_tokens = _given(args.max_tokens, recipe.get("max_completion_length"), 8192)
    own = _mapping("chat_template_kwargs", args.chat_template_kwargs)
    args.chat_template_kwargs = recipe.get("chat_template_kwargs", {}) | own
    args.output_dir = args.output_dir or str(Path("outputs") / "evaluation" / Path(args.model).name)
    ranges: list[tuple[str, Callable[[Any], bool], str]] = [
        ("samples", lambda value: value is None or value >= 1, "at least 1"),
        ("limit", lambda value: value is None or value >= 1, "at least 1"),
        ("batch_size", lambda value: value is None or value >= 1, "at least 1"),
        ("max_tokens", lambda value: value >= 1, "at least 1"),
        ("temperature", lambda value: value >= 0, "0 for the likeliest token, or more"),
        ("top_p", lambda value: 0 < value <= 1, "above 0 and at most 1"),
        ("tensor_parallel_size", lambda value: value >= 1, "at least 1"),
        ("gpu_memory_utilization", lambda value: 0 < value <= 1, "above 0 and at most 1"),
        (
            "dtype",
            lambda value: value in ("auto", "float32", "bfloat16", "float16"),
            "auto, float32, bfloat16 or float16",
        ),
        ("output_dir", may_be_folder, "a folder, and none of its parents a file"),
        ("data_dir", lambda value: value is None or Path(value).is_dir(), "an existing folder"),
        ("chat_template", lambda value: value is None or Path(value).is_file(), "an existing file"),
    ]
    for name, allowed, expected in ranges:
        value = getattr(args, name)
        if not allowed(value):
            raise UsageError(f"{name}={value!r} is out of range; expected {expected}")
    return args


def _plan(args: argparse.Namespace, recipe: dict[str, Any]) -> list[PlannedSet]:
    plan = []
    for suite in args.suite:
        if suite in SUITES:
            plan += [_maths_set(args, name) for name in SUITES[suite]]
        elif suite in TASK_SUITES:
            plan += [
                PlannedSet(f"{suite}_{split}", args.samples or TASK_SAMPLES, suite, {"held_out": split})
                for split in TASK_SUITES[suite]
            ]
        else:
            raise UsageError(f"suite={suite!r} is not known; {suggest(suite, [*SUITES, *TASK_SUITES])}")
    for name in args.set:
        if name not in SETS:
            raise UsageError(f"set={name!r} is not known; {suggest(name, SETS)}")
        plan.append(_maths_set(args, name))
    task = args.task or recipe.get("task")
    if args.task and recipe:
        raise UsageError(f"task={args.task!r} and recipe={args.recipe!r}: give one of the two")
    if args.task_kwargs is not None and not task:
        raise UsageError(f"task_kwargs={args.task_kwargs!r} needs --task or --recipe")
    if task:
        if task not in TASKS:
            raise UsageError(f"task={task!r} is not known; {suggest(task, TASKS)}")
        kwargs = (recipe.get("task_kwargs") or {}) | _mapping("task_kwargs", args.task_kwargs)
        plan.append(PlannedSet(task, args.samples or recipe.get("held_out_samples") or TASK_SAMPLES, task, kwargs))
    if not plan:
        raise UsageError("nothing to evaluate; give --suite, --set, --task or --recipe")
    names = [planned.name for planned in plan]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"set={twice!r} is given twice, by name or by suite; keep one")
    return plan


def _maths_set(args: argparse.Namespace, name: str) -> PlannedSet:
    return PlannedSet(name, args.samples or SETS[name].samples)


def _recipe(path: str) -> dict[str, Any]:
    recipe = read_recipe(path)
    if not recipe.get("task"):
        raise UsageError(
            f"recipe={path!r} has no task, whose held-out problems could be evaluated; give --set or --task"
        )
    given = {name: recipe[name] for name in OF_RECIPE if name in recipe}
    try:
        for name, value in given.items():
            check_type(name, value)
        check_values(given)
        recipe_parser = RecipeParser()
        recipe_parser.set_defaults_with_config(**given)
        # Text becomes numbers here, as for a run.
        values = vars(recipe_parser.parse_known_args([])[0])
        run = RecipeArguments(**{name: values[name] for name in given if name in RUN_FIELDS})
        options = _mapping("chat_template_kwargs", values["chat_template_kwargs"])
    except UsageError as error:
        raise UsageError(f"recipe={path!r}: {error}") from None
    read = {name: values[name] for name in given}
    return read | {"task_kwargs": run.task_kwargs, "chat_template_kwargs": options}


def _mapping(name: str, given: dict[str, Any] | str | None) -> dict[str, Any]:
    if given is None:
        return {}
    try:
        value = json.loads(given) if isinstance(given, str) else given
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise UsageError(f"{name}={given!r} is no JSON mapping; write it as '{{\"key\": value}}'")
    return value


def _given(*values: Any) -> Any:
    return next(value for value in values if value is not None)
