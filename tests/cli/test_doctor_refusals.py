"""The doctor says before a run what the run would refuse late, and is silent on what the run can do."""

import json
from collections import namedtuple
from types import SimpleNamespace

import pytest
import test_doctor
from test_doctor import ROWS, problems

from trl_amft.cli import deepspeed_choice, doctor
from trl_amft.doctor import machine, output
from trl_amft.doctor.grader import uses_grader
from trl_amft.grading import maths_reward
from trl_amft.rewards import ExplorationReward
from trl_amft.tasks import load_task


examine, model = test_doctor.examine, test_doctor.model
LATER = """
async def later(completions, **kwargs):
    return [1.0] * len(completions)
"""


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class TestDeepSpeed:
    def test_file_is_read(self, examine, model, tmp_path):
        (tmp_path / "ds3.json").write_text(json.dumps({"zero_optimization": {"stage": 3}}))
        own = {"local": True, "tiny_model": None, "model_name_or_path": model}
        code, lines = examine("--processes", "4", "--deepspeed", "ds3.json", num_generations=4, **own)
        assert code == 0, lines
        assert any(" parameters, 4 GPUs, ZeRO-3, " in line for line in lines)

    @pytest.mark.parametrize("processes", [1, 2])
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("{", "deepspeed='ds.json' cannot be read (Expecting"),
            ('{"zero_optimization": 3}', "deepspeed='ds.json': zero_optimization=3 is no mapping"),
            ('{"zero_optimization": {"stage": "auto"}}', "zero_optimization.stage='auto' is not a stage"),
        ],
    )
    def test_entry_that_no_run_can_use(self, examine, tmp_path, processes, content, expected):
        (tmp_path / "ds.json").write_text(content)
        code, lines = examine("--processes", str(processes), deepspeed="ds.json")
        (found,) = problems(lines)
        assert code == 1 and expected in found

    def test_not_installed_is_one_problem(self, examine, monkeypatch):
        installed = machine.version

        def version(name):
            if name == "deepspeed":
                raise machine.PackageNotFoundError
            return installed(name)

        monkeypatch.setattr(machine, "version", version)
        monkeypatch.setattr(deepspeed_choice, "find_spec", lambda name: None)
        code, lines = examine("--processes", "2", deepspeed={"zero_optimization": {"stage": 3}})
        (found,) = problems(lines)
        assert code == 1 and "deepspeed is not installed: run `pip install" in found
        assert any("rollouts per step" in line for line in lines)


class TestOutput:
    def test_folder_that_cannot_be_written(self, examine):
        code, lines = examine(output_dir="/proc/run")
        (found,) = problems(lines)
        assert code == 1 and "output_dir='/proc/run' cannot be written" in found

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"save_steps": 10}, "because save_total_limit is null: 30 checkpoints take about"),
            ({"save_steps": 290}, "because save_total_limit is null: 2 checkpoints take about"),
            ({"save_steps": 0.25}, "because save_total_limit is null: 4 checkpoints take about"),
            ({"save_steps": 300}, "because save_total_limit is null: 1 checkpoint takes about"),
            ({"save_strategy": "epoch"}, "because save_total_limit is null: each checkpoint takes about"),
            ({"save_steps": 10, "save_total_limit": 2}, "  ok      3 checkpoints take about"),
        ],
    )
    def test_checkpoints_that_are_kept(self, examine, model, fields, expected):
        own = {"local": True, "tiny_model": None, "model_name_or_path": model}
        code, lines = examine(**own, **fields)
        assert code == 0 and any(expected in line for line in lines), lines

    @pytest.mark.parametrize(
        ("fields", "remedy"),
        [
            ({}, ": set save_total_limit, raise save_steps or change output_dir"),
            ({"save_total_limit": 2}, ": lower save_total_limit or change output_dir"),
        ],
    )
    def test_checkpoints_that_do_not_fit(self, examine, model, monkeypatch, fields, remedy):
        monkeypatch.setattr(output.shutil, "disk_usage", lambda folder: namedtuple("Usage", "free")(0))
        own = {"local": True, "tiny_model": None, "model_name_or_path": model, "save_steps": 10}
        code, lines = examine(**own, **fields)
        (found,) = problems(lines)
        assert code == 1 and found.endswith(remedy)


class TestModel:
    @pytest.mark.parametrize("name", ["./nowhere", "../nowhere", "/nowhere/model", "~/nowhere"])
    def test_folder_that_is_not_there(self, examine, name):
        code, lines = examine(local=True, tiny_model=None, model_name_or_path=name)
        (found,) = problems(lines)
        assert code == 1 and f"model_name_or_path={name!r} is not there; give an existing folder" in found

    def test_folder_of_a_run_in_small_is_written_later(self, examine, tmp_path):
        own = {"tiny_model": None, "model_name_or_path": "nobody/nothing"}
        code, lines = examine("--smoke", "--output_dir", str(tmp_path / "small"), **own)
        assert code == 0, lines

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"optim": "sgd"}, "optim='sgd': meta_preconditioner='adamw' does not describe SGD"),
            ({"optim": "adafactor"}, "optim='adafactor': meta_preconditioner='adamw' does not describe Adafactor"),
            ({"optim": "galore_adamw"}, "optim='galore_adamw' cannot be used here"),
            ({"optim": "adamw_torch"}, None),
            ({"optim": "sgd", "meta_preconditioner": "sgd"}, None),
            ({"optim": "sgd", "method": "grpo"}, None),
        ],
    )
    def test_optimizer_that_a_learned_weight_cannot_follow(self, examine, fields, expected):
        code, lines = examine(**fields)
        found = problems(lines)
        assert (code, len(found)) == ((0, 0) if expected is None else (1, 1))
        assert expected is None or (expected in found[0] and "set optim='adamw_torch'" in found[0])


