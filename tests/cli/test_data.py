"""Datasets and rewards by name, and what is said when they do not fit."""

import inspect
import json
from typing import get_args

import pytest
from datasets import IterableDataset
from trl.rewards import think_format_reward

from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.data import load_data
from trl_amft.cli.rewards import load_reward
from trl_amft.cli.usage import UsageError
from trl_amft.tasks import KINDS, SMOKE_KWARGS, TASKS, load_task


ROWS = [{"prompt": f"{n}+1=", "answer": str(n + 1), "demonstration": str(n + 1)} for n in range(12)]
DEMONSTRATIONS = [{"prompt": row["prompt"], "completion": row["answer"]} for row in ROWS]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(
        "def right(completions, answer, **kwargs):\n    return [0.0] * len(answer)\n\n"
        "def short(completions, **kwargs):\n    return [0.0] * len(completions)\n"
    )
    (tmp_path / "broken_rewards.py").write_text("import a_module_that_does_not_exist\n")
    for name, rows in (("train", ROWS), ("test", ROWS[:6]), ("demonstrations", DEMONSTRATIONS)):
        place = tmp_path / "data" if name in ("train", "test") else tmp_path
        place.mkdir(exist_ok=True)
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def load(*argv: str):
    fixed = ["--tiny_model", "{}", "--bf16", "false", "--output_dir", "run", "--eval_strategy", "steps"]
    if "--task" not in argv:
        fixed += ["--reward_funcs", "my_rewards:right"]
    recipe = parse_recipe([*fixed, *argv])
    return load_data(recipe.run, recipe.training)


class TestFiles:
    def test_folder_with_splits(self, folder):
        data = load("--dataset_name", "data")
        assert (len(data.train_dataset), len(data.held_out_dataset), len(data.eval_dataset)) == (12, 6, 6)
        assert data.demonstration_dataset is None
        assert data.accuracy_funcs == data.reward_funcs and data.reward_funcs[0].__name__ == "right"

    def test_single_file_has_no_held_out_problems(self, folder):
        data = load("--dataset_name", "data/train.jsonl", "--eval_strategy", "no")
        assert len(data.train_dataset) == 12 and data.held_out_dataset is None and data.eval_dataset is None

    def test_parquet(self, folder):
        load("--dataset_name", "data").train_dataset.to_parquet("train.parquet")
        assert len(load("--dataset_name", "train.parquet", "--eval_strategy", "no").train_dataset) == 12

    def test_demonstrations_of_their_own(self, folder):
        data = load("--dataset_name", "data", "--demonstration_dataset_name", "demonstrations.jsonl")
        assert data.demonstration_dataset.column_names == ["prompt", "completion"]

    def test_streaming(self, folder):
        argv = ["--demonstration_dataset_name", "demonstrations.jsonl", "--max_steps", "1"]
        data = load("--dataset_name", "data", "--dataset_streaming", "true", *argv)
        assert isinstance(data.train_dataset, IterableDataset) and isinstance(
            data.demonstration_dataset, IterableDataset
        )
        assert len(data.held_out_dataset) == 6

    def test_part_of_the_held_out_problems(self, folder):
        first, second = (load("--dataset_name", "data", "--max_eval_samples", "3") for _ in range(2))
        assert len(first.eval_dataset) == 3 and len(first.held_out_dataset) == 6
        assert first.eval_dataset["prompt"] == second.eval_dataset["prompt"]

    def test_validation_problems_leave_the_training_set(self, folder):
        data = load("--dataset_name", "data", "--meta_gradient", "validation", "--validation_samples", "4")
        train, validation = set(data.train_dataset["prompt"]), set(data.validation_dataset["prompt"])
        assert len(train) == 8 and len(validation) == 4 and not train & validation

    def test_no_validation_problems_without_need(self, folder):
        assert load("--dataset_name", "data").validation_dataset is None


class TestTask:
    def test_rewards_are_added_but_do_not_count_as_accuracy(self, folder):
        argv = ["--task", "countdown", "--task_kwargs", '{"train_problems": 4}', "--reward_funcs", "my_rewards:short"]
        data = load(*argv)
        assert [reward.__name__ for reward in data.reward_funcs] == ["steps_reward", "short"]
        assert [reward.__name__ for reward in data.accuracy_funcs] == ["steps_reward"]
        assert data.demonstration_dataset is not None

    def test_reward_that_reads_a_column_of_another_set(self, folder):
        argv = ["--task", "countdown", "--task_kwargs", '{"train_problems": 4}', "--reward_funcs", "my_rewards:right"]
        with pytest.raises(UsageError, match="'right' reads 'answer', which the training set has not, only domain"):
            load(*argv)

    def test_demonstrations_of_the_task_are_replaced(self, folder):
        argv = ["--task_kwargs", '{"train_problems": 4}', "--demonstration_dataset_name", "demonstrations.jsonl"]
        assert len(load("--task", "countdown", *argv).demonstration_dataset) == 12


