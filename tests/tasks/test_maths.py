"""Maths problems become prompts, demonstrations and solutions that the grader can read."""

import json
import re

import pytest
from datasets import Dataset, DatasetDict

from trl_amft.grading import maths_reward
from trl_amft.tasks import load_task, maths
from trl_amft.tasks.maths_fields import read_row
from trl_amft.tasks.maths_synthetic import synthetic_rows


SCHEMA = ["data_source", "prompt", "target", "ability", "reward_model", "extra_info"]


def row(truth, target="so"):
    return {
        "prompt": [{"role": "user", "content": "?"}],
        "target": target and [{"role": "assistant", "content": target}],
        "reward_model": {"ground_truth": truth, "style": "rule"},
    }


def answered(answer):
    return [{"role": "assistant", "content": f"<think>\n1 or 2\n</think>\n\nIt is \\boxed{{{answer}}}."}]


class TestSynthetic:
    def test_schema(self):
        for made in synthetic_rows(24):
            assert list(made) == SCHEMA
            assert [message["role"] for message in made["prompt"]] == ["system", "user"]
            assert set(made["reward_model"]) == {"ground_truth", "style"} and set(made["extra_info"]) == {
                "index",
                "split",
            }

    def test_right_and_well_formed(self):
        rows = [made for made in synthetic_rows(60) if made["target"]]
        demonstrations = [made["target"] for made in rows]
        assert maths_reward(demonstrations, [read_row(made)["solution"] for made in rows]) == [1.0] * len(rows)
        form = re.compile(r"<think>\n.+\n</think>\n\nThe answer is \\boxed\{.+\}\.", re.DOTALL)
        assert all(form.fullmatch(message["content"]) for (message,) in demonstrations)

    def test_worked_steps_are_true(self):
        for made in synthetic_rows(90):
            problem = made["prompt"][1]["content"]
            if made["target"] and problem.startswith("Solve"):
                factor, rest = problem.removeprefix("Solve ").removesuffix(" for x.").split("x + ")
                shift, total = rest.split(" = ")
                assert int(factor) * int(made["reward_model"]["ground_truth"]) + int(shift) == int(total)

    def test_some_have_no_demonstration(self):
        assert sum(made["target"] is None for made in synthetic_rows(80)) == 10

    def test_seed_and_count(self):
        assert synthetic_rows(30, seed=1) == synthetic_rows(60, seed=1)[:30]
        problems = [[made["prompt"][1]["content"].strip() for made in synthetic_rows(3000, seed)] for seed in (0, 1)]
        assert problems[0] != problems[1] and all(len(set(of_seed)) == 3000 for of_seed in problems)

    @pytest.mark.parametrize("count", [0, 10_001])
    def test_count_out_of_range(self, count):
        with pytest.raises(ValueError, match=f"count={count}"):
            synthetic_rows(count)

    def test_as_many_as_it_promises(self):
        assert len(synthetic_rows(10_000)) == 10_000


class TestColumns:
    @pytest.mark.parametrize(
        "truth",
        ["\\frac{1}{2}", "3", "(-\\infty, 1)", "\\text{Yes}", "A", "2\\sqrt{3}", "$\\{1,2\\}$", "\\boxed{7}", 0],
    )
    def test_grader_reads_the_solution(self, truth):
        solution = read_row(row(truth))["solution"]
        answer = str(truth).removeprefix("\\boxed{").removesuffix("}") if "boxed" in str(truth) else str(truth)
        assert maths_reward([answered(answer.strip("$")), answered("12345")], [solution] * 2) == [1.0, 0.0]

    def test_a_frame_that_is_there_stays(self):
        assert read_row(row("It is \\boxed{7}"))["solution"] == "\\boxed{7}"

    @pytest.mark.parametrize("target", [None, []])
    def test_no_demonstration(self, target):
        assert read_row(row("3") | {"target": target})["demonstration"] is None


