"""An evaluation: load the model only if there is something to do, go through the sets, write numbers and a table."""

import argparse
import functools
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from .. import __version__
from ..compat import installed_versions
from ..evaluation.checkpoint import Checkpoint, read_template, weights_fingerprint
from ..evaluation.errors import EvaluationError
from ..evaluation.problem_set import ProblemSet, check_prompts
from ..evaluation.run_set import check_settings, evaluate_set, fingerprint
from ..evaluation.samplers import Sampler, Sampling, TransformersSampler, VllmSampler, gpu_with_vllm
from ..evaluation.summary import (
    breakdown_rows,
    comparison_rows,
    markdown,
    read_results,
    read_summary,
    summarize,
    table_rows,
)
from ..grading import maths_reward
from ..tasks import Task, load_task
from ..tasks.maths_sets import load_set
from .evaluate_arguments import PlannedSet, parse_arguments
from .output_file import check_writable
from .usage import UsageError, run_command


BATCH_SIZE, VLLM_GROUP_SIZE = 32, 2048


def main(argv: list[str] | None = None, description: str | None = None) -> int:
    """
    Entry point of `scripts/evaluate.py`.

    Args:
        argv (`list[str]`, *optional*):
            Arguments without the program's name. Those of the process if not given.
        description (`str`, *optional*):
            For the help.

    Returns:
        `int`: exit code 0. Bad input ends the process with 2.
    """
    argv = sys.argv[1:] if argv is None else argv
    run_command(functools.partial(_run, argv, description))
    return 0


def _run(argv: list[str], description: str | None) -> None:
    args = parse_arguments(argv, description)
    try:
        if args.compare:
            return compare(*args.compare)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError(
                "an evaluation is one process; start it with python, and give vLLM --tensor_parallel_size"
            )
        _evaluate(args)
    except EvaluationError as error:
        raise UsageError(error) from None


def _evaluate(args: argparse.Namespace) -> None:
    check_writable(Path(args.output_dir), "output_dir")
    engine, template = choose_engine(args), read_template(args.chat_template)
    checkpoint = Checkpoint(args.model, args.revision, args.trust_remote_code)
    reader = checkpoint.load_reader(template)
    sets = [load_problems(planned, args) for planned in args.plan]
    for one in sets:
        check_prompts(one, reader, checkpoint, engine, args.chat_template_kwargs)
    settings = common_settings(args, engine, checkpoint, template)
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    load = functools.partial(load_sampler, args, engine, checkpoint, reader)
    report(evaluate_sets(sets, args, settings, folder, load), settings, folder)


def evaluate_sets(
    sets: list[ProblemSet], args: argparse.Namespace, settings: dict, folder: Path, load
) -> dict[str, dict[str, Any]]:
    """
    Go through the sets; what is finished is read, and the model is loaded with the first that is not.

    Args:
        sets (`list[ProblemSet]`):
            What to evaluate.
        args (`argparse.Namespace`):
            Checked arguments.
        settings (`dict[str, Any]`):
            What all results depend on.
        folder (`Path`):
            Output folder.
        load (`Callable[[], Sampler]`):
            Loads the model.

    Returns:
        `dict[str, dict[str, Any]]`: summary by name of the set.
    """
    results: dict[str, dict[str, Any]] = {}
    sampler: Sampler | None = None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def advance(bar: TaskID) -> Callable[[int], None]:
            return lambda done: progress.update(bar, completed=done)

        bars = [progress.add_task(one.name, total=len(one.dataset)) for one in sets]
        for one, bar in zip(sets, bars, strict=True):
            name, dataset, samples = one.name, one.dataset, one.samples
            path = folder / f"{name}.json"
            depends = settings | {"task_kwargs": one.task_kwargs}
            own = depends | {"set": name, "samples": samples, "problems": fingerprint(dataset)}
            if path.is_file():
                finished = read_summary(path)
                check_settings(path, finished["settings"], own)
                results[name] = finished
                progress.update(bar, completed=len(dataset))
                continue
            sampler = load() if sampler is None else sampler
            started = time.monotonic()
            records = evaluate_set(
                name,
                dataset,
                one.reward_funcs,
                sampler,
                samples=samples,
                seed=args.seed,
                settings=depends,
                folder=folder,
                progress=advance(bar),
            )
            results[name] = {
                "settings": own,
                "seconds": round(time.monotonic() - started, 1),
                "versions": {"trl_amft": __version__, **installed_versions()},
                **summarize(records, route_lengths=one.route_lengths),
            }
            # Whole or absent: what is there is taken for finished.
            part = path.with_suffix(".json.part")
            part.write_text(json.dumps(results[name], indent=1) + "\n", encoding="utf-8")
            os.replace(part, path)
    return results


