"""A whole run of the quickstart, small, from the command line to the files that it leaves."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from trl_amft.cli import train
from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.held_out_evaluation import HeldOutEvaluation
from trl_amft.cli.usage import UsageError


ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart.yaml"
STEPS, WARMUP, BATCH = 6, 2, 16

SMALL = {
    "max_steps": STEPS,
    "sft_warmup_steps": WARMUP,
    "per_device_train_batch_size": BATCH,
    "per_device_eval_batch_size": 32,
    "max_eval_samples": 4,
    "held_out_samples": 2,
    "task_kwargs": {"train_problems": 24, "held_out_problems": 8},
    "tiny_model": {"hidden_size": 32, "num_hidden_layers": 1},
    "logging_steps": 1,
    "eval_steps": 3,
    "save_strategy": "steps",
    "save_steps": 4,
}


def command_line(output_dir: Path, **overrides) -> list[str]:
    argv = ["--recipe", str(QUICKSTART), "--output_dir", str(output_dir)]
    for name, value in (SMALL | overrides).items():
        if value is not None:
            argv += [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return argv


def recipe_with_model(folder: Path, model: Path) -> Path:
    recipe = yaml.safe_load(QUICKSTART.read_text()) | {"model_name_or_path": str(model)}
    del recipe["tiny_model"]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def read_json(path: Path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("run")
    assert train.main(command_line(output_dir)) == 0
    return output_dir


class TestWholeRun:
    def test_evaluates_before_after_the_warm_up_and_after(self, run):
        rows = read_json(run / "metrics.json")["held_out"]
        assert [(row["stage"], row["step"]) for row in rows] == [("before", 0), ("warm_up", WARMUP), ("after", STEPS)]
        assert all(row["num_problems"] == 8 and row["num_samples"] == 2 for row in rows)
        assert all(0 <= row["accuracy"] <= 1 and row["standard_error"] >= 0 for row in rows)

    def test_counts_rollouts_of_mixed_steps_only(self, run):
        rows = read_json(run / "metrics.json")["held_out"]
        assert [row["rollouts"] for row in rows] == [0, 0, (STEPS - WARMUP) * BATCH]

    def test_time_only_grows(self, run):
        seconds = [row["seconds"] for row in read_json(run / "metrics.json")["held_out"]]
        assert seconds == sorted(seconds) and seconds[-1] > 0

    def test_every_step_is_in_the_log(self, run):
        log = read_json(run / "log_history.json")
        assert [row["step"] for row in log if "learning_rate" in row] == list(range(1, STEPS + 1))
        mu = {row["step"]: row["amft/mu"] for row in log if "learning_rate" in row}
        assert mu[WARMUP] == 1.0 and mu[WARMUP + 1] == 0.2
        assert [row["step"] for row in log if "eval_reward" in row] == [3, 6]

    def test_a_part_is_evaluated_in_the_same_way_in_between(self, run):
        log = read_json(run / "log_history.json")
        part = [row for row in log if "held_out_part/accuracy" in row]
        assert [row["step"] for row in part] == [3, 6]
        assert all(row["held_out_part/num_problems"] == 4 and row["held_out_part/num_samples"] == 1 for row in part)

    def test_evaluating_a_part_changes_nothing(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr(HeldOutEvaluation, "on_evaluate", lambda self, *args, **kwargs: None)
        train.main(command_line(tmp_path))
        with_part, without = (
            [{key: row[key] for key in ("loss", "reward", "amft/mu") if key in row} for row in log]
            for log in (
                [row for row in read_json(path / "log_history.json") if "loss" in row] for path in (run, tmp_path)
            )
        )
        assert with_part == without and len(without) == STEPS

    def test_model_and_tokenizer_load(self, run):
        model = AutoModelForCausalLM.from_pretrained(run)
        tokenizer = AutoTokenizer.from_pretrained(run)
        assert model.config.hidden_size == 32 and tokenizer.decode(tokenizer("1 2 3:6>").input_ids) == "1 2 3:6>"

    def test_picture(self, run):
        assert (run / "run.png").read_bytes().startswith(b"\x89PNG")

    def test_resolved_recipe_parses(self, run):
        recipe = parse_recipe(["--recipe", str(run / "resolved_recipe.yaml")])
        assert recipe.training.max_steps == STEPS and recipe.run.task_kwargs == SMALL["task_kwargs"]
        assert (run / "resolved_recipe.yaml").read_text().startswith("# trl_amft ")


def test_a_folder_that_is_not_a_whole_model(run, tmp_path, capsys):
    weights = tmp_path / "model.safetensors"
    shutil.copy(run / "config.json", tmp_path)
    argv = command_line(tmp_path / "next", tiny_model=None)
    argv[1] = str(recipe_with_model(tmp_path, tmp_path))
    whole = (run / weights.name).read_bytes()
    for content, line in ((None, "holds no weights"), (whole[:-8], "is not whole"), (whole, "has no tokenizer that")):
        if content is not None:
            weights.write_bytes(content)
        with pytest.raises(SystemExit, match="2"):
            train.main(argv)
        assert line in capsys.readouterr().err.strip().splitlines()[-1]


def test_model_by_its_path(run, tmp_path):
    """Training goes on from a saved model, here the one that the first run left."""
    short = {"max_steps": 2, "sft_warmup_steps": 1, "save_strategy": "no", "eval_strategy": "no", "tiny_model": None}
    argv = command_line(tmp_path / "next", dtype="bfloat16", **short)
    argv[1] = str(recipe_with_model(tmp_path, run))
    train.main(argv)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "next")
    assert model.config.hidden_size == 32 and model.dtype == torch.bfloat16


class TestResume:
    @pytest.mark.parametrize("other", [{"seed": 7}, {"mu_init": 0.3}, {"method": "grpo", "sft_warmup_steps": None}])
    def test_auto_does_not_go_on_from_another_run(self, run, tmp_path, capsys, other):
        shutil.copytree(run, tmp_path / "run")
        before = (tmp_path / "run" / "resolved_recipe.yaml").read_text()
        with pytest.raises(SystemExit, match="2"):
            train.main(command_line(tmp_path / "run", resume_from_checkpoint="auto", **other))
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert "resume_from_checkpoint='auto' finds" in line and f"has {next(iter(other.values()))!r}; give" in line
        assert (tmp_path / "run" / "resolved_recipe.yaml").read_text() == before

    def test_a_checkpoint_is_of_the_run_that_wrote_it(self, run, tmp_path):
        """Another run may have been started in the folder since."""
        shutil.copytree(run, tmp_path / "run")
        recipe = tmp_path / "run" / "resolved_recipe.yaml"
        assert (tmp_path / "run" / "checkpoint-4" / recipe.name).read_text() == recipe.read_text()
        recipe.write_text(recipe.read_text().replace("max_steps", "seed: 7\nmax_steps"))
        same = parse_recipe(command_line(tmp_path / "run", resume_from_checkpoint="auto"))
        assert train._checkpoint(same) == str(tmp_path / "run" / "checkpoint-6")
        with pytest.raises(UsageError, match="a run with seed=0, this one has 7"):
            train._checkpoint(parse_recipe(command_line(tmp_path / "run", resume_from_checkpoint="auto", seed=7)))
        parts = same.run, same.training, same.model
        assert all(any(hasattr(part, name) for part in parts) for name in train.OF_ONE_RUN)

    def test_what_is_no_checkpoint(self, run, tmp_path, capsys):
        with pytest.raises(SystemExit, match="2"):
            train.main(command_line(tmp_path, resume_from_checkpoint=str(run)))
        assert "is not the folder of a checkpoint; give one" in capsys.readouterr().err

    def test_auto_continues_from_the_newest_checkpoint(self, run, tmp_path):
        for name in ("checkpoint-4", "metrics.json"):
            source = run / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
        train.main(command_line(tmp_path, resume_from_checkpoint="auto"))
        log = read_json(tmp_path / "log_history.json")
        assert [row["step"] for row in log if "learning_rate" in row] == list(range(1, STEPS + 1))
        whole, resumed = (read_json(folder / "metrics.json")["held_out"] for folder in (run, tmp_path))
        for name in ("stage", "step", "accuracy", "rollouts", "mu"):
            assert [row[name] for row in resumed] == [row[name] for row in whole], name

    def test_auto_without_a_checkpoint_starts_fresh(self, tmp_path):
        missing = tmp_path / "new"
        recipe = parse_recipe(command_line(missing, resume_from_checkpoint="auto"))
        assert train._checkpoint(recipe) is None
        missing.mkdir()
        assert train._checkpoint(recipe) is None
        (missing / "checkpoint-2").mkdir()
        (missing / "checkpoint-10").mkdir()
        assert train._checkpoint(recipe) == str(missing / "checkpoint-10")

    def test_a_path_is_taken_as_it_is(self, tmp_path):
        (tmp_path / "trainer_state.json").touch()
        recipe = parse_recipe(command_line(tmp_path, resume_from_checkpoint=str(tmp_path)))
        assert train._checkpoint(recipe) == str(tmp_path)


class TestEndedEarly:
    """What is on disk is resumed to the end, without a trace of the stop in the numbers."""

    def reward(self, monkeypatch, at, what):
        """Let the task's reward do something at one step."""
        load_data = train.load_data

        def changed(*args):
            data = load_data(*args)
            (judge,) = data.reward_funcs

            def reward(trainer_state, **kwargs):
                if trainer_state.global_step == at:
                    what()
                return judge(**kwargs)

            return dataclasses.replace(data, reward_funcs=[reward])

        monkeypatch.setattr(train, "load_data", changed)

    def test_by_a_signal(self, run, tmp_path, monkeypatch, capsys):
        with monkeypatch.context() as patched:
            self.reward(patched, WARMUP, lambda: os.kill(os.getpid(), signal.SIGTERM))
            assert train.main(command_line(tmp_path)) == 0
        out = capsys.readouterr().out
        assert f"stopped at step {WARMUP + 1} of {STEPS}; go on with --resume_from_checkpoint auto" in out
        assert not (tmp_path / "metrics.json").exists(), "it was not evaluated"
        train.main(command_line(tmp_path, resume_from_checkpoint="auto"))
        whole, resumed = (read_json(folder / "metrics.json")["held_out"] for folder in (run, tmp_path))
        assert [row["accuracy"] for row in resumed] == [row["accuracy"] for row in whole]

    def test_by_its_rewards(self, tmp_path, monkeypatch, capsys):
        self.reward(monkeypatch, WARMUP + 1, lambda: 1 / 0)
        assert train.main(command_line(tmp_path)) == 1
        lines = capsys.readouterr().err.splitlines()
        error = lines[-1]
        assert error.startswith(f"error: step {WARMUP + 1}: the reward function ") and "ZeroDivisionError" in error
        assert error.endswith(f"resume from {tmp_path / f'checkpoint-{WARMUP + 1}'}")
        assert any("1 / 0" in line for line in lines), "the traceback of the reward is there as well"


