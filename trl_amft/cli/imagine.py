"""The command behind `scripts/imagine.py`: many dialogues at once through one endpoint, each step kept as it comes."""

import asyncio
import functools
import importlib.util
import json
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..data import imagination
from ..data.imagination import Scenario
from ..evaluation.samplers import derived_seed
from .evaluate_arguments import OneLineParser
from .kept_steps import KeptSteps
from .output_file import check_output
from .recipe_file import read_recipe
from .usage import UsageError, run_command, suggest


def main(argv: list[str] | None = None, description: str | None = None) -> int:
    """
    Entry point of `scripts/imagine.py`.

    Args:
        argv (`list[str]`, *optional*):
            Arguments without the program's name. Those of the process if not given.
        description (`str`, *optional*):
            For the help.

    Returns:
        `int`: exit code 0, or 1 if some dialogues are missing because the endpoint failed. Bad input ends the process
        with 2.
    """
    argv = sys.argv[1:] if argv is None else argv
    return run_command(functools.partial(_run, argv, description))


def _arguments(argv: list[str], description: str | None):
    parser = OneLineParser(prog="imagine.py", description=description, allow_abbrev=False)
    parser.add_argument("--scenario", required=True, help="YAML file with situation, user, agent, goal and system")
    parser.add_argument("--output", required=True, help="JSON lines file of demonstrations to write")
    parser.add_argument("--base_url", required=True, help="of the endpoint, for example http://localhost:8000/v1")
    parser.add_argument("--model", required=True, help="name of the model there")
    parser.add_argument("--dialogues", type=int, default=100, help="how many; default 100")
    parser.add_argument("--concurrency", type=int, default=16, help="requests at a time; default 16")
    parser.add_argument("--retries", type=int, default=5, help="of a request that fails or cannot be read; default 5")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds of a request; default 300")
    parser.add_argument("--max_tokens", type=int, default=2048, help="of an answer; default 2048")
    parser.add_argument("--temperature", type=float, default=1.0, help="of people and dialogues; default 1")
    parser.add_argument("--seed", type=int, default=0, help="sent with every request; default 0")
    parser.add_argument("--weight_temperature", type=float, default=0.5, help="tau of the weights; default 0.5")
    parser.add_argument("--largest_weight", type=float, default=5.0, help="default 5")
    parser.add_argument("--price_in", type=float, default=0.0, help="of a million tokens sent; default 0")
    parser.add_argument("--price_out", type=float, default=0.0, help="of a million tokens received; default 0")
    args = parser.parse_args(argv)
    for name in ("dialogues", "concurrency", "max_tokens"):
        if getattr(args, name) < 1:
            raise UsageError(f"{name}={getattr(args, name)} must be at least 1")
    for name in ("temperature", "timeout", "weight_temperature", "largest_weight", "price_in", "price_out"):
        if not math.isfinite(getattr(args, name)):
            raise UsageError(f"{name}={getattr(args, name)} must be a finite number")
    for name in ("timeout", "weight_temperature", "largest_weight"):
        if not getattr(args, name) > 0.0:
            raise UsageError(f"{name}={getattr(args, name)} must be above 0")
    for name in ("retries", "temperature", "price_in", "price_out"):
        if getattr(args, name) < 0:
            raise UsageError(f"{name}={getattr(args, name)} must be at least 0")
    if not re.match(r"https?://[^/]", args.base_url):
        raise UsageError(f"base_url={args.base_url!r} must begin with http:// or https:// and a host")
    return args


def _run(argv: list[str], description: str | None) -> int:
    args = _arguments(argv, description)
    scenario = read_scenario(args.scenario)
    if importlib.util.find_spec("openai") is None:
        raise UsageError("openai, which asks the endpoint, is not installed: pip install 'trl_amft[imagine]'")
    output = Path(args.output)
    check_output(output)
    steps = output.with_name(output.name + ".steps.jsonl")
    check_output(steps)
    if output.exists() and not (steps.exists() and steps.stat().st_size):
        raise UsageError(
            f"output={args.output!r} exists without {steps.name!r}, the answers it is made of; delete it, or give "
            "another name"
        )
    settings = {"scenario": vars(scenario), "model": args.model, "temperature": args.temperature, "seed": args.seed}
    kept = KeptSteps(steps, settings)
    failures = asyncio.run(_imagine(args, scenario, kept))
    dialogues = kept.dialogues(args.dialogues)
    rows = imagination.demonstration_rows(dialogues, scenario.system, args.weight_temperature, args.largest_weight)
    beginning = output.with_name(output.name + ".tmp")
    with beginning.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    os.replace(beginning, output)
    _print_summary(args, kept, dialogues, rows)
    missing = args.dialogues - len(dialogues)
    if missing:
        print(
            f"error: {missing} of {args.dialogues} dialogues are missing ({failures[0]}); what "
            "is there is kept, run the same command again",
            file=sys.stderr,
        )
        return 1
    return 0


