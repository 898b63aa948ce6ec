"""The command behind `scripts/fit_mixture.py`: recipes of pilot runs, and from their results the best mixture."""

import functools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from ..data.domains import shares_of
from ..data.mixture_surrogate import (
    MOST_DOMAINS,
    best_weights,
    fit_surrogate,
    pilot_weights,
    pilots_needed,
    products,
)
from .evaluate_arguments import OneLineParser
from .output_file import check_output, check_parents, check_writable
from .recipe_file import RecipeLoader, read_recipe
from .usage import UsageError, run_command


FIELD = "domain_weights"


def main(argv: list[str] | None = None, description: str | None = None) -> int:
    """
    Entry point of `scripts/fit_mixture.py`.

    Args:
        argv (`list[str]`, *optional*):
            Arguments without the program's name. Those of the process if not given.
        description (`str`, *optional*):
            For the help.

    Returns:
        `int`: exit code 0. Bad input, and pilots that determine nothing, end the process with 2.
    """
    argv = sys.argv[1:] if argv is None else argv
    run_command(functools.partial(_run, argv, description))
    return 0


def _run(argv: list[str], description: str | None) -> None:
    parser = OneLineParser(prog="fit_mixture.py", description=description, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="write recipes of pilot runs", allow_abbrev=False)
    plan.add_argument("--recipe", required=True, help="recipe with domain_weights")
    plan.add_argument("--pilots", type=int, required=True, help="how many")
    plan.add_argument("--output_dir", required=True, help="folder for their recipes and results")
    plan.add_argument("--seed", type=int, default=0, help="of their weights; default 0")
    fit = commands.add_parser("fit", help="fit the surrogate to their results", allow_abbrev=False)
    fit.add_argument("--recipe", required=True, help="recipe that gets the best mixture")
    fit.add_argument("--output_dir", required=True, help="folder of the pilots")
    fit.add_argument("--output", required=True, help="recipe to write")
    fit.add_argument("--metric", default="held_out/accuracy", help="of their logs; default held_out/accuracy")
    fit.add_argument("--folds", type=int, default=5, help="of the cross-validation; default 5")
    fit.add_argument("--min_r2", type=float, default=0.0, help="least R² of it for an answer; default 0")
    for command in (plan, fit):
        command.add_argument("--smallest", action="store_true", help="search the minimum, as of a loss")
    args = parser.parse_args(argv)
    domains = list(_weights(args.recipe))
    if not 2 <= len(domains) <= MOST_DOMAINS:
        raise UsageError(f"{FIELD} of {args.recipe!r} names {len(domains)} domains; give 2 to {MOST_DOMAINS}")
    folder = Path(args.output_dir)
    check_parents(folder, "output_dir")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output_dir={args.output_dir!r} is a file; give a folder")
    if args.command == "plan":
        _plan(args, domains)
    else:
        _fit(args, domains)


def _weights(path: str) -> dict[str, float]:
    weights = read_recipe(path).get(FIELD)
    if not isinstance(weights, dict):
        raise UsageError(f"{FIELD}={weights!r} in {path!r} must be a mapping of domains and weights")
    try:
        shares_of(weights)
    except ValueError as error:
        raise UsageError(f"{path!r}: {error}") from None
    return weights


def _plan(args, domains: list[str]) -> None:
    if args.pilots < pilots_needed(len(domains), 5):
        raise UsageError(
            f"pilots={args.pilots} is too few for {len(domains)} domains; give at least "
            f"{pilots_needed(len(domains), 5)}"
        )
    if args.seed < 0:
        raise UsageError(f"seed={args.seed} must be at least 0")
    folder = Path(args.output_dir)
    check_writable(folder, "output_dir")
    if list(folder.glob("pilot-*")):
        raise UsageError(f"output_dir={args.output_dir!r} has pilots; give another one, or delete them")
    texts = []
    for row in pilot_weights(len(domains), args.pilots, args.seed):
        weights = {name: round(float(weight), 6) for name, weight in zip(domains, row, strict=True)}
        texts.append(with_weights(args.recipe, weights, "a pilot"))
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        path = folder / f"pilot-{number:03}.yaml"
        path.write_text(text, encoding="utf-8")
        print(f"python scripts/train.py --recipe {path} --output_dir {path.with_suffix('')}")