class TestDemonstrations:
    def test_sources_without_their_column(self, examine, tmp_path):
        code, lines = examine(local=True, mixing_policy="amft_sources")
        (found,) = problems(lines)
        assert code == 1 and "needs demonstrations with a column 'demonstration_source', found the columns" in found
        write(tmp_path / "rows.jsonl", [{**row, "demonstration_source": "book"} for row in ROWS])
        assert examine(local=True, mixing_policy="amft_sources", dataset_name="rows.jsonl")[0] == 0

    def test_streams_have_neither_sources_nor_a_filter(self, examine, tmp_path):
        rows = [{"prompt": "1+1=", "completion": "2", "answer": "2", "demonstration_source": "book"}]
        write(tmp_path / "apart.jsonl", rows * 4)
        apart = {"demonstration_dataset_name": "apart.jsonl", "dataset_streaming": True}
        for fields, expected in (
            ({"mixing_policy": "amft_sources"}, "'demonstration_source', found a stream"),
            (
                {"demonstration_min_reward": 1.0},
                "demonstration_min_reward=1.0 needs demonstrations that can be indexed",
            ),
        ):
            code, lines = examine(local=True, **apart, **fields)
            (found,) = problems(lines)
            assert code == 1 and expected in found
        assert examine(local=True, **apart)[0] == 0

    @pytest.mark.parametrize(
        ("rewards", "fields", "expected"),
        [
            (
                ["right"],
                {"demonstration_min_reward": 2.0},
                "0 of 12 sampled demonstrations reach it, their best reward is 1",
            ),
            (
                ["right", "never"],
                {"demonstration_min_reward": 0.6, "reward_weights": [0.5, 1.0]},
                "demonstration_min_reward=0.6: 0 of 12 sampled demonstrations reach it, their best reward is 0.5",
            ),
            (["none"], {"demonstration_min_reward": 0.0}, "reach it, none has a reward"),
            (["picky"], {"demonstration_min_reward": 0.5}, "but demonstration_min_reward=0.5 filters by it"),
        ],
    )
    def test_filter_that_none_passes(self, examine, tmp_path, rewards, fields, expected):
        (tmp_path / "more_rewards.py").write_text(
            "from doctor_rewards import *\n"
            "def none(completions, **kwargs):\n    return [None] * len(completions)\n"
            "def picky(completions, **kwargs):\n    return [1.0 / (text == '?') for text in completions]\n"
        )
        code, lines = examine(local=True, reward_funcs=[f"more_rewards:{name}" for name in rewards], **fields)
        assert code == 1 and any(expected in line for line in problems(lines)), lines

    def test_filter_that_some_pass(self, examine):
        fields = {"demonstration_min_reward": 0.9, "reward_weights": [0.9]}
        code, lines = examine(local=True, **fields)
        assert code == 0 and any("12 of 12 sampled demonstrations reach it" in line for line in lines)

    @pytest.mark.parametrize("fields", [{}, {"demonstration_min_reward": 2.0}])
    def test_asynchronous_rewards_are_left_out(self, examine, tmp_path, fields):
        (tmp_path / "later_rewards.py").write_text(LATER)
        code, lines = examine(local=True, reward_funcs=["later_rewards:later", "doctor_rewards:right"], **fields)
        assert code == 0 and not any("reward later" in line for line in lines), lines
        assert any("reward right: mean 1" in line for line in lines)


class TestGrader:
    @pytest.fixture
    def needed(self, examine, monkeypatch):
        asked = []
        monkeypatch.setattr(doctor, "check_grader", lambda needed: asked.append(needed) or [])

        def needed(**fields):
            asked.clear()
            examine(**fields)
            return asked == [True]

        return needed

    def test_rewards_of_a_recipe(self, needed, tmp_path):
        rows = [{**row, "solution": row["answer"]} for row in ROWS]
        write(tmp_path / "rows.jsonl", rows)
        (tmp_path / "my_grader.py").write_text("from trl_amft.grading import maths_reward as mine\n")
        own = {"local": True, "dataset_name": "rows.jsonl"}
        assert not needed(**own)
        assert needed(**own, reward_funcs=["my_grader:mine"])
        assert needed(**own, reward_funcs=["doctor_rewards:right", "trl_amft.grading:maths_reward"])
        assert needed(**own | {"dataset_name": "nobody/data"}, reward_funcs=["trl_amft.grading:maths_reward"])

    def test_prefixes_of_a_file(self, needed, tmp_path):
        rows = [
            {"prompt": f"{n}+1=", "demonstration": "2", "p_term": 0.5, "solution": "2", "problem_prompt": f"{n}+1="}
            for n in range(12)
        ]
        write(tmp_path / "prefixes.jsonl", rows)
        assert needed(task="prefixes", task_kwargs={"dataset": str(tmp_path / "prefixes.jsonl")})
        assert not needed(task="prefixes", task_kwargs=None)

    def test_rewards_around_it(self):
        run = SimpleNamespace(task=None, reward_funcs=None)
        other = load_task("countdown", train_problems=8, held_out_problems=2).reward_funcs[0]
        assert uses_grader(run, [ExplorationReward(maths_reward)])
        assert uses_grader(run, [ExplorationReward(other, judge=maths_reward)])
        assert not uses_grader(run, [ExplorationReward(other)])
        assert uses_grader(SimpleNamespace(task="maths", reward_funcs=None), None)
