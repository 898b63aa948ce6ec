"""The command behind `scripts/make_prefixes.py`: cut solutions, make the model stop there, write what it is worth."""

import argparse
import functools
import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from trl.trainer.utils import get_callable_name, is_async_callable

from ..data.prefixes import PROBLEM_PROMPT, Prefix, mean_reward, prefix_rows, prefixes_of
from ..demonstrations.tokenizer import without_opened_tag
from ..evaluation.checkpoint import weights_fingerprint
from ..evaluation.run_set import fingerprint
from ..evaluation.samplers import Sample, Sampling, derived_seed, gpu_with_vllm
from .arguments import Recipe, parse_recipe
from .data import load_data
from .evaluate_arguments import OneLineParser
from .output_file import check_output
from .prefix_model import count_tokens, load_sampler, rendered_prompts
from .smoke import ROWS
from .usage import UsageError, run_command
from .written_part import WrittenPart


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


def _parse(argv: list[str], description: str | None) -> tuple[argparse.Namespace, Recipe]:
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
    if not 0.0 <= args.answer_temperature < float("inf") or not 0.0 < args.answer_top_p <= 1.0:
        raise UsageError(
            f"answer_temperature={args.answer_temperature} must be at least 0 and answer_top_p={args.answer_top_p} in "
            "(0, 1]"
        )
    return args, parse_recipe(rest)


def _run(argv: list[str], description: str | None) -> None:
    args, recipe = _parse(argv, description)
    check_output(Path(args.output))
    if recipe.run.exploration_reward is not None:
        raise UsageError(
            f"exploration_reward={recipe.run.exploration_reward!r} depends on the other answers of a group, and a "
            "solution has none; give --exploration_reward null for prefixes by correctness alone"
        )
    data = load_data(recipe.run, recipe.training, ROWS if recipe.smoke else None)
    rewards = data.reward_funcs
    weights = _weights(recipe, rewards)
    rows = data.train_dataset
    problems = list(rows if args.max_rows is None else rows.take(args.max_rows))
    column = None if args.sample_solutions else recipe.training.demonstration_column
    _check_problems(problems, column)
    progress = WrittenPart(Path(args.output), _settings(args, recipe, problems))
    if progress.next_row < len(problems):
        sampler, tokenizer, positions = load_sampler(
            recipe, Sampling(args.answer_temperature, args.answer_top_p, args.answer_tokens)
        )
        prompts = rendered_prompts(recipe, problems, tokenizer)
        room = math.inf if positions is None else positions - args.answer_tokens
        for number, prompt in enumerate(prompts):
            if (tokens := count_tokens(tokenizer, prompt)) > room:
                raise UsageError(
                    f"answer_tokens={args.answer_tokens} do not fit: row {number} of the training set has a prompt of "
                    f"{tokens} tokens, and the model {positions} positions; drop that row, or give fewer"
                )
        grade = functools.partial(_grade, rewards, weights)
        _write(args, recipe, problems, prompts, room, grade, sampler, tokenizer, progress)
    _print_summary(progress.path)


def _weights(recipe: Recipe, rewards: list[Callable]) -> list[float]:
    for reward in rewards:
        if is_async_callable(reward):
            raise UsageError(
                f"reward_funcs has {get_callable_name(reward)!r}, which is asynchronous; wrap it in one that waits"
            )
    weights = recipe.training.reward_weights
    return [1.0] * len(rewards) if weights is None else weights


def _check_problems(problems: list[dict[str, Any]], column: str | None) -> None:
    """What can be said of the rows without a model."""
    if not problems:
        raise UsageError("the training set has no row; give another one")
    if column is not None and column not in problems[0]:
        raise UsageError(
            f"demonstration_column={column!r} is no column of the training set, which has no solutions then; give "
            "another one, or --sample_solutions"
        )
    for number, row in enumerate(problems):
        where, prompt = f"row {number} of the training set", row["prompt"]
        messages = prompt if isinstance(prompt, list) else [{"content": prompt}]
        plain = messages and all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in messages)
        if not plain or row.get("image") or row.get("images"):
            raise UsageError(f"{where} has a prompt that is not text or messages of text alone; drop it")
        try:
            if column is not None:
                _text(row[column])
        except ValueError as error:
            raise UsageError(f"{where} has {column}={error}; give text, or messages of text") from None
        try:
            json.dumps({name: value for name, value in row.items() if name != column}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where} cannot be written as JSON ({error}); drop that column") from None