class TestLoading:
    def load(self, dataset, **kwargs):
        return load_task("maths", dataset=str(dataset), **{"held_out_problems": 4, **kwargs})

    @pytest.fixture
    def rows(self):
        return Dataset.from_list(synthetic_rows(20))

    @pytest.mark.parametrize("form", ["rows.jsonl", "rows.json", "rows.parquet", "saved", "splits"])
    def test_every_form_gives_the_same(self, rows, tmp_path, form):
        path = tmp_path / form
        if form == "splits":
            DatasetDict({"train": rows}).save_to_disk(path)
        else:
            {"parquet": rows.to_parquet, "saved": rows.save_to_disk}.get(form.split(".")[-1], rows.to_json)(path)
        rows.to_json(tmp_path / "expected.jsonl")
        task, expected = self.load(path), self.load(tmp_path / "expected.jsonl")
        assert list(task.train_dataset) == list(expected.train_dataset)
        assert list(task.held_out_dataset) == list(expected.held_out_dataset)

    def test_columns(self):
        task = self.load("synthetic", train_problems=16)
        assert task.train_dataset.column_names == ["prompt", "demonstration", "solution"]
        assert task.held_out_dataset.column_names == ["prompt", "solution"]
        assert task.reward_funcs == [maths_reward] and task.demonstration_dataset is None
        task = self.load("synthetic", held_out_problems=8)
        assert 100 < sum(demonstration is None for demonstration in task.train_dataset["demonstration"]) <= 126

    def test_number_of_problems(self, rows, tmp_path):
        rows.to_json(tmp_path / "rows.jsonl")
        assert len(self.load(tmp_path / "rows.jsonl", train_problems=5).train_dataset) == 5
        assert len(self.load(tmp_path / "rows.jsonl").train_dataset) == 16

    def test_no_problem_is_on_both_sides(self, tmp_path):
        rows = synthetic_rows(10) * 3
        Dataset.from_list(rows).to_json(tmp_path / "rows.jsonl")
        task = self.load(tmp_path / "rows.jsonl")
        train, held_out = (
            [json.dumps(prompt) for prompt in part["prompt"]] for part in (task.train_dataset, task.held_out_dataset)
        )
        assert (len(train), len(held_out)) == (18, 4) and not set(train) & set(held_out)

    def test_held_out_problems_do_not_depend_on_how_many_are_trained_on(self):
        tasks = [self.load("synthetic", train_problems=count) for count in (3, 1000, 1100)]
        held_out = [task.held_out_dataset["prompt"][:] for task in tasks]
        assert held_out[0] == held_out[1] == held_out[2]
        for task, count in zip(tasks, (3, 1000, 1100), strict=True):
            assert len(task.train_dataset) == count
            assert not set(map(str, held_out[0])) & set(map(str, task.train_dataset["prompt"]))

    def test_seed_decides_what_is_held_out(self, rows, tmp_path):
        rows.to_json(tmp_path / "rows.jsonl")
        first, again, other = (
            self.load(tmp_path / "rows.jsonl", seed=seed).held_out_dataset["solution"][:] for seed in (0, 0, 1)
        )
        assert first == again != other

    def test_rows_without_a_ground_truth_are_left_out(self, tmp_path):
        rows = synthetic_rows(10)
        rows[0]["reward_model"]["ground_truth"] = None
        Dataset.from_list(rows).to_json(tmp_path / "rows.jsonl")
        task = self.load(tmp_path / "rows.jsonl")
        assert len(task.train_dataset) + len(task.held_out_dataset) == 9

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            (
                [{"ask": "?", "reply": "1"}],
                "has the columns ask, reply; expected one of prompt, problem, .* with one of reward_model, answer, "
                ".*, or multiple choice as question .* missing: a problem or an answer",
            ),
            ([{"question": "?"}], "missing: a problem or an answer"),
            ([{"answer": "?"}], "missing: a problem or an answer"),
            ([row("1") | {"reward_model": {"truth": "1"}}], "missing: reward_model.ground_truth"),
        ],
    )
    def test_unknown_schema(self, rows, expected, tmp_path):
        Dataset.from_list(rows).to_json(tmp_path / "rows.jsonl")
        with pytest.raises(ValueError, match=expected) as caught:
            self.load(tmp_path / "rows.jsonl")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["nowhere.jsonl", "org/none"])
    def test_what_cannot_be_loaded(self, name):
        with pytest.raises(
            ValueError, match=f"dataset='{name}' with split='train' cannot be loaded .* or 'synthetic'"
        ):
            self.load(name)

    @pytest.mark.parametrize(
        ("kwargs", "expected"),
        [
            ({"held_out_problems": 0}, "held_out_problems=0 must be at least 1"),
            ({"train_problems": 0}, "train_problems=0 must be at least 1"),
            ({"held_out_problems": 20}, "ask for at least 21 problems, .* has 20; lower them"),
        ],
    )
    def test_numbers(self, rows, tmp_path, kwargs, expected):
        rows.to_json(tmp_path / "rows.jsonl")
        with pytest.raises(ValueError, match=expected):
            self.load(tmp_path / "rows.jsonl", **kwargs)

    def test_without_the_verifier(self, monkeypatch):
        monkeypatch.setattr(maths, "is_math_verify_available", lambda: False)
        with pytest.raises(ValueError, match=r"need math-verify: run `pip install 'trl_amft\[math\]'`"):
            self.load("synthetic")
