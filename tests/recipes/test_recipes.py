"""Every recipe runs in small, and the launchers' configurations beside them do what they say."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from trl_amft.cli import train
from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.usage import UsageError


ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
LAUNCHERS = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))
MATH = ROOT / "recipes" / "math.yaml"

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def accelerate(name: str, *arguments: str) -> list[str]:
    config = str(ROOT / "recipes" / "accelerate" / f"{name}.yaml")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    return [*launch, "--main_process_port", "0", *arguments]


def smoke(output_dir: Path, launcher: list[str], *arguments: str, recipe: Path = MATH, path: str = "") -> str:
    """Launch a recipe in small and return what it printed."""
    command = [*launcher, str(ROOT / "scripts" / "train.py"), "--recipe", str(recipe), "--smoke"]
    run = subprocess.run(
        [*command, "--output_dir", str(output_dir), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{path}", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-10000:]
    return run.stdout


def logged(output_dir: Path) -> list[dict]:
    log = json.loads((output_dir / "log_history.json").read_text())
    return [row for row in log if "learning_rate" in row]


def numbers(output_dir: Path) -> list[float]:
    return [row[key] for row in logged(output_dir) for key in ("loss", "grad_norm")]


class TestRecipes:
    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_runs_in_small(self, path, tmp_path):
        assert train.main(["--recipe", str(path), "--smoke", "--output_dir", str(tmp_path)]) == 0
        rows = logged(tmp_path)
        # Both phases: a supervised step, where there is a warm-up, and a step with rollouts.
        assert [row["step"] for row in rows] == [1, 2] and "reward" in rows[-1] and "amft/mu" in rows[-1]
        assert ("reward" in rows[0]) == ("sft_warmup_steps" not in path.read_text())
        assert 0 < sum(file.stat().st_size for file in tmp_path.glob("*.safetensors")) < 5e6

    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_unknown_key_is_refused_in_small_as_well(self, path, tmp_path):
        copy = tmp_path / path.name
        copy.write_text(path.read_text() + "\nnum_generation: 4\n")
        with pytest.raises(UsageError, match=r"num_generation=4 .* did you mean 'num_generations'\?"):
            parse_recipe(["--recipe", str(copy), "--smoke"])


class TestMath:
    def test_every_number_has_a_source(self):
        lines = MATH.read_text().splitlines()
        settings = [line for line in lines if re.search(r": *[-\d.]+[\de.-]*( |$)", line) and not line.startswith("#")]
        assert len(settings) > 20
        sources = re.compile(r"# .*(AMFT|LUFFY|TRL|ours|computed)")
        assert [line for line in settings if not sources.search(line)] == []

    @pytest.mark.parametrize(
        "name",
        [
            *(
                "max_completion_length",
                "use_bias_correction_kl",
                "router_aux_loss_coef",
                "pad_to_multiple_of",
                "epsilon",
            ),
            *("loss_type", "scale_rewards", "beta", "num_iterations", "vllm_mode", "vllm_importance_sampling_mode"),
        ],
    )
    def test_defaults_that_move_are_written_down(self, name):
        assert f"\n{name}: " in MATH.read_text()

    def test_batch_is_what_the_header_says(self, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "1")
        training = parse_recipe(["--recipe", str(MATH), "--bf16", "false"]).training
        rollouts = training.per_device_train_batch_size * training.gradient_accumulation_steps * 8
        demonstrations = training.per_device_demonstration_batch_size * training.gradient_accumulation_steps * 8
        assert (rollouts, rollouts // training.num_generations, demonstrations) == (1024, 128, 128)
        header = MATH.read_text()
        assert "= 1,024, of 1,024 / 8 = 128 prompts" in header and "1 (per_device_demonstration_batch_size)" in header

    def test_memory_table_is_the_output_of_the_script(self):
        table = memory_table().table()
        assert "".join(f"#   {line}\n" for line in table) in MATH.read_text()

    def test_number_of_parameters(self):
        assert memory_table().Sizes().parameters == 7_615_616_512

    def test_memory_by_hand(self):
        sizes = memory_table().Sizes(vocabulary=10, hidden=4, layers=1, keys=2, intermediate=8)
        # Embeddings 80, attention 2 * 4 * 6 + 8 = 56, feed-forward 96, norms 8 + 4.
        assert sizes.parameters == 244
        sharded = memory_table().memory(
            sizes, gpus=2, gpu_memory=1e10, rollouts=2, demonstrations=1, tokens=3, vllm_share=0.5
        )
        assert (sharded["weights"], sharded["gradients"], sharded["optimizer"]) == (244, 244, 1464)
        base = sum(sharded[name] for name in ("weights", "gradients", "optimizer", "buffers"))
        assert sharded["rollouts"] - base == 5e9
        # Activations 2 * 3 * (4 + 24 + 4 + 48), the copied gradient 244, logits 16 * 3 * 10.
        assert sharded["SFT micro-batch"] - base == 480 + 244 + 480
        assert sharded["optimizer step"] - base == 244 + 4 * 122


@pytest.fixture(scope="module")
def zero3(tmp_path_factory):
    """The maths recipe by real ZeRO-3 on two processes of a CPU."""
    output_dir = tmp_path_factory.mktemp("zero3")
    return output_dir, smoke(output_dir, accelerate("zero3_cpu"))


class TestLaunchers:
    def test_all_are_there(self):
        assert {path.stem for path in LAUNCHERS} == {"single", "ddp", "zero2", "zero3", "zero3_cpu", "fsdp2"}

    @pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
    def test_accelerate_reads_it(self, path):
        config = load_config_from_file(str(path))
        parser = launch_command_parser()
        arguments, _, _ = _validate_launch_command(parser.parse_args(["--config_file", str(path), "train.py"]))
        assert arguments.num_processes == config.num_processes >= 1
        assert arguments.use_deepspeed == path.stem.startswith("zero") and arguments.use_fsdp == (path.stem == "fsdp2")
        if arguments.use_deepspeed:
            assert arguments.zero_stage == int(path.stem[4])
        if arguments.use_fsdp:
            assert arguments.fsdp_version == 2

    @pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
    def test_starts_with_its_command(self, path):
        assert path.read_text().startswith(
            f"# accelerate launch --config_file recipes/accelerate/{path.name} scripts/"
        )

    def test_zero3_of_the_launcher(self, zero3):
        output_dir, printed = zero3
        assert "sharding: DeepSpeed as the launcher says" in printed
        assert (output_dir / "checkpoint-2" / "global_step2").is_dir()
        assert sorted(file.name for file in (output_dir / "checkpoint-2").glob("rng_state_*")) == [
            "rng_state_0.pth",
            "rng_state_1.pth",
        ]

    def test_zero3_of_the_recipe(self, zero3, tmp_path):
        printed = smoke(tmp_path, TORCHRUN)
        assert "sharding: DeepSpeed ZeRO-3 of the recipe, because 2 processes run" in printed
        assert (tmp_path / "checkpoint-2" / "global_step2").is_dir()
        assert numbers(tmp_path) == pytest.approx(numbers(zero3[0]), rel=1e-4)

    def test_ddp(self, zero3, tmp_path):
        printed = smoke(tmp_path, accelerate("ddp", "--num_processes", "2"), "--deepspeed", "null")
        assert "sharding" not in printed and not (tmp_path / "checkpoint-2" / "global_step2").exists()
        assert (tmp_path / "checkpoint-2" / "rng_state_1.pth").exists()
        assert numbers(tmp_path) == pytest.approx(numbers(zero3[0]), rel=1e-4)

    def test_single_process_without_deepspeed(self, tmp_path):
        # A file of this name is imported by every Python that finds it.
        (tmp_path / "sitecustomize.py").write_text(
            "import sys\nsys.modules['deepspeed'] = None\nopen(__file__.replace('.py', '.run'), 'w').close()\n"
        )
        printed = smoke(tmp_path / "run", accelerate("single"), path=str(tmp_path))
        assert (tmp_path / "sitecustomize.run").exists()
        assert "sharding: none; deepspeed of the recipe is not used, because one process runs" in printed


def memory_table():
    path = ROOT / "scripts" / "memory_table.py"
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("memory_table", path))
    sys.modules["memory_table"] = module
    module.__spec__.loader.exec_module(module)
    return module
