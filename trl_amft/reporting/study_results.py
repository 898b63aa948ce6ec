"""The results of a study: read from JSON lines, and brought together over seeds."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any


# Two-sided 95 % points of Student's t by degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class SeedMean:
    """
    A mean over seeds.

    Args:
        mean (`float`):
            The mean.
        margin (`float`):
            Half width of its 95 % interval; NaN with a single seed.
        seeds (`int`):
            Number of seeds.
    """

    mean: float
    margin: float
    seeds: int


def read_results(path: str | Path, keys: Collection[str] = ("name",)) -> list[dict[str, Any]]:
    """
    Read the lines of a study; of several with one name the last counts.

    Args:
        path (`str` or `Path`):
            JSON lines; may be missing.
        keys (`Collection[str]`, *optional*, defaults to `("name",)`):
            What every line has to have.

    Returns:
        `list[dict[str, Any]]`

    Raises:
        `ValueError`: if a line is no result of a run.
    """
    path = Path(path)
    if not path.is_file():
        return []
    rows = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("{"):
            raise ValueError(f"line {number} is no result of a run")
        try:
            row = json.loads(line)
        except ValueError:
            # The end of a line that was cut off when a study was killed.
            continue
        missing = [key for key in keys if key not in row]
        if missing:
            raise ValueError(f"line {number} has no {missing[0]!r}")
        rows[row["name"]] = row
    return list(rows.values())


def three_digits(value: float, sign: bool = False) -> str:
    """
    A number of a report. A mean of .3335 prints as 0.334, although its sum may be a little less in binary.

    Args:
        value (`float`):
            The number.
        sign (`bool`, *optional*, defaults to `False`):
            Whether a sign is printed before positive numbers as well.

    Returns:
        `str`
    """
    rounded = Decimal(f"{value:.6f}").quantize(Decimal("0.001"), ROUND_HALF_UP)
    return f"{rounded:+}" if sign else str(rounded)


def append_result(path: str | Path, row: dict[str, Any]) -> None:
    """
    Append a line to the results of a study.

    Args:
        path (`str` or `Path`):
            JSON lines. A last line that was cut off stays a line of its own.
        row (`dict[str, Any]`):
            The result of one run.
    """
    with Path(path).open("a+b") as lines:
        if lines.tell() > 0:
            lines.seek(-1, os.SEEK_END)
            if lines.read(1) != b"\n":
                lines.write(b"\n")
        lines.write(json.dumps(row, allow_nan=False).encode() + b"\n")


def seed_mean(values: list[float]) -> SeedMean:
    """
    Mean with its interval by Student's t.

    Args:
        values (`list[float]`):
            One per seed, at least one.

    Returns:
        [`SeedMean`]
    """
    count = len(values)
    if count == 1:
        return SeedMean(values[0], math.nan, 1)
    freedom, normal = count - 1, NormalDist().inv_cdf(0.975)
    # Beyond the table the first term of the expansion in 1 / degrees of freedom is enough.
    point = T_95[freedom - 1] if freedom <= len(T_95) else normal * (1.0 + (normal**2 + 1.0) / (4.0 * freedom))
    return SeedMean(fmean(values), point * stdev(values) / math.sqrt(count), count)


@dataclass(frozen=True)
class StudyResults:
    """
    Finished runs by policy and condition, at the learning rate that was best for the pair.

    Args:
        policies (`list[str]`):
            Names in the order of the study.
        conditions (`list[str]`):
            Names in the order of the study.
        cells (`dict[tuple[str, str], list[dict[str, Any]]]`):
            Rows of the seeds of a pair.
        refused (`dict[tuple[str, str, str], list[int]]`):
            Seeds that could not be run by policy, condition and reason.
        best_of (`dict[str, str]`):
            By condition, which policy the oracle row stands for.
        chosen_from (`dict[str, list[str]]`):
            By condition, the policies among which that one is the best.
    """

    policies: list[str]
    conditions: list[str]
    cells: dict[tuple[str, str], list[dict[str, Any]]]
    refused: dict[tuple[str, str, str], list[int]]
    best_of: dict[str, str]
    chosen_from: dict[str, list[str]]

    @property
    def seeds(self) -> int:
        """Seeds of the pair that has most."""
        return max(map(len, self.cells.values()), default=0)

    def without(self, policies: Collection[str]) -> "StudyResults":
        """The same as if these policies were no part of the study."""
        return replace(self, policies=[policy for policy in self.policies if policy not in policies])

    def accuracy(self, policy: str, condition: str) -> SeedMean | None:
        """Final held-out accuracy of a pair."""
        rows = self.cells.get((policy, condition))
        return seed_mean([row["accuracy"] for row in rows]) if rows else None

    def difference(self, policy: str, condition: str, baseline: str) -> SeedMean | None:
        """Accuracy minus that of the baseline, paired by seed."""
        of = {
            name: {row["seed"]: row["accuracy"] for row in self.cells.get((name, condition), [])}
            for name in (policy, baseline)
        }
        common = sorted(of[policy].keys() & of[baseline].keys())
        return seed_mean([of[policy][seed] - of[baseline][seed] for seed in common]) if common else None


ORACLE = "oracle"


def gather(rows: list[dict[str, Any]], policies: list[str], conditions: list[str], oracle: list[str]) -> StudyResults:
    """
    Bring rows together.

    Args:
        rows (`list[dict[str, Any]]`):
            From [`read_results`].
        policies (`list[str]`):
            Order of the policies.
        conditions (`list[str]`):
            Order of the conditions.
        oracle (`list[str]`):
            Policies whose best in hindsight, by mean accuracy in a condition, is one more row.

    Returns:
        [`StudyResults`]
    """
    by_rate: dict[tuple[str, str], dict[float, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    refused: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in rows:
        pair = row["policy"], row["condition"]
        if row["status"] == "refused":
            refused[*pair, row["reason"]].append(row["seed"])
        else:
            by_rate[pair][row["learning_rate"]].append(row)
    cells = {}
    for pair, rates in by_rate.items():
        # A rate with fewer seeds is one that is not finished.
        most = max(map(len, rates.values()))
        whole = [found for found in rates.values() if len(found) == most]
        cells[pair] = sorted(max(whole, key=_mean_accuracy), key=lambda row: row["seed"])
    best_of, chosen_from = {}, {}
    for condition in conditions:
        found = {name: cells[name, condition] for name in oracle if (name, condition) in cells}
        if found:
            most = max(map(len, found.values()))
            chosen_from[condition] = [name for name in found if len(found[name]) == most]
            best = max(chosen_from[condition], key=lambda name: _mean_accuracy(found[name]))
            best_of[condition], cells[ORACLE, condition] = best, found[best]
    seen = {name for pair in cells for name in pair}
    order = [name for name in [*policies, ORACLE] if name in seen]
    ran = [name for name in conditions if name in seen]
    return StudyResults(order, ran, cells, refused, best_of, chosen_from)


def _mean_accuracy(rows: Iterable[dict[str, Any]]) -> float:
    return fmean(row["accuracy"] for row in rows)


def along(curve: list[list[float]], marks: list[list[float]], column: int) -> tuple[list[float], list[float]]:
    """
    A curve over rollouts or seconds instead of steps, linear between the points where both are known.

    Args:
        curve (`list[list[float]]`):
            Pairs of step and value.
        marks (`list[list[float]]`):
            Step, rollouts and seconds, in the order of steps.
        column (`int`):
            1 for rollouts, 2 for seconds.

    Returns:
        `tuple[list[float], list[float]]`: positions and values.
    """
    positions = []
    for step, _ in curve:
        after = next((n for n, mark in enumerate(marks) if mark[0] >= step), len(marks) - 1)
        low, high = marks[max(after - 1, 0)], marks[after]
        share = (step - low[0]) / (high[0] - low[0]) if high[0] > low[0] else 1.0
        positions.append(low[column] + share * (high[column] - low[column]))
    return positions, [value for _, value in curve]
