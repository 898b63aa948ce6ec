"""The command that looks before a run: what is wrong, why, and what to do; exit code 1 where anything is."""

import argparse
import functools
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..amft_config import AMFTConfig
from ..compat import as_mapping
from ..doctor import NOTE, OK, PROBLEM, Finding
from ..doctor.data import check_prompts, check_schema, len_or_none, load_tokenizer
from ..doctor.demonstrations import check_demonstrations
from ..doctor.findings import problem
from ..doctor.grader import check_grader, uses_grader
from ..doctor.machine import check_deepspeed, check_devices, check_versions, check_vllm
from ..doctor.output import check_disk, check_output_folder
from ..doctor.recipe import (
    check_batches,
    check_length,
    check_memory,
    check_optimizer_name,
    deepspeed_stage,
    model_config,
    model_sizes,
)
from ..doctor.rewards import check_reward_calls
from ..tiny_model import build_tiny_model
from .arguments import Recipe, parse_recipe
from .data import RunData, load_data
from .deepspeed_choice import choose_deepspeed
from .recipe_file import read_recipe
from .usage import UsageError, run_command, suggest


Section = tuple[str, list[Finding]]
MOST_MISTAKES = 20
STYLES = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}
# How errors of a network, a hub or an offline mode begin or what they name.
UNREACHABLE = ("cannot be loaded", "offline", "Offline", "ConnectionError", "LocalEntryNotFound", "Couldn't reach")
ASSUMED_GPU_MEMORY = 80.0


def main(argv: list[str] | None = None) -> int:
    """
    The command `scripts/doctor.py`.

    Args:
        argv (`list[str]`, *optional*):
            Arguments without the program's name. Those of the process if not given.

    Returns:
        `int`: 0 where nothing is wrong, 1 where anything is. A command line that cannot be read ends with 2.
    """
    return run_command(functools.partial(_diagnose, sys.argv[1:] if argv is None else argv))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UsageError(f"{message}; for example: doctor.py --recipe recipes/math.yaml")


def _diagnose(argv: list[str]) -> int:
    parser = _Parser(
        prog="doctor.py",
        allow_abbrev=False,
        description="Checks versions, GPUs, DeepSpeed, vLLM and the grader, and a recipe with its batch sizes, memory "
        "and data. Further arguments are fields of the recipe, as for train.py.",
    )
    parser.add_argument("--recipe", metavar="FILE", help="recipe to check; without it only the machine is")
    parser.add_argument("--processes", type=int, metavar="N", help="processes that will train; the GPUs here if unset")
    parser.add_argument("--gpu_memory", type=float, metavar="GB", help="of one GPU; as here, or 80 without one")
    arguments, fields = parser.parse_known_args(argv)
    if fields and arguments.recipe is None:
        near = suggest(fields[0], ["--recipe", "--processes", "--gpu_memory"])
        raise UsageError(f"{fields[0]!r} needs a recipe, given as --recipe FILE; {near}")
    for name, allowed in (("processes", "an integer in [1, inf)"), ("gpu_memory", "a number in (0, inf)")):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name} {value} is out of range; give {allowed}")
    console, wrong = Console(), 0
    for title, findings in _sections(arguments, fields):
        console.print(title, style="bold")
        for level, text in findings:
            wrong += level == PROBLEM
            # No wrapping: a line is to be found by grep, and copied whole.
            console.print(f"  {level:8}", style=STYLES[level], end="")
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    summary = "nothing is wrong" if not wrong else f"{wrong} problem{'s' if wrong > 1 else ''} found"
    console.print(summary, style="green" if not wrong else "bold red")
    return 1 if wrong else 0


def _sections(arguments: argparse.Namespace, fields: list[str]) -> Iterator[Section]:
    yield "versions", check_versions()
    if arguments.recipe is None:
        yield "machine", [*check_devices(), *check_deepspeed(False, False), *check_vllm(None)]
        yield "grader", check_grader(needed=False)
        return
    processes = arguments.processes or max(torch.cuda.device_count(), 1)
    recipe, findings = _parse(arguments.recipe, fields, processes)
    if recipe is None:
        yield "machine", [*check_devices(), *check_deepspeed(False, False), *check_vllm(None)]
        yield "recipe", findings
        yield "grader", check_grader(needed=False)
        return
    _, offload = deepspeed_stage(recipe)
    needed = recipe.changed.get("deepspeed") is not None and processes > 1
    machine = [*check_devices(recipe.training), *check_deepspeed(needed, offload), *check_vllm(recipe.training)]
    yield "machine", machine
    data, loaded = _load(recipe)
    train = data.train_dataset if data is not None else None
    problems = len_or_none(train) if train is not None else None
    arithmetic = check_batches(recipe, processes, problems)
    yield "recipe", [*findings, *arithmetic, *check_optimizer_name(recipe), *check_output_folder(recipe)]
    # Prompts come before the model, whose positions they have to fit into.
    prompt = None
    if data is not None:
        loaded += check_schema(data)
        tokenizer, line = load_tokenizer(recipe)
        loaded += [line] if line else []
        if tokenizer is not None:
            lines, prompt = check_prompts(recipe, data, tokenizer)
            loaded += [*lines, *check_demonstrations(recipe, data, tokenizer)]
        loaded += check_reward_calls(data)
    yield "data", loaded
    yield "model and memory", _model(recipe, processes, arguments.gpu_memory, prompt)
    rewards = data.reward_funcs if data is not None else None
    yield "grader", check_grader(needed=uses_grader(recipe.run, rewards))


