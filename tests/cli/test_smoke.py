"""A recipe in small: what is replaced, what stays, and what is named because this machine cannot run it."""

import json
from dataclasses import replace

import pytest
from datasets import Dataset

from trl_amft.cli import train
from trl_amft.cli.arguments import RecipeParser, parse_recipe
from trl_amft.cli.smoke import Machine, family, smoke_recipe
from trl_amft.cli.usage import UsageError
from trl_amft.tasks import SMOKE_KWARGS, TASKS, load_task
from trl_amft.tiny_model import save_tiny_model


GPU = Machine(gpu=True, bf16=True, vllm=True, deepspeed=True, processes=8)
CPU = Machine(gpu=False, bf16=False, vllm=True, deepspeed=True, processes=1)
DEFAULTS = vars(RecipeParser(prog="train.py").parse_known_args([])[0])

FULL = {
    "task": "maths",
    "model_name_or_path": "Qwen/Qwen2.5-Math-7B",
    "model_config": {"max_position_embeddings": 16384},
    "dtype": "bfloat16",
    "bf16": True,
    "attn_implementation": "flash_attention_2",
    "use_vllm": True,
    "vllm_mode": "colocate",
    "vllm_tensor_parallel_size": 4,
    "vllm_max_model_length": 9216,
    "deepspeed": {"zero_optimization": {"stage": 3}},
    "mu_init": 0.3,
    "loss_type": "dr_grpo",
    "sft_warmup_steps": 50,
    "max_steps": 500,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 16,
    "steps_per_generation": 16,
    "max_completion_length": 8192,
    "save_strategy": "steps",
    "save_steps": 50,
    "resume_from_checkpoint": "auto",
    "output_dir": "outputs/math",
    "report_to": "wandb",
}


def small(machine=GPU, given=None, **changes):
    recipe = DEFAULTS | FULL | changes | (given or {})
    return smoke_recipe(recipe, DEFAULTS, given or {}, "math", machine)


class TestRecipe:
    def test_what_is_made_small(self):
        recipe = small().recipe
        expected = {
            "sft_warmup_steps": 1,
            "max_steps": 2,
            "num_generations": 2,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "steps_per_generation": None,
            "max_completion_length": 16,
            "save_steps": 2,
            "vllm_max_model_length": None,
            "model_config": None,
            "resume_from_checkpoint": None,
            "report_to": "none",
            "output_dir": "outputs/smoke/math",
            "model_name_or_path": "outputs/smoke/math/tiny_model",
        }
        assert {key: recipe[key] for key in expected} == expected

    def test_what_stays(self):
        recipe = small().recipe
        for key in ("mu_init", "loss_type", "deepspeed", "save_strategy", "dtype", "bf16", "use_vllm", "task"):
            assert recipe[key] == FULL[key], key

    def test_its_sizes_are_never_raised(self):
        recipe = small(max_completion_length=7, gradient_accumulation_steps=1, held_out_samples=0).recipe
        assert recipe["max_completion_length"] == 7
        assert recipe["gradient_accumulation_steps"] == 1 and recipe["held_out_samples"] == 0

    def test_no_warm_up_where_the_recipe_has_none(self):
        recipe = small(sft_warmup_steps=0).recipe
        assert (recipe["sft_warmup_steps"], recipe["max_steps"]) == (0, 2)

    def test_rollouts_that_serve_several_steps(self):
        recipe = small(num_iterations=3).recipe
        assert (recipe["sft_warmup_steps"], recipe["max_steps"], recipe["save_steps"]) == (3, 6, 6)

    def test_command_line_wins(self):
        given = {"max_steps": 5, "output_dir": "elsewhere", "use_vllm": True}
        result = small(CPU, given)
        assert {key: result.recipe[key] for key in given} == given
        assert result.recipe["model_name_or_path"] == "elsewhere/tiny_model"
        assert not any("use_vllm" in line for line in result.lines)

    def test_model_and_task_are_replaced_whatever_the_command_line_says(self):
        result = small(given={"model_name_or_path": "meta-llama/Llama-3.1-8B", "task_kwargs": {"dataset": "x"}})
        assert result.recipe["model_name_or_path"] == "outputs/smoke/math/tiny_model"
        assert result.recipe["task_kwargs"]["dataset"] == "synthetic" and result.tiny_model["model_type"] == "llama"

    def test_heads_that_vllm_takes_on_a_cpu(self):
        tiny = small().tiny_model
        assert tiny["hidden_size"] // tiny["num_attention_heads"] % 32 == 0

    def test_a_tiny_model_of_the_recipe_stays(self):
        result = small(model_name_or_path=None, tiny_model={"hidden_size": 96})
        assert result.tiny_model is None and result.recipe["tiny_model"] == {"hidden_size": 96}

    @pytest.mark.parametrize("key", ["dataset_name", "demonstration_dataset_name"])
    def test_data_of_the_hub_are_refused(self, key):
        with pytest.raises(UsageError, match=f"{key}='org/set' is no local file or folder, and --smoke is offline"):
            small(**{key: "org/set"})