def with_weights(recipe: str, weights: dict[str, float], note: str) -> str:
    """
    Args:
        recipe (`str`):
            File.
        weights (`dict[str, float]`):
            Of each domain.
        note (`str`):
            A comment behind them.

    Returns:
        `str`: the recipe with these weights in the place of its own, everything else of it as it was.

    Raises:
        [`UsageError`]: if the recipe is written so that it would not be the same recipe with other weights.
    """
    expected = {**read_recipe(recipe), FIELD: weights}
    text = Path(recipe).read_text(encoding="utf-8")
    start, end = _place(text)
    line = f"{FIELD}: {json.dumps(weights, ensure_ascii=False)} # {note}"
    text = text[:start] + line + text[end:]
    try:
        written = yaml.load(text, Loader=RecipeLoader)
    # A key that is a mapping cannot be looked up.
    except (yaml.YAMLError, UsageError, TypeError):
        written = None
    if written != expected:
        raise UsageError(
            f"{FIELD} of {recipe!r} cannot be replaced; write it as a line of its own that begins with the name, "
            f"without anchors: {FIELD}: {{maths: 0.5, routes: 0.5}}"
        )
    return text


def _place(text: str) -> tuple[int, int]:
    """From the name of the field to the end of the line on which its value ends."""
    recipe = yaml.compose(text, Loader=RecipeLoader)
    assert isinstance(recipe, yaml.MappingNode)  # As read_recipe found.
    key, value = next((key, value) for key, value in recipe.value if key.value == FIELD)
    end = text.find("\n", _end(value))
    return key.start_mark.index, len(text) if end < 0 else end


def _end(node: yaml.Node) -> int:
    # A block of YAML ends where the next thing begins, behind comments that belong to that.
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1])
    return node.end_mark.index


def _fit(args, domains: list[str]) -> None:
    if args.folds < 2:
        raise UsageError(f"folds={args.folds} must be at least 2")
    output = Path(args.output)
    check_output(output)
    if output.exists():
        raise UsageError(f"output={args.output!r} exists; delete it, or give another name")
    rows, scores, missing = [], [], []
    for path in sorted(Path(args.output_dir).glob("pilot-*.yaml")):
        weights = _weights(str(path))
        if list(weights) != domains:
            raise UsageError(f"{str(path)!r} has the domains {list(weights)}, not {domains}; plan anew")
        score = last_value(path.with_suffix("") / "log_history.json", args.metric)
        if score is None:
            missing.append(path.name)
        else:
            shares = shares_of(weights)
            rows.append([shares.get(name, 0.0) for name in domains])
            scores.append(-score if args.smallest else score)
    if missing:
        print(f"without {args.metric}: {len(missing)} pilots ({missing[0]} …)", file=sys.stderr)
    design = np.array(rows, dtype=float).reshape(-1, len(domains))
    try:
        found = fit_surrogate(design, np.array(scores), args.folds)
    except ValueError as error:
        raise UsageError(f"output_dir={args.output_dir!r}: {error}") from None
    if not found.r_squared >= args.min_r2:
        raise UsageError(
            f"the surrogate predicts nothing: R² of held-out pilots is {found.r_squared:.2f}, below "
            f"min_r2={args.min_r2}; run more pilots, or longer ones"
        )
    best = best_weights(found.coefficients, len(domains))
    predicted = float((products(best[None]) @ found.coefficients)[0])
    weights = {name: round(float(weight), 4) for name, weight in zip(domains, best, strict=True)}
    note = f"fitted to {len(rows)} pilots, R² {found.r_squared:.2f} in {args.folds}-fold cross-validation"
    text = with_weights(args.recipe, weights, note)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    table = Table(title=f"{args.metric} of {len(rows)} pilots, R² {found.r_squared:.2f}", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, weight in weights.items():
        table.add_row(name, f"{weight:.4f}")
    table.add_row("predicted", f"{-predicted if args.smallest else predicted:.4f}")
    table.add_row("best pilot", f"{-max(scores) if args.smallest else max(scores):.4f}")
    Console().print(table)


def last_value(path: Path, metric: str) -> float | None:
    """
    Args:
        path (`Path`):
            Log of a run.
        metric (`str`):
            Name of a number in it.

    Returns:
        `float`, *optional*: the last one; `None` where there is no log, or no such number.

    Raises:
        [`UsageError`]: if the file is no log, or what it has under that name is no finite number.
    """
    if not path.is_file():
        return None
    remedy = f"run this pilot again, or delete {str(path.parent)!r}"
    try:
        log: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{str(path)!r} is no log of a run ({error}); {remedy}") from None
    if not isinstance(log, list) or not all(isinstance(row, dict) for row in log):
        raise UsageError(f"{str(path)!r} is no log of a run, which is a list of mappings; {remedy}")
    values = [row[metric] for row in log if row.get(metric) is not None]
    if not values:
        return None
    value = values[-1]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"metric={metric!r} is {value!r} in {str(path)!r}; give the name of a number")
    if not math.isfinite(value):
        raise UsageError(f"metric={metric!r} is {value} in {str(path)!r}; {remedy}, and it is left out")
    return float(value)