def read_scenario(path: str) -> Scenario:
    """
    Args:
        path (`str`):
            YAML file.

    Returns:
        [`~trl_amft.data.imagination.Scenario`]
    """
    known = list(Scenario.__dataclass_fields__)
    given = read_recipe(path, "scenario")
    for name in given:
        if name not in known:
            raise UsageError(f"scenario={path!r} has an unknown key {name!r}; {suggest(name, known)}")
    try:
        return Scenario(**given)
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"scenario={path!r}: {error}; it needs situation, user, agent and goal") from None


async def _imagine(args, scenario: Scenario, kept: KeptSteps) -> list[str]:
    """All steps that are missing. Returns what failed, one line each."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(
        base_url=args.base_url,
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        max_retries=args.retries,
        timeout=args.timeout,
    )
    limit = asyncio.Semaphore(args.concurrency)
    failures: list[str] = []

    async def ask(kind: str, number: int, messages: list[dict[str, str]], read: Callable[[str], Any]) -> Any:
        if (kind, number) in kept.steps:
            return kept.steps[kind, number]
        problem = ""
        for attempt in range(args.retries + 1):
            spent = (0, 0)
            try:
                async with limit:
                    answer = await client.chat.completions.create(
                        model=args.model,
                        messages=messages,  # type: ignore[arg-type]  # plain mappings
                        max_tokens=args.max_tokens,
                        temperature=0.0 if kind == "judgement" and not attempt else args.temperature,
                        seed=derived_seed(args.seed, kind, number, attempt),
                    )
                spent = _tokens(answer)
                value = read(_text(answer, args.max_tokens))
                kept.add(kind, number, value, *spent)
                return value
            # Also what is no JSON, and text that cannot be written as UTF-8.
            except ValueError as error:
                problem = str(error)
                kept.add(kind, number, None, *spent)
        raise ValueError(f"{kind} {number}: {problem}")

    async def people(number: int) -> None:
        request = imagination.people_request(scenario, number)
        found = await ask("people", number, request, imagination.read_people)
        for offset in range(imagination.PEOPLE_PER_REQUEST):
            # Where the model names too few, they come again.
            if number + offset < args.dialogues and ("person", number + offset) not in kept.steps:
                kept.add("person", number + offset, found[offset % len(found)], 0, 0)

    async def dialogue(number: int) -> None:
        person = kept.steps["person", number]
        request = imagination.dialogue_request(scenario, person)
        messages = await ask("dialogue", number, request, imagination.read_dialogue)
        request = imagination.judgement_request(scenario, messages)
        await ask("judgement", number, request, imagination.read_judgement)

    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task("dialogues", total=args.dialogues)

        async def guarded(step, number: int, advance: int) -> None:
            try:
                await step(number)
            # Whatever an endpoint does must not lose the answers of the others.
            except Exception as error:
                failures.append(" ".join(f"{type(error).__name__}: {error}".split()))
            bars.advance(bar, advance)

        every = imagination.PEOPLE_PER_REQUEST
        await asyncio.gather(*(guarded(people, number, 0) for number in range(0, args.dialogues, every)))
        known = [number for number in range(args.dialogues) if ("person", number) in kept.steps]
        await asyncio.gather(*(guarded(dialogue, number, 1) for number in known))
    await client.close()
    return failures


def _text(answer: Any, max_tokens: int) -> str:
    """What an endpoint said. The client lets through whatever JSON it sends."""
    try:
        choice = answer.choices[0]
        text = choice.message.content or ""
    except (AttributeError, IndexError, TypeError, KeyError):
        raise ValueError("an answer without choices") from None
    if getattr(choice, "finish_reason", None) == "length":
        raise ValueError(f"the answer was cut at max_tokens={max_tokens}; raise it")
    if not isinstance(text, str):
        raise ValueError("an answer that is no text")
    return text


def _tokens(answer: Any) -> tuple[int, int]:
    """Tokens sent and received; 0 where an endpoint does not say."""
    usage = getattr(answer, "usage", None)
    counts = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
    sent, received = (count if isinstance(count, int) else 0 for count in counts)
    return sent, received


def _print_summary(args, kept: KeptSteps, dialogues: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    table = Table(title=args.output, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row("dialogues", f"{len(dialogues):,}")
    table.add_row("demonstrations", f"{len(rows):,}")
    if dialogues:
        table.add_row("mean reward", f"{sum(entry['reward'] for entry in dialogues) / len(dialogues):.3f}")
    table.add_row("tokens sent", f"{kept.tokens_in:,}")
    table.add_row("tokens received", f"{kept.tokens_out:,}")
    if args.price_in or args.price_out:
        cost = (kept.tokens_in * args.price_in + kept.tokens_out * args.price_out) / 1e6
        table.add_row("cost", f"{cost:.4f}")
    Console().print(table)
