"""Routes in an evaluation: solved where every position is, within two answers."""

import argparse
from collections import Counter

from trl_amft.cli.evaluate import load_problems
from trl_amft.cli.evaluate_arguments import PlannedSet
from trl_amft.evaluation.run_set import _graded
from trl_amft.evaluation.samplers import Sample
from trl_amft.evaluation.summary import breakdown_rows, summarize
from trl_amft.tasks import load_virl
from trl_amft.tasks.virl_answers import score_routes


def record(route, *rewards):
    empty = {"answers": None, "undecided": 0, "level": None, "subject": None}
    count = len(rewards)
    given = {"id": f"{route}{rewards}", "rewards": list(rewards), "tokens": [1] * count, "truncated": [False] * count}
    return {**empty, **given, "route": route}


def test_by_hand():
    records = [record(0, 1.0, 0.0, 0.0), record(0, 0.0, 1.0, 0.0), record(1, 1.0, 1.0, 1.0), record(1, 0.0, 0.0, 1.0)]
    found = summarize(records)["route_success"]
    assert (found["num_routes"], found["mean"]) == (2, 0.5)
    (_, row) = breakdown_rows({"virl": summarize(records)})
    assert row[:5] == ["virl", "route", "all positions within 2", "2", "50.0"]


def test_one_answer_is_not_two():
    found = summarize([record(0, 1.0), record(0, 1.0)])
    assert found["route_success"] is None and breakdown_rows({"virl": found}) == []


def test_routes_that_are_not_seen_as_a_whole_are_left_out():
    records = [record(0, 1.0, 1.0), record(0, 0.0, 0.0), record(1, 1.0, 1.0), record(1, 1.0, 1.0)]
    found = summarize(records, route_lengths={0: 2, 1: 3, 2: 4})["route_success"]
    assert (found["num_routes"], found["mean"]) == (1, 0.0)
    assert summarize(records[2:], route_lengths={0: 2, 1: 3})["route_success"] is None


def test_a_limit_cuts_the_last_route():
    kwargs = {"train_routes": 2, "held_out_routes": 2}
    lengths = Counter(load_virl(**kwargs).held_out_dataset["route"])
    planned = PlannedSet("virl", 2, "virl", kwargs)
    for limit, whole in ((lengths[next(iter(lengths))] + 1, 1), (2, 0), (None, 2)):
        problems = load_problems(planned, argparse.Namespace(limit=limit, data_dir=None))
        records = [record(route, 1.0, 1.0) for route in problems.dataset["route"]]
        found = summarize(records, route_lengths=problems.route_lengths)["route_success"]
        assert (found["num_routes"] if found else 0) == whole


def test_other_sets_have_none():
    found = summarize([record(None, 1.0, 0.0)])
    assert found["route_success"] is None and breakdown_rows({"maths": found}) == []
    # A file of an earlier version.
    del found["route_success"]
    assert breakdown_rows({"maths": found}) == []


def test_same_as_the_scores_of_the_task():
    task = load_virl(train_routes=4, held_out_routes=4, seed=6)
    rows = list(task.held_out_dataset)
    texts = [[f'{{"action": "{row["action"]}"}}', "stop()"][:: 1 if row["step"] else -1] for row in rows]
    # One position of one route is never solved.
    texts[0] = ["stop()", "none"]
    drawn = [[Sample(text=text, ids=[1], truncated=False) for text in both] for both in texts]
    found = summarize(_graded(rows, drawn, task.reward_funcs))
    expected = score_routes(texts, task.held_out_dataset["action"], task.held_out_dataset["route"])
    assert found["route_success"]["mean"] == expected.route_success == 0.75
    assert found["route_success"]["num_routes"] == expected.num_routes == 4