def _parse(path: str, fields: list[str], processes: int) -> tuple[Recipe | None, list[Finding]]:
    found: list[Finding] = []
    try:
        given = read_recipe(path)
    except UsageError as error:
        return None, [problem(error)]
    argv = list(fields)
    if given.get("bf16") is not False and not torch.cuda.is_available() and not _names("bf16", fields):
        # TRL refuses it where there is no GPU; the recipe may well be for another machine.
        argv += ["--bf16", "false"]
        found.append(
            Finding(NOTE, "bf16 is read as false here, because there is no GPU; train with --bf16 false here")
        )
    recipe, mistakes = _mistakes(path, given, argv, processes)
    if recipe is None or mistakes:
        return None, mistakes
    try:
        deepspeed_stage(recipe)
    except UsageError as error:
        return None, [problem(error)]
    found += [Finding(OK, f"{path} is valid; {len(recipe.changed)} fields differ from their defaults")]
    # That the package is missing is told of the machine.
    with suppress(UsageError):
        _, line = choose_deepspeed(recipe.changed.get("deepspeed"), os.environ, processes)
        found += [Finding(NOTE, line)] if line else []
    return recipe, found


def _mistakes(
    path: str, given: dict[str, Any], argv: list[str], processes: int
) -> tuple[Recipe | None, list[Finding]]:
    """Parse, take out the field that an error names, and parse what is left, as long as that says something new."""
    found: list[Finding] = []
    left, dropped = dict(given), set[str]()
    with tempfile.TemporaryDirectory() as folder, _world_of(processes):
        copy = Path(folder) / "recipe.yaml"
        read = path
        while len(found) < MOST_MISTAKES:
            try:
                return parse_recipe(["--recipe", read, *argv]), found
            except UsageError as error:
                words = re.findall(r"\w+", str(error))
                if dropped & set(words):
                    break
                found.append(problem(str(error).replace(str(copy), path)))
                name = next((word for word in words if word in left), None)
                if name is None:
                    break
                del left[name]
                dropped.add(name)
                # YAML holds JSON.
                copy.write_text(json.dumps(left, default=str), encoding="utf-8")
                read = str(copy)
    return None, found


def _names(field: str, tokens: list[str]) -> bool:
    return any(token.partition("=")[0] == f"--{field}" for token in tokens)


@contextmanager
def _world_of(processes: int) -> Iterator[None]:
    """Batch sizes have to divide where the run will be, not where the doctor is."""
    setattr(AMFTConfig, "world_size", processes)  # noqa: B010, a property of the class above
    try:
        yield
    finally:
        delattr(AMFTConfig, "world_size")  # noqa: B043


def _load(recipe: Recipe) -> tuple[RunData | None, list[Finding]]:
    try:
        return load_data(recipe.run, recipe.training), []
    except UsageError as error:
        text = str(error)
        if any(sign in text for sign in UNREACHABLE) and "is not a file" not in text:
            return None, [Finding(NOTE, f"not reachable from here, so columns and lengths are not checked: {text}")]
        return None, [problem(text)]


def _model(recipe: Recipe, processes: int, gpu_memory: float | None, prompt: int | None) -> list[Finding]:
    if recipe.run.tiny_model is not None:
        try:
            build_tiny_model(**as_mapping(recipe.run.tiny_model))
        except (ValueError, TypeError) as error:
            return [problem(f"tiny_model: {error}")]
        return [Finding(OK, f"a tiny model from random weights: {recipe.run.tiny_model}")]
    config, found = model_config(recipe)
    lines = [found]
    if config is not None:
        lines += check_length(recipe, config, prompt)
    sizes, line = model_sizes(recipe, config)
    lines += [line] if line else []
    if sizes is not None:
        here = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else None
        size = gpu_memory * 1e9 if gpu_memory else here or ASSUMED_GPU_MEMORY * 1e9
        exact = bool(gpu_memory or here)
        if here is None and not gpu_memory and recipe.training.use_cpu:
            return lines
        lines += check_memory(recipe, sizes, processes, size, prompt, exact)
    return lines + check_disk(recipe, sizes)
