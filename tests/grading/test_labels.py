"""The grader against labels that were written before it."""

import json
from pathlib import Path

import pytest

from trl_amft.grading import Grader


# What it gets wrong, and why it may stay so: the right side of an equation is taken for its answer.
KNOWN = {("\\boxed{1=1}", "1")}


@pytest.fixture(scope="module")
def rows():
    path = Path(__file__).with_name("labelled_pairs.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pairs(rows):
    assert len(rows) >= 300 and len({(row["answer"], row["gold"]) for row in rows}) == len(rows)
    assert all(list(row) == ["answer", "gold", "label", "kind", "math_verify"] for row in rows)
    assert {row["label"] for row in rows} == {row["math_verify"] for row in rows} == {0, 1}


def test_agreement(rows):
    grader = Grader(batch_seconds=300, item_seconds=20)
    try:
        verdicts = grader.grade([row["answer"] for row in rows], [row["gold"] for row in rows])
    finally:
        grader.close()
    wrong = {(row["answer"], row["gold"]) for row, v in zip(rows, verdicts, strict=True) if v.correct != row["label"]}
    assert wrong == KNOWN
    assert len(wrong) <= 0.01 * len(rows)
