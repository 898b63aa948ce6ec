"""The command that looks before a run: what is wrong, why, and what to do; exit code 1 where anything is."""

import argparse
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console

from ..amft_config import AMFTConfig
from ..doctor import NOTE, OK, PROBLEM, Finding
from ..doctor.data import check_demonstrations, check_prompts, check_schema, len_or_none, load_tokenizer
from ..doctor.findings import problem
from ..doctor.grader import check_grader
from ..doctor.machine import check_deepspeed, check_devices, check_versions, check_vllm
from ..doctor.recipe import (
    check_batches,
    check_disk,
    check_length,
    check_memory,
    deepspeed_stage,
    model_config,
    model_sizes,
)
from .arguments import Recipe, parse_recipe
from .data import RunData, load_data
from .deepspeed_choice import choose_deepspeed
from .recipe_file import read_recipe
from .usage import UsageError, run_command


Section = tuple[str, list[Finding]]
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
        raise UsageError(f"{fields[0]!r} needs a recipe; give --recipe FILE")
    for name in ("processes", "gpu_memory"):
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            raise UsageError(f"--{name} {value} must be positive")
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
        yield "machine", check_devices()
        yield "recipe", findings
        return
    stage, offload = deepspeed_stage(recipe)
    needed = bool(stage) and processes > 1
    machine = [*check_devices(recipe.training), *check_deepspeed(needed, offload), *check_vllm(recipe.training)]
    yield "machine", machine
    data, loaded = _load(recipe)
    train = data.train_dataset if data is not None else None
    problems = len_or_none(train) if train is not None else None
    yield "recipe", [*findings, *check_batches(recipe, processes, problems)]
    # Prompts come before the model, whose positions they have to fit into.
    prompt = None
    if data is not None:
        loaded += check_schema(data)
        tokenizer, line = load_tokenizer(recipe)
        loaded += [line] if line else []
        if tokenizer is not None:
            lines, prompt = check_prompts(recipe, data, tokenizer)
            loaded += [*lines, *check_demonstrations(recipe, data, tokenizer)]
    yield "data", loaded
    yield "model and memory", _model(recipe, processes, arguments.gpu_memory, prompt)
    uses_grader = recipe.run.task == "maths"
    yield "grader", check_grader(needed=uses_grader)


def _parse(path: str, fields: list[str], processes: int) -> tuple[Recipe | None, list[Finding]]:
    argv: list[str] = ["--recipe", path, *fields]
    found: list[Finding] = []
    try:
        wanted = read_recipe(path).get("bf16") is not False
        if wanted and not torch.cuda.is_available() and not any(token.startswith("--bf16") for token in fields):
            # TRL refuses it where there is no GPU; the recipe may well be for another machine.
            argv += ["--bf16", "false"]
            found.append(Finding(NOTE, "bf16 is read as false here, because there is no GPU"))
        with _world_of(processes):
            recipe = parse_recipe(argv)
    except UsageError as error:
        return None, [problem(error)]
    found += [Finding(OK, f"{path} is valid; {len(recipe.changed)} fields differ from their defaults")]
    _, line = choose_deepspeed(recipe.changed.get("deepspeed"), os.environ, processes)
    return recipe, [*found, *([Finding(NOTE, line)] if line else [])]


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
