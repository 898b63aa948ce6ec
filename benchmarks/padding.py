"""
Tokens of padding in the supervised passes, with rows of like length in one micro-batch and without.

Demonstrations are those of a task; a token is a character of the tiny tokenizer. No model runs: the passes compute
padded tokens like any other, so the share of them is what sorting can save.

    python benchmarks/padding.py
    python benchmarks/padding.py --rows 2 --micro-batches 16
"""

import argparse
from itertools import islice

from common import append_result, print_table

from trl_amft.demonstrations.supervised_segment import by_length
from trl_amft.demonstrations.tokenizer import COMPLETION_IDS, PROMPT_IDS
from trl_amft.tasks import load_task


TASKS = {"countdown": {}, "general_points": {"worked_steps": True}, "maths": {"dataset": "synthetic"}}


def tokenized(task: str) -> list[dict[str, list[int]]]:
    """The demonstrations of a task, by their numbers of characters."""
    loaded = load_task(task, **TASKS[task])
    dataset, column = loaded.demonstration_dataset, "completion"
    if dataset is None:
        dataset, column = loaded.train_dataset, "demonstration"
    rows = []
    for row in islice(dataset.shuffle(seed=0), 4096):
        prompt, answer = row["prompt"], row[column]
        if answer is not None:
            rows.append({PROMPT_IDS: [0] * characters(prompt), COMPLETION_IDS: [0] * (characters(answer) + 1)})
    return rows


def characters(text) -> int:
    return len(text) if isinstance(text, str) else sum(len(message["content"]) for message in text)


def padded_share(rows: list, size: int, micro_batches: int, sort: bool) -> float:
    """Padding over all tokens that are computed."""
    step, real, computed = size * micro_batches, 0, 0
    for start in range(0, len(rows) - step + 1, step):
        drawn = rows[start : start + step]
        apart = [drawn[first : first + size] for first in range(0, step, size)]
        for part in by_length(drawn, size, micro_batches) if sort else apart:
            lengths = [len(row[PROMPT_IDS]) + len(row[COMPLETION_IDS]) for row in part]
            real, computed = real + sum(lengths), computed + max(lengths) * len(part)
    return 1.0 - real / computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8, help="demonstrations of a micro-batch")
    parser.add_argument("--micro-batches", type=int, default=8, help="of a step")
    options = parser.parse_args()
    results = []
    for task in TASKS:
        rows = tokenized(task)
        shares = [padded_share(rows, options.rows, options.micro_batches, sort) for sort in (False, True)]
        lengths = sorted(len(row[PROMPT_IDS]) + len(row[COMPLETION_IDS]) for row in rows)
        results.append({"task": task, "median_length": lengths[len(lengths) // 2], "longest": lengths[-1]})
        results[-1] |= {"padded_as_drawn": shares[0], "padded_by_length": shares[1]}
    print_table(
        f"padding, {options.micro_batches} micro-batches of {options.rows}",
        ("task", "median length", "longest", "as drawn, %", "by length, %"),
        [
            (
                row["task"],
                *(str(row[key]) for key in ("median_length", "longest")),
                *(f"{100 * row[key]:.1f}" for key in ("padded_as_drawn", "padded_by_length")),
            )
            for row in results
        ],
    )
    print(append_result("padding", {**vars(options), "rows_of": results}))


if __name__ == "__main__":
    main()
