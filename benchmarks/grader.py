"""
How the grader does on labelled pairs and on hostile answers.

    python benchmarks/grader.py column                  writes math-verify's own verdicts beside the labels
    python benchmarks/grader.py agreement               labels against the grader, every disagreement listed
    python benchmarks/grader.py hostile                 1,000 hostile answers in one call
    python benchmarks/grader.py hostile --threads 8     the same, divided over threads
    python benchmarks/grader.py hostile --batch_seconds 3000 --item_seconds 2     until every one is decided

The pairs are `tests/grading/labelled_pairs.jsonl`, the hostile answers `tests/grading/hostile.py`. The last four add a
line to docs/results/grader.jsonl.
"""

import argparse
import collections
import datetime
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from math_verify import parse, verify

from trl_amft.grading import Grader


ROOT = Path(__file__).parents[1]
PAIRS = ROOT / "tests" / "grading" / "labelled_pairs.jsonl"
RESULTS = ROOT / "docs" / "results" / "grader.jsonl"
sys.path.insert(0, str(PAIRS.parent))

from hostile import hostile_pairs  # noqa: E402


def read_pairs() -> list[dict]:
    return [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]


def column() -> None:
    """math-verify as its README shows it: the whole completion, the gold in a box, default settings."""
    rows = read_pairs()
    for row in rows:
        gold = row["gold"] if "\\boxed" in row["gold"] else f"\\boxed{{{row['gold']}}}"
        row["math_verify"] = int(verify(parse(gold), parse(row["answer"])))
    PAIRS.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"math-verify agrees with {sum(row['math_verify'] == row['label'] for row in rows)} of {len(rows)} labels")


def agreement(grader: Grader) -> dict:
    """Share of labels that the grader agrees with."""
    rows = read_pairs()
    started = time.monotonic()
    verdicts = grader.grade([row["answer"] for row in rows], [row["gold"] for row in rows])
    seconds = time.monotonic() - started
    kinds, wrong = collections.defaultdict(lambda: [0, 0]), []
    for row, verdict in zip(rows, verdicts, strict=True):
        agrees = verdict.correct == bool(row["label"])
        kinds[row["kind"]][0] += agrees
        kinds[row["kind"]][1] += 1
        if not agrees:
            wrong.append(row)
    return {
        "pairs": len(rows),
        "agree": len(rows) - len(wrong),
        "math_verify_agrees": sum(row["math_verify"] == row["label"] for row in rows),
        "by_kind": {kind: f"{right}/{count}" for kind, (right, count) in kinds.items()},
        "disagreements": wrong,
        "seconds": round(seconds, 1),
    }


def hostile(grader: Grader, threads: int) -> dict:
    """Outcomes of the hostile answers, and how long they took from the start of the processes."""
    pairs = hostile_pairs()
    parts = [pairs[first::threads] for first in range(threads)]
    started = time.monotonic()
    with ThreadPoolExecutor(threads) as executor:
        graded = executor.map(lambda part: grader.grade([p[1] for p in part], [p[2] for p in part]), parts)
        verdicts = [verdict for part in graded for verdict in part]
    seconds = time.monotonic() - started
    workers = grader.process_ids()
    grader.close()
    outcomes = collections.Counter(
        "correct" if verdict.correct else verdict.undecided or "wrong" for verdict in verdicts
    )
    return {
        "answers": len(pairs),
        "threads": threads,
        "workers": len(workers),
        "seconds": round(seconds, 1),
        "outcomes": dict(outcomes),
        "processes_left": sum(os.path.exists(f"/proc/{pid}") for pid in workers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["column", "agreement", "hostile"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch_seconds", type=float, default=30.0)
    parser.add_argument("--item_seconds", type=float, default=3.0)
    args = parser.parse_args()
    if args.what == "column":
        return column()
    grader = Grader(batch_seconds=args.batch_seconds, item_seconds=args.item_seconds)
    result = agreement(grader) if args.what == "agreement" else hostile(grader, args.threads)
    grader.close()
    line = {
        "command": " ".join(["python", "benchmarks/grader.py", *sys.argv[1:]]),
        **result,
        "hardware": f"{os.cpu_count()} shared CPU cores, load {os.getloadavg()[0]:.0f}",
        "date": datetime.date.today().isoformat(),
    }
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(json.dumps(line, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