def _settings(args: argparse.Namespace, recipe: Recipe, problems: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rows depend on."""
    run, training, name = recipe.run, recipe.training, recipe.model.model_name_or_path
    written = recipe.written_model or run.tiny_model
    settings = {key: value for key, value in vars(args).items() if key != "output"} | {
        "problems": fingerprint(problems),
        **{key: getattr(run, key) for key in ("task", "task_kwargs", "reward_funcs", "domain_rewards")},
        "reward_weights": training.reward_weights,
        "model": written or name,
        "weights": None if name is None or recipe.written_model else weights_fingerprint(name),
        "model_revision": recipe.model.model_revision,
        "model_config": run.model_config,
        "dtype": recipe.model.dtype,
        "engine": "vllm" if name is not None and gpu_with_vllm() else "transformers",
        "vllm_max_model_length": training.vllm_max_model_length,
        "chat_template_kwargs": training.chat_template_kwargs,
        "seed": training.seed,
    }
    if args.sample_solutions:
        drawing = ("temperature", "top_p", "max_completion_length")
        return settings | {key: getattr(training, key) for key in drawing}
    return settings | {"demonstration_column": training.demonstration_column}


def _grade(
    rewards: list[Callable], weights: list[float], number: int, row: dict[str, Any], samples: list[Sample]
) -> float | None:
    try:
        return mean_reward(row, [s.text for s in samples], [s.ids for s in samples], rewards, weights)
    except ValueError as error:
        raise UsageError(f"row {number} of the training set: {error}") from None


def _write(args, recipe: Recipe, problems, prompts, room, grade, sampler, tokenizer, progress: WrittenPart) -> None:
    training, answering = recipe.training, sampler.sampling
    column, seed = training.demonstration_column, training.seed
    # A recipe may leave the length of completions to the model.
    length = training.max_completion_length or args.answer_tokens
    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task("problems", total=len(problems), completed=progress.next_row)
        for start in range(progress.next_row, len(problems), CHUNK):
            chunk = problems[start : start + CHUNK]
            if args.sample_solutions:
                sampler.sampling = Sampling(training.temperature, training.top_p, length)
                drawn = sampler.sample([row["prompt"] for row in chunk], 1, derived_seed(seed, "solutions", start))
                solutions = [samples[0] for samples in drawn]
            else:
                texts = [_text(row[column]) for row in chunk]
                solutions = [Sample(t, tokenizer(t, add_special_tokens=False)["input_ids"], False) for t in texts]
            places: list[tuple[int, Prefix, float | None]] = []
            for number, solution in enumerate(solutions, start):
                if solution.text:
                    text = without_opened_tag(prompts[number], solution.text)
                    found = prefixes_of(prompts[number], text, args.prefixes, derived_seed(seed, number), args.group)
                    found = [p for p in found if count_tokens(tokenizer, p.prompt + p.termination) <= room]
                    worth = grade(number, problems[number], [solution]) if found else None
                    places += [(number, prefix, worth) for prefix in found]
            sampler.sampling = answering
            stops = [prefix.prompt + prefix.termination for _, prefix, _ in places]
            answers = sampler.sample(stops, args.answers, derived_seed(seed, start)) if stops else []
            written = []
            for (number, prefix, worth), samples in zip(places, answers, strict=True):
                row = problems[number]
                p_term = grade(number, row, samples)
                if p_term is not None:
                    columns = {name: value for name, value in row.items() if name not in ("prompt", column)}
                    columns |= {"row": number, PROBLEM_PROMPT: row["prompt"]}
                    written += prefix_rows(prefix, p_term, worth, columns, args.modes)
            progress.add(written, start + len(chunk))
            bars.advance(bar, len(chunk))


def _text(solution: Any) -> str:
    """Of messages the last one. `ValueError` with what is there for something else."""
    text = solution
    if isinstance(solution, list):
        text = solution[-1] if solution else None
        text = text.get("content") if isinstance(text, dict) else text
    if text is not None and not isinstance(text, str):
        raise ValueError(repr(text))
    return text or ""


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
    if not places:
        print("no prefix: no solution that fits has a second episode; give longer ones, or --sample_solutions")
