"""
Rollouts and seconds until a run reaches a held-out accuracy, by policy.

Reads the JSON lines of a study (`scripts/compare.py --results`), or those of the quickstart. Seconds are those of the
runs as they were made, possibly beside others; rollouts do not depend on the machine. A run that never gets there
counts as such and is not averaged.

    python benchmarks/time_to_accuracy.py
    python benchmarks/time_to_accuracy.py docs/results/STUDY.jsonl --condition a_q1 --accuracy 0.3
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

from common import append_result, print_table

from trl_amft.reporting.study_results import along, read_results


QUICKSTART = Path(__file__).parents[1] / "docs" / "results" / "quickstart.jsonl"


def curves(path: Path, condition: str | None) -> dict[str, list[list[tuple[float, float, float]]]]:
    """By policy: for each run its points of accuracy, rollouts and seconds."""
    found = defaultdict(list)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if lines and "held_out" in lines[0]:
        for row in lines:
            if row["demonstration_quality"] == 1.0:
                points = [(p["accuracy"], p["rollouts"], p["seconds"]) for p in row["held_out"]]
                found[row["method"]].append(points)
        return found
    for row in read_results(path):
        if row["status"] != "refused" and condition in (None, row["condition"]) and row["accuracy_curve"]:
            values, rollouts = along(row["accuracy_curve"], row["marks"], 1)[::-1]
            seconds = along(row["accuracy_curve"], row["marks"], 2)[0]
            found[row["policy"]].append(list(zip(values, rollouts, seconds, strict=True)))
    return found


def first_time(points: list[tuple[float, float, float]], accuracy: float) -> tuple[float, float] | None:
    """Rollouts and seconds at which the line through the points first reaches an accuracy."""
    before = None
    for point in points:
        if point[0] >= accuracy:
            if before is None:
                return point[1], point[2]
            share = (accuracy - before[0]) / (point[0] - before[0])
            return tuple(a + share * (b - a) for a, b in zip(before[1:], point[1:], strict=True))
        before = point
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=QUICKSTART)
    parser.add_argument("--condition", help="of the study; all by default")
    parser.add_argument("--accuracy", type=float, default=0.3)
    options = parser.parse_args()
    rows = []
    for policy, runs in curves(options.results, options.condition).items():
        reached = [time for points in runs if (time := first_time(points, options.accuracy)) is not None]
        medians = [statistics.median(values) for values in zip(*reached, strict=True)] if reached else None
        rows.append({"policy": policy, "runs": len(runs), "reached": len(reached), "rollouts_and_seconds": medians})
    table = [
        (
            row["policy"],
            f"{row['reached']} of {row['runs']}",
            *(f"{value:,.0f}" for value in row["rollouts_and_seconds"] or []),
            *([] if row["rollouts_and_seconds"] else ["never", "never"]),
        )
        for row in rows
    ]
    columns = ("policy", "runs that reached it", "rollouts, median", "seconds, median")
    print_table(f"held-out accuracy {options.accuracy} in {options.results.name}", columns, table)
    settings = {**vars(options), "results": options.results.name}
    print(append_result("time_to_accuracy", {**settings, "rows": rows}))


if __name__ == "__main__":
    main()