def load_problems(planned: PlannedSet, args: argparse.Namespace) -> ProblemSet:
    """A set, cut to the first problems where only those are wanted."""
    try:
        if planned.task is None:
            dataset, reward_funcs = load_set(planned.name, args.data_dir), [maths_reward]
        else:
            task: Task = load_task(planned.task, **(planned.task_kwargs or {}))
            dataset, reward_funcs = task.held_out_dataset, task.reward_funcs
    except (ValueError, TypeError) as error:
        raise UsageError(f"set {planned.name!r}: {error}") from None
    lengths = Counter(dataset["route"]) if "route" in dataset.column_names else {}
    if args.limit is not None:
        dataset = dataset.select(range(min(args.limit, len(dataset))))
    if len(dataset) == 0:
        raise UsageError(f"set {planned.name!r} has no problem with an answer; give another one")
    return ProblemSet(planned.name, planned.samples, dataset, reward_funcs, lengths, planned.task_kwargs)


def choose_engine(args: argparse.Namespace) -> str:
    """`"vllm"` or `"transformers"`; refuses a vLLM that cannot be used."""
    if args.engine == "auto":
        adapter = Path(args.model, "adapter_config.json").is_file()
        return "vllm" if gpu_with_vllm() and not adapter else "transformers"
    if args.engine == "vllm" and find_spec("vllm") is None:
        raise UsageError("engine='vllm' is not installed; run `pip install 'trl_amft[vllm]'`, or give transformers")
    if args.engine == "vllm" and Path(args.model, "adapter_config.json").is_file():
        raise UsageError(f"model={args.model!r} is an adapter, which engine='vllm' does not merge; give transformers")
    return args.engine


def load_sampler(
    args: argparse.Namespace,
    engine: str,
    checkpoint: Checkpoint,
    reader: PreTrainedTokenizerBase | ProcessorMixin,
) -> Sampler:
    """The model behind the chosen engine."""
    sampling, options = Sampling(args.temperature, args.top_p, args.max_tokens), args.chat_template_kwargs
    if engine == "transformers":
        model, size = checkpoint.load_model(args.dtype), args.batch_size or BATCH_SIZE
        return TransformersSampler(model, reader, sampling, size, options)
    try:
        return VllmSampler(
            args.model,
            reader,
            sampling,
            args.batch_size or VLLM_GROUP_SIZE,
            options,
            revision=args.revision,
            dtype=args.dtype,
            seed=args.seed,
            tensor_parallel_size=args.tensor_parallel_size,
            gpu_memory_utilization=args.gpu_memory_utilization,
            trust_remote_code=args.trust_remote_code,
        )
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(
            f"model={args.model!r} cannot be loaded by vLLM ({error}); give another one, or --engine transformers"
        ) from None


def common_settings(
    args: argparse.Namespace, engine: str, checkpoint: Checkpoint, template: str | None
) -> dict[str, Any]:
    """What the results of every set depend on."""
    default = VLLM_GROUP_SIZE if engine == "vllm" else BATCH_SIZE
    return {
        "model": args.model,
        "revision": args.revision,
        "weights": weights_fingerprint(checkpoint.name),
        "engine": engine,
        "dtype": args.dtype,
        "temperature": args.temperature,
        "top_p": args.top_p,
        "max_tokens": args.max_tokens,
        "seed": args.seed,
        "batch_size": args.batch_size or default,
        "chat_template": template and hashlib.sha256(template.encode()).hexdigest()[:16],
        # Without any as in results of earlier versions.
        "chat_template_kwargs": args.chat_template_kwargs or None,
    }


def report(results: dict[str, dict[str, Any]], settings: dict[str, Any], folder: Path) -> None:
    """
    Write `results.md` and print the table.

    Args:
        results (`dict[str, dict[str, Any]]`):
            Summary by name of the set.
        settings (`dict[str, Any]`):
            What they depend on.
        folder (`Path`):
            Output folder.
    """
    rows, parts = table_rows(results), breakdown_rows(results)
    shown = ("engine", "temperature", "top_p", "max_tokens", "seed")
    lines = [f"# {settings['model']}\n\n", ", ".join(f"{key} {settings[key]}" for key in shown) + ". Percent; "]
    lines.append("intervals by bootstrap over problems.\n\n" + markdown(rows))
    if parts:
        lines.append("\n" + markdown(parts))
    (folder / "results.md").write_text("".join(lines), encoding="utf-8")
    _print(rows, str(settings["model"]))
    Console().print(f"written: {folder / 'results.md'}", soft_wrap=True)


def compare(first: str, second: str) -> None:
    """
    Print the paired differences of two evaluations, as a table and in Markdown.

    Args:
        first (`str`):
            Output folder A.
        second (`str`):
            Output folder B.
    """
    rows = comparison_rows(read_results(first), read_results(second))
    _print(rows, f"A = {first}, B = {second}, in percent")
    sys.stdout.write("\n" + markdown(rows))


def _print(rows: list[list[str]], title: str) -> None:
    table = Table(title=title)
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    # Cut numbers would be worse than wrapped lines.
    Console(width=max(Console().width, 140)).print(table)
