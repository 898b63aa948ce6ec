"""From the records of a set to its numbers, to one table of all sets, and to the difference of two evaluations."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..tasks.virl_answers import ATTEMPTS
from .errors import EvaluationError
from .estimators import interval, majority, mean_over_sets, paired_difference, pass_at_k


# Rewards of 1 arrive as sums of floats.
RIGHT = 1.0 - 1e-6
# What a file needs to be compared, and what it needs for the table.
COMPARED = {"ids", "correct", "num_samples"}
SHOWN = COMPARED | {"num_problems", "accuracy", "pass", "majority", "tokens", "truncated", "undecided"}
SHOWN |= {"by_level", "by_subject"}


def summarize(
    records: list[dict[str, Any]], seed: int = 0, route_lengths: Mapping[int, int] | None = None
) -> dict[str, Any]:
    """
    Numbers of a set.

    Args:
        records (`list[dict[str, Any]]`):
            From [`~trl_amft.evaluation.run_set.evaluate_set`], with n samples each.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the bootstrap.
        route_lengths (`Mapping[int, int]`, *optional*):
            Positions of each route, some of which may not be among the records. All are if not given.

    Returns:
        `dict[str, Any]`: `accuracy` (share of right samples, avg@n), `pass` by k for the powers of two below n and for
        n, `majority` (`None` where answers have no form), each with `mean`, `low` and `high`; `reward`, `tokens`,
        `truncated` (a share), `undecided`; `by_level` and `by_subject` where the columns exist; `route_success` (share
        of routes of which every position is solved within two answers) where there are two answers to every position
        of a route, else `None`; `ids` and `correct` (right samples) by problem.
    """
    samples = len(records[0]["rewards"])
    correct = [sum(reward >= RIGHT for reward in record["rewards"]) for record in records]
    shares = [count / samples for count in correct]
    ks = sorted({2**power for power in range(samples.bit_length()) if 2**power <= samples} | {samples})
    votes = None
    if samples > 1 and all(record["answers"] is not None for record in records):
        votes = [majority(r["answers"], [reward >= RIGHT for reward in r["rewards"]]) for r in records]
    tokens = [count for record in records for count in record["tokens"]]
    truncated = [flag for record in records for flag in record["truncated"]]
    return {
        "num_problems": len(records),
        "num_samples": samples,
        "accuracy": asdict(interval(shares, seed=seed)),
        "pass": {str(k): asdict(interval([pass_at_k(samples, count, k) for count in correct], seed=seed)) for k in ks},
        "majority": None if votes is None else asdict(interval(votes, seed=seed)),
        "reward": sum(sum(record["rewards"]) for record in records) / (samples * len(records)),
        "tokens": sum(tokens) / len(tokens),
        "truncated": sum(truncated) / len(truncated),
        "undecided": sum(record["undecided"] for record in records),
        **{f"by_{column}": _by(column, records, shares, seed) for column in ("level", "subject")},
        "route_success": _route_success(records, seed, route_lengths),
        "ids": [record["id"] for record in records],
        "correct": correct,
    }


def _by(column: str, records: list[dict], shares: list[float], seed: int) -> dict[str, Any]:
    groups: dict[str, list[float]] = defaultdict(list)
    for record, share in zip(records, shares, strict=True):
        if record[column] is not None:
            groups[record[column]].append(share)
    return {
        name: {"num_problems": len(values), **asdict(interval(values, seed=seed))}
        for name, values in sorted(groups.items())
    }


def _route_success(
    records: list[dict], seed: int, route_lengths: Mapping[int, int] | None = None
) -> dict[str, Any] | None:
    if len(records[0]["rewards"]) < ATTEMPTS:
        return None
    seen = Counter(record["route"] for record in records if record.get("route") is not None)
    solved = {route: True for route, count in seen.items() if route_lengths is None or count == route_lengths[route]}
    for record in records:
        if (route := record.get("route")) in solved:
            solved[route] &= max(record["rewards"][:ATTEMPTS]) >= RIGHT
    if not solved:
        return None
    return {"num_routes": len(solved), **asdict(interval([float(flag) for flag in solved.values()], seed=seed))}


def table_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """
    Rows of the table of all sets, in percent.

    Args:
        results (`dict[str, dict[str, Any]]`):
            Summary by name of the set.

    Returns:
        `list[list[str]]`: the head, one row per set, and the mean over sets if there are several.
    """
    rows = [["set", "problems", "avg@k", "95 %", "k", "pass@k", "maj@k", "tokens", "truncated", "undecided"]]
    for name, result in results.items():
        accuracy, vote, k = result["accuracy"], result["majority"], result["num_samples"]
        rows.append(
            [
                name,
                f"{result['num_problems']:,}",
                _percent(accuracy["mean"]),
                _range(accuracy),
                str(k),
                _percent(result["pass"][str(k)]["mean"]),
                "–" if vote is None else _percent(vote["mean"]),
                f"{result['tokens']:,.0f}",
                _percent(result["truncated"]),
                str(result["undecided"]),
            ]
        )
    if len(results) > 1:
        mean = mean_over_sets([_shares(result) for result in results.values()])
        rows.append(["mean over sets", "", _percent(mean.mean), _range(asdict(mean)), *[""] * 6])
    return rows


def breakdown_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """
    Rows of the table by level and by subject, and of whole routes, in percent.

    Args:
        results (`dict[str, dict[str, Any]]`):
            Summary by name of the set.

    Returns:
        `list[list[str]]`: the head and one row per level, subject and set of routes; empty if no set has any.
    """
    rows = [
        [name, column, group, str(part["num_problems"]), _percent(part["mean"]), _range(part)]
        for name, result in results.items()
        for column in ("level", "subject")
        for group, part in result[f"by_{column}"].items()
    ]
    for name, result in results.items():
        # Results of earlier versions have none.
        if (part := result.get("route_success")) is not None:
            cells = [str(part["num_routes"]), _percent(part["mean"]), _range(part)]
            rows.append([name, "route", f"all positions within {ATTEMPTS}", *cells])
    return [["set", "column", "group", "problems", "avg@k", "95 %"], *rows] if rows else []


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """
    Args:
        rows (`Sequence[Sequence[str]]`):
            The head, then the rows.

    Returns:
        `str`: a table in Markdown; columns of numbers to the right.
    """
    head, *body = rows
    rule = ["---" if number == 0 else "---:" for number in range(len(head))]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in (head, rule, *body))


def read_summary(path: Path) -> dict[str, Any]:
    """
    A finished set.

    Args:
        path (`Path`):
            Its `NAME.json`.

    Returns:
        `dict[str, Any]`: from [`summarize`], with `settings` and whatever else the file holds.

    Raises:
        [`~trl_amft.evaluation.errors.EvaluationError`]: if the file is not one.
    """
    content = _read_json(path)
    if not (_has(content, SHOWN) and isinstance(content.get("settings"), dict)):
        raise EvaluationError(f"{path} is no summary of a set; delete the file, or give another output_dir")
    return content


def read_results(folder: str | Path) -> dict[str, dict[str, Any]]:
    """
    Finished sets of an evaluation.

    Args:
        folder (`str` or `Path`):
            Its output folder.

    Returns:
        `dict[str, dict[str, Any]]`: summary by name of the set.

    Raises:
        [`~trl_amft.evaluation.errors.EvaluationError`]: if there is none, or a file cannot be read.
    """
    found = {path.name.removesuffix(".json"): path for path in sorted(Path(folder).glob("*.json"))}
    contents = {name: _read_json(path) for name, path in found.items()}
    results = {name: content for name, content in contents.items() if _has(content, COMPARED)}
    if not results:
        raise EvaluationError(f"{str(folder)!r} holds no finished set; give the output_dir of an evaluation")
    return results


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read ({error}); delete it, or give another folder") from None


def _has(content: Any, names: set[str]) -> bool:
    """Whether it is a mapping with these names, and a count of right samples for each problem."""
    if not isinstance(content, dict) or not names <= set(content):
        return False
    ids, correct = content["ids"], content["correct"]
    return isinstance(ids, list) and isinstance(correct, list) and len(ids) == len(correct) > 0


def comparison_rows(first: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]]) -> list[list[str]]:
    """
    Rows of the table of paired differences, in points of percent.

    Args:
        first (`dict[str, dict[str, Any]]`):
            Summaries of one evaluation.
        second (`dict[str, dict[str, Any]]`):
            Of another; the difference is second − first, over the problems that both have.

    Returns:
        `list[list[str]]`: the head, one row per common set, and the mean over sets if there are several.

    Raises:
        [`~trl_amft.evaluation.errors.EvaluationError`]: if no set has problems in both.
    """
    rows = [["set", "problems in both", "A", "B", "B − A", "95 %"]]
    pairs: list[tuple[list[float], list[float]]] = []
    for name in [name for name in first if name in second]:
        left, right = (
            dict(zip(result["ids"], _shares(result), strict=True)) for result in (first[name], second[name])
        )
        common = [key for key in left if key in right]
        if not common:
            continue
        a, b = [left[key] for key in common], [right[key] for key in common]
        pairs.append((a, b))
        difference = paired_difference(a, b)
        rows.append(
            [name, f"{len(common):,}", _mean(a), _mean(b), _signed(difference.mean), _range(asdict(difference))]
        )
    if not pairs:
        raise EvaluationError(
            f"the two have no problems in common: A has {', '.join(first)}, B has {', '.join(second)}; evaluate the "
            "same sets"
        )
    if len(pairs) > 1:
        differences = [[right - left for left, right in zip(a, b, strict=True)] for a, b in pairs]
        mean = mean_over_sets(differences, shares=False)
        rows.append(["mean over sets", "", "", "", _signed(mean.mean), _range(asdict(mean))])
    return rows


def _shares(result: dict[str, Any]) -> list[float]:
    return [count / result["num_samples"] for count in result["correct"]]


def _mean(values: list[float]) -> str:
    return _percent(sum(values) / len(values))


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _range(estimate: dict[str, float]) -> str:
    return f"{100 * estimate['low']:.1f} to {100 * estimate['high']:.1f}"
