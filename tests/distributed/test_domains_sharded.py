"""Domains and a reward for exploring on two processes: the rows of one process in the same order, and its rewards."""

from pathlib import Path

import pytest

import forked


WORKER = Path(__file__).parent / "domains_worker.py"
# By the length of a completion, 1 to 4: odd ones are right, and the term adds .2 · length / 8; never right, no term.
REWARDS = {
    "letters": [1.025, 0.05, 1.075, 0.1],
    "digits": [0.0, 0.0, 0.0, 0.0],
    "words": [0.125, 0.25, 0.375, 0.5],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("domains")
    return [forked.launch(WORKER, folder, count, {}) for count in (1, 2)]


def test_both_processes_share_the_order_of_one(runs):
    one, two = runs
    assert len(one["steps"]) == len(two["steps"]) == 4
    assert {row[1] for step in one["steps"] for row in step} == set(REWARDS)
    for step, same in zip(one["steps"], two["steps"], strict=True):
        assert [row[:3] for row in step] == [row[:3] for row in same]
        # Whole groups of four; six rows lie on each process, so that the second group lies on both.
        assert [len({tuple(row[:2]) for row in step[first : first + 4]}) for first in (0, 4, 8)] == [1, 1, 1]


def test_advantages_by_hand(runs):
    for run in runs:
        for step in run["steps"]:
            for _, domain, length, advantage in step:
                rewards = REWARDS[domain]
                assert advantage == pytest.approx(rewards[length - 1] - sum(rewards) / 4, abs=1e-6)


def test_metrics_are_those_of_one_process(runs):
    one, two = (run["logged"] for run in runs)
    assert len(one) == 4 and {"domains/words/length", "exploration/active"} <= set().union(*one)
    for expected, found in zip(one, two, strict=True):
        assert found == pytest.approx(expected, abs=1e-6)
