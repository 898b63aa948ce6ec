"""The command behind `scripts/make_prefixes.py`: cut solutions, make the model stop there, write what it is worth."""

import functools
import json
import math
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..compat import as_mapping
from ..demonstrations import without_opened_tag
from ..evaluation.generation import render_prompts
from ..evaluation.samplers import (
    Sample,
    Sampling,
    TransformersSampler,
    VllmSampler,
    derived_seed,
    gpu_with_vllm,
)
from ..prefixes import Prefix, prefix_rows, prefixes_of, without_bos
from ..tiny_model import build_tiny_model, save_tiny_model
from .arguments import Recipe, parse_recipe
from .data import load_data
from .evaluate_arguments import OneLineParser
from .smoke import ROWS
from .usage import UsageError, run_command


MODES = ("continue", "terminate")
# Problems whose answers are drawn and written together.
CHUNK = 16


def main(argv: list[str] | None = None, description: str | None = None) -> int:
    """
    Entry point of `scripts/make_prefixes.py`.

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
    parser = OneLineParser(prog="make_prefixes.py", description=description, allow_abbrev=False)
    parser.add_argument("--output", required=True, help="JSON lines file to write; one that is not finished goes on")
    parser.add_argument("--answers", type=int, default=8, help="answers at each prefix; default 8")
    parser.add_argument("--answer_temperature", type=float, default=0.7, help="default 0.7")
    parser.add_argument("--answer_top_p", type=float, default=0.95, help="default 0.95")
    parser.add_argument("--answer_tokens", type=int, default=512, help="longest answer in tokens; default 512")
    parser.add_argument("--prefixes", type=int, default=4, help="most prefixes of a solution; default 4")
    parser.add_argument("--group", type=int, default=1, help="episodes that are taken together; default 1")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES, help="rows to write; default both")
    parser.add_argument("--sample_solutions", action="store_true", help="solutions of the model, not of the data")
    parser.add_argument("--max_rows", type=int, help="most problems; default all")
    args, rest = parser.parse_known_args(argv)
    for name in ("answers", "answer_tokens", "prefixes", "group", "max_rows"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f"{name}={value} must be at least 1")
    if args.answer_temperature < 0.0 or not 0.0 < args.answer_top_p <= 1.0:
        raise UsageError(
            f"answer_temperature={args.answer_temperature} must be at least 0 and answer_top_p={args.answer_top_p} in "
            "(0, 1]"
        )
    recipe = parse_recipe(rest)
    data = load_data(recipe.run, recipe.training, ROWS if recipe.smoke else None)
    rows = data.train_dataset
    column = recipe.training.demonstration_column
    if not args.sample_solutions and column not in (rows.column_names or []):
        raise UsageError(
            f"demonstration_column={column!r} is no column of the training set, which has no solutions then; give "
            "another one, or --sample_solutions"
        )
    problems = list(rows if args.max_rows is None else rows.take(args.max_rows))
    model = recipe.model.model_name_or_path or recipe.run.tiny_model
    settings = {**vars(args), "model": model, "seed": recipe.training.seed, "problems": len(problems)}
    progress = WrittenPart(Path(args.output), settings)
    if progress.next_row < len(problems):
        sampler, tokenizer = _load(recipe, Sampling(args.answer_temperature, args.answer_top_p, args.answer_tokens))
        _write(args, recipe, problems, data.accuracy_funcs, sampler, tokenizer, progress)
    _print_summary(progress.path)


class WrittenPart:
    """
    The output so far. A file beside it tells how many problems and bytes are done; what lies beyond them was not
    finished and is cut off.

    Args:
        path (`Path`):
            JSON lines file.
        settings (`dict[str, Any]`):
            What the rows depend on.

    Raises:
        [`UsageError`]: if the file was begun with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path, self.next_row = path, 0
        self._beside = path.with_name(path.name + ".progress.json")
        self._settings = json.loads(json.dumps(settings))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            self._note(0)
            return
        if not self._beside.is_file():
            raise UsageError(
                f"output={str(path)!r} exists and is not of this command; delete it, or give another name"
            )
        known = json.loads(self._beside.read_text(encoding="utf-8"))
        for name, value in self._settings.items():
            if known["settings"].get(name) != value:
                raise UsageError(
                    f"output={str(path)!r} was begun with {name}={known['settings'].get(name)!r}, not {value!r}; give "
                    "another name, or the same arguments"
                )
        self.next_row = known["next_row"]
        os.truncate(path, known["bytes"])

    def add(self, rows: list[dict[str, Any]], next_row: int) -> None:
        """Append rows, which are kept from then on."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
        self._note(next_row)

    def _note(self, next_row: int) -> None:
        self.next_row = next_row
        note = {"settings": self._settings, "next_row": next_row, "bytes": self.path.stat().st_size}
        beginning = self._beside.with_suffix(".tmp")
        beginning.write_text(json.dumps(note), encoding="utf-8")
        os.replace(beginning, self._beside)


def _load(recipe: Recipe, sampling: Sampling) -> tuple[Any, Any]:
    name, options = recipe.model.model_name_or_path, as_mapping(recipe.training.chat_template_kwargs)
    tokenizer: Any
    if name is None:
        tiny, tokenizer = build_tiny_model(**as_mapping(recipe.run.tiny_model))
        return TransformersSampler(tiny.eval(), tokenizer, sampling, template_kwargs=options), tokenizer
    if recipe.written_model is not None:
        save_tiny_model(name, **recipe.written_model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=recipe.model.model_revision)
        if gpu_with_vllm():
            return VllmSampler(name, tokenizer, sampling, template_kwargs=options), tokenizer
        model: Any = AutoModelForCausalLM.from_pretrained(name, revision=recipe.model.model_revision, dtype="auto")
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"model_name_or_path={name!r} cannot be loaded: {error}") from None
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return TransformersSampler(model, tokenizer, sampling, template_kwargs=options), tokenizer


def _write(args, recipe: Recipe, problems, rewards, sampler, tokenizer, progress: WrittenPart) -> None:
    training, answering = recipe.training, sampler.sampling
    column, seed = training.demonstration_column, training.seed
    template_kwargs = as_mapping(training.chat_template_kwargs)
    # A recipe may leave the length of completions to the model.
    length = training.max_completion_length or args.answer_tokens
    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task("problems", total=len(problems), completed=progress.next_row)
        for start in range(progress.next_row, len(problems), CHUNK):
            chunk = problems[start : start + CHUNK]
            if args.sample_solutions:
                sampler.sampling = Sampling(training.temperature, training.top_p, length)
                drawn = sampler.sample([row["prompt"] for row in chunk], 1, derived_seed(seed, "solutions", start))
                solutions = [samples[0].text for samples in drawn]
            else:
                solutions = [_text(row[column]) for row in chunk]
            places: list[tuple[int, Prefix, float | None]] = []
            for index, (row, solution) in enumerate(zip(chunk, solutions, strict=True)):
                if solution:
                    (rendered,) = render_prompts(tokenizer, [row["prompt"]], template_kwargs)
                    rendered = without_bos(tokenizer, rendered)
                    text = without_opened_tag(rendered, solution)
                    found = prefixes_of(rendered, text, args.prefixes, derived_seed(seed, start + index), args.group)
                    worth = _mean_reward(rewards, row, [Sample(solution, [], False)]) if found else None
                    places += [(index, prefix, worth) for prefix in found]
            sampler.sampling = answering
            stops = [prefix.prompt + prefix.termination for _, prefix, _ in places]
            answers = sampler.sample(stops, args.answers, derived_seed(seed, start)) if stops else []
            written = []
            for (index, prefix, worth), samples in zip(places, answers, strict=True):
                p_term = _mean_reward(rewards, chunk[index], samples)
                if p_term is not None:
                    columns = {name: value for name, value in chunk[index].items() if name not in ("prompt", column)}
                    columns["row"] = start + index
                    written += prefix_rows(prefix, p_term, worth, columns, args.modes)
            progress.add(written, start + len(chunk))
            bars.advance(bar, len(chunk))


def _text(solution: Any) -> str:
    return solution[-1]["content"] if isinstance(solution, list) and solution else solution or ""


def _mean_reward(rewards: list[Callable], row: dict[str, Any], samples: list[Sample]) -> float | None:
    columns = {name: [value] * len(samples) for name, value in row.items() if name not in ("prompt", "completion")}
    given = {"prompts": [row["prompt"]] * len(samples), "completions": [sample.text for sample in samples]}
    per_function = [function(**given, completion_ids=[s.ids for s in samples], **columns) for function in rewards]
    totals = [
        math.fsum(value for value in values if value is not None)
        for values in zip(*per_function, strict=True)
        if any(value is not None for value in values)
    ]
    return statistics.fmean(totals) if totals else None


def _print_summary(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    places = {(row["row"], row["episode"]): row for row in rows}.values()
    table = Table(title=str(path), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row("rows", f"{len(rows):,}")
    table.add_row("prefixes", f"{len(places):,}")
    if places:
        gains = [row["solution_reward"] - row["p_term"] for row in places if row["solution_reward"] is not None]
        table.add_row("mean p_term", f"{statistics.fmean(row['p_term'] for row in places):.3f}")
        table.add_row(
            "normalised regret, mean 1 − p_term", f"{statistics.fmean(1 - row['p_term'] for row in places):.3f}"
        )
        if gains:
            table.add_row("progress to the end of the solution", f"{statistics.fmean(gains):+.3f}")
        table.add_row("prefixes with a demonstration", f"{sum(gain > 0.0 for gain in gains):,}")
    Console().print(table)