class TestMachine:
    def test_nothing_to_name_where_everything_runs(self):
        assert small().lines == [] and small().recipe["vllm_tensor_parallel_size"] == 4

    def test_without_a_gpu(self):
        result = small(CPU)
        named = [line.split("=")[0] for line in result.lines]
        assert named == [f"smoke: {key}" for key in ("use_vllm", "attn_implementation", "bf16", "dtype")]
        assert all("because there is no GPU" in line for line in result.lines)
        expected = {"use_vllm": False, "bf16": False, "dtype": "float32", "attn_implementation": None, "use_cpu": True}
        assert {key: result.recipe[key] for key in expected} == expected

    def test_bf16_is_on_where_nothing_is_said(self):
        assert small(CPU, bf16=None).recipe["bf16"] is False
        assert small(CPU, bf16=False, dtype="float32", use_vllm=False, attn_implementation=None).lines == []

    @pytest.mark.parametrize(
        ("machine", "mode", "reason"),
        [
            (GPU, "server", "no server has the tiny model"),
            (replace(GPU, vllm=False), "colocate", "vllm is not installed"),
        ],
    )
    def test_vllm_that_cannot_run(self, machine, mode, reason):
        result = small(machine, vllm_mode=mode)
        assert result.recipe["use_vllm"] is False
        assert result.lines == [f"smoke: use_vllm=True is left out, because {reason}"]

    def test_deepspeed_that_is_not_installed(self):
        result = small(replace(GPU, deepspeed=False))
        assert result.recipe["deepspeed"] is None and "deepspeed is not installed" in result.lines[0]
        # With one process it is not used anyway, and the choice of sharding says so.
        alone = small(replace(GPU, deepspeed=False, processes=1))
        assert alone.recipe["deepspeed"] == FULL["deepspeed"] and alone.lines == []

    @pytest.mark.parametrize(("processes", "parallel"), [(8, 4), (1, 1), (6, 1)])
    def test_tensor_parallel_needs_the_processes(self, processes, parallel):
        assert small(replace(GPU, processes=processes)).recipe["vllm_tensor_parallel_size"] == parallel


class TestFamily:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("Qwen/Qwen2.5-Math-7B", "qwen2"),
            ("Qwen/Qwen3-8B", "qwen3"),
            ("meta-llama/Llama-3.1-8B", "llama"),
            ("mistralai/Mistral-7B-v0.3", "mistral"),
            ("someone/else", "qwen2"),
        ],
    )
    def test_by_name(self, name, expected):
        assert family(name) == expected

    def test_by_configuration(self, tmp_path):
        folder = tmp_path / "qwen2-by-name"
        save_tiny_model(folder, model_type="llama", hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        assert family(str(folder)) == "llama"


class TestTasks:
    def test_every_task_has_a_small_form(self):
        assert set(SMOKE_KWARGS) == set(TASKS)

    @pytest.mark.parametrize("name", TASKS)
    def test_it_is_small(self, name):
        task = load_task(name, **SMOKE_KWARGS[name])
        assert len(task.held_out_dataset) <= 8 and len(task.train_dataset) <= 200


class TestRun:
    def test_first_rows_of_a_local_file(self, tmp_path, capsys):
        rows = [{"prompt": f"{n}+1=", "completion": str(n + 1), "demonstration": str(n + 1)} for n in range(100)]
        data = str(tmp_path / "rows.jsonl")
        Dataset.from_list(rows).to_json(data)
        recipe = {"dataset_name": data, "model_name_or_path": "org/llama", "reward_funcs": ["test_smoke:reward"]}
        path = tmp_path / "local.yaml"
        path.write_text(json.dumps(recipe))
        argv = ["--recipe", str(path), "--smoke", "--output_dir", str(tmp_path / "run")]
        train.main([*argv, "--demonstration_dataset_name", data])
        printed = capsys.readouterr().out
        assert "smoke: bf16=None is left out" in printed and "demonstrations: 16 used" in printed
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        assert config["model_type"] == "llama"

    def test_long_demonstrations_are_cut(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        rows = [{"prompt": f"{n}+1=", "completion": f"{n + 1} " * 1000} for n in range(4)]
        Dataset.from_list(rows).to_json("rows.jsonl")
        recipe = {"dataset_name": "rows.jsonl", "demonstration_dataset_name": "rows.jsonl"}
        recipe |= {"model_name_or_path": "org/llama", "reward_funcs": ["test_smoke:reward"], "sft_warmup_steps": 5}
        (tmp_path / "long.yaml").write_text(json.dumps(recipe))
        assert train.main(["--recipe", "long.yaml", "--smoke"]) == 0
        assert "demonstrations: 4 truncated" in capsys.readouterr().out

    def test_help_lists_what_is_set(self, capsys):
        with pytest.raises(SystemExit):
            parse_recipe(["--help"])
        printed = " ".join(capsys.readouterr().out.split())
        assert "--recipe FILE [--smoke]" in printed and "gradient_accumulation_steps at most 2" in printed


def reward(completions, **kwargs):
    return [float(len(set(text))) for text in completions]