class TestRefusals:
    @pytest.mark.parametrize(
        ("argv", "expected"),
        [
            (["--dataset_name", "nothing.jsonl"], "dataset_name='nothing.jsonl' is not a file"),
            (["--dataset_name", "nobody/nothing"], "dataset_name='nobody/nothing' cannot be loaded"),
            (["--dataset_name", "data", "--dataset_train_split", "trian"], "did you mean 'train'?"),
            (["--dataset_name", "data/train.jsonl"], "dataset_test_split='test' is not a split"),
            (
                ["--dataset_name", "data", "--demonstration_dataset_name", "data"],
                "demonstration_dataset_name: demonstration_dataset: found columns",
            ),
            (
                [
                    "--dataset_name",
                    "data",
                    "--demonstration_dataset_name",
                    "demonstrations.jsonl",
                    "--demonstration_dataset_split",
                    "x",
                ],
                "demonstration_dataset_split='x'",
            ),
            (["--dataset_name", "data", "--demonstration_column", "nope"], "demonstration_column='nope'"),
            (
                ["--dataset_name", "data", "--meta_gradient", "validation", "--validation_samples", "12"],
                "validation_samples=12 leaves none of 12",
            ),
        ],
    )
    def test_one_line(self, folder, argv, expected):
        with pytest.raises(UsageError) as caught:
            load(*argv)
        assert expected in str(caught.value) and "\n" not in str(caught.value)

    def test_no_prompts(self, folder):
        (folder / "answers.jsonl").write_text('{"question": "1+1=", "answer": "2"}\n')
        with pytest.raises(UsageError, match="no column 'prompt', only: question, answer"):
            load("--dataset_name", "answers.jsonl", "--eval_strategy", "no")


class TestTaskArguments:
    @pytest.mark.parametrize(
        ("task", "argument", "value", "expected"),
        [
            ("countdown", "train_problems", "many", "train_problems='many' must be a whole number or null"),
            ("countdown", "train_problems", 2.0, "train_problems=2.0 must be a whole number or null"),
            ("countdown", "seed", None, "seed=None must be a whole number"),
            ("countdown", "seed", True, "seed=True must be a whole number"),
            ("countdown", "demonstration_quality", True, "demonstration_quality=True must be a number"),
            ("countdown", "demonstration_quality", [1.0], "demonstration_quality=[1.0] must be a number"),
            ("countdown", "paired", 1, "paired=1 must be true or false"),
            ("countdown", "reward", {}, "reward={} must be text"),
            ("virl", "imagery", 3, "imagery=3 must be text or null"),
        ],
    )
    def test_wrong_type(self, task, argument, value, expected):
        with pytest.raises(UsageError) as caught:
            load("--task", task, "--task_kwargs", json.dumps({argument: value}))
        assert str(caught.value) == f"task_kwargs of task {task!r}: {expected}"

    def test_a_whole_number_is_a_number(self):
        fields = {"train_problems": 4, "held_out_problems": None, "demonstration_quality": 1, "paired": True}
        assert set(load_task("countdown", **fields).train_dataset["demonstration"]) != {None}

    @pytest.mark.parametrize("task", TASKS)
    def test_every_argument_has_a_type_that_has_a_name(self, task):
        for parameter in inspect.signature(TASKS[task]).parameters.values():
            kinds = get_args(parameter.annotation) or (parameter.annotation,)
            assert set(kinds) <= set(KINDS) and type(parameter.default) in kinds

    @pytest.mark.parametrize("task", ["countdown", "general_points", "virl"])
    def test_demonstrations_that_a_task_puts_beside_its_prompts_when_asked(self, task):
        argv = ["--task", task, "--mixing_policy", "gate", "--task_kwargs"]
        with pytest.raises(UsageError, match=f"mixing_policy='gate' .*{task}.*; set task_kwargs: {{paired: true}}"):
            load(*argv, json.dumps(SMOKE_KWARGS[task]))
        assert load(*argv, json.dumps({**SMOKE_KWARGS[task], "paired": True})).demonstration_dataset is None


class TestRewards:
    def test_reward_of_trl(self):
        assert load_reward("think_format_reward") is think_format_reward

    def test_function_of_the_working_directory(self, folder):
        assert load_reward("my_rewards:right")(completions=["x"], answer=["1"]) == [0.0]

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("think_format_rewards", "did you mean 'think_format_reward'?"),
            ("get_soft_overlong_punishment", "neither"),
            ("my_rewards:rigth", "did you mean 'right'?"),
            ("my_reward_module:right", "cannot be imported"),
            ("broken_rewards:right", "a_module_that_does_not_exist"),
            (3, "reward_funcs has 3, which is no text; give 'package.module:function'"),
        ],
    )
    def test_unknown(self, folder, path, expected):
        with pytest.raises(UsageError) as caught:
            load_reward(path)
        assert expected in str(caught.value)