class TestBaselines:
    @pytest.mark.parametrize(
        ("method", "warmup", "stages", "rollouts", "logged"),
        [
            ("sft", WARMUP, ["before", "warm_up", "after"], 0, {"amft/sft_loss"}),
            ("grpo", None, ["before", "after"], 3 * BATCH, {"reward"}),
        ],
    )
    def test_runs(self, tmp_path, method, warmup, stages, rollouts, logged):
        short = {"sft_warmup_steps": warmup, "max_steps": 3, "save_strategy": "no", "eval_strategy": "no"}
        train.main(command_line(tmp_path, method=method, **short))
        metrics = read_json(tmp_path / "metrics.json")
        assert metrics["method"] == method
        assert [row["stage"] for row in metrics["held_out"]] == stages
        assert metrics["held_out"][-1]["rollouts"] == rollouts
        log = read_json(tmp_path / "log_history.json")
        assert {key for row in log for key in row} & {"amft/sft_loss", "reward"} == logged

    def test_without_held_out_evaluations_and_with_lora(self, tmp_path, capsys):
        overrides = {"held_out_samples": 0, "use_peft": True, "lora_target_modules": "all-linear"}
        argv = command_line(tmp_path, max_steps=3, save_strategy="no", eval_strategy="no", **overrides)
        train.main(argv)
        assert read_json(tmp_path / "metrics.json")["held_out"] == []
        assert (tmp_path / "adapter_config.json").exists()
        told = capsys.readouterr()
        assert "run.png" in told.out
        assert "examples/s" not in told.err, "bars are for terminals"


class TestRefusals:
    def test_script_answers_with_one_line_and_code_2(self, tmp_path):
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "train.py"), *command_line(tmp_path, mu_initt=0.5)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1] == "error: --mu_initt is not a known field; did you mean 'mu_init'?"

    @pytest.mark.parametrize(
        ("overrides", "expected"),
        [
            ({"task_kwargs": {"sead": 1}}, "sead=1"),
            ({"task_kwargs": {"demonstration_quality": 7}}, "demonstration_quality=7"),
            ({"tiny_model": {"hidden_size": 33}}, "hidden_size=33"),
            ({"reward_funcs": "no_reward"}, "no_reward"),
            ({"max_demonstration_length": 1}, "max_demonstration_length"),
        ],
    )
    def test_one_line_before_training(self, tmp_path, capsys, overrides, expected):
        with pytest.raises(SystemExit) as caught:
            train.main(command_line(tmp_path, **overrides))
        assert caught.value.code == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and expected in errors[0]

    def test_model_that_does_not_exist(self, tmp_path):
        path = recipe_with_model(tmp_path, tmp_path / "nothing")
        with pytest.raises(UsageError, match="model_name_or_path=.*nothing.* cannot be loaded"):
            train._prepare(["--recipe", str(path)])
