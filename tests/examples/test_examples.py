"""Both examples run as they stand, with a tiny model in a folder and fewer steps."""

import functools
import json
import runpy
import sys
from pathlib import Path

import pytest

import trl_amft
from trl_amft.reporting.run_folder import read_run
from trl_amft.tiny_model import save_tiny_model


ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# What a CPU needs, and what makes a run short; the scripts' own arguments are overwritten.
SMALL = {
    "max_steps": 2,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    save_tiny_model(tmp_path / "model", hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    trained = []

    def config(output_dir, **settings):
        small = dict(SMALL, output_dir=str(tmp_path / "run"))
        if "sft_warmup_steps" in settings:
            small |= {"sft_warmup_steps": 1, "eval_steps": 2}
        return trl_amft.amft_config.AMFTConfig(**settings | small)

    class Trainer(trl_amft.AMFTTrainer):
        def train(self, *args, **kwargs):
            trained.append(self)
            return super().train(*args, **kwargs)

    monkeypatch.setattr(trl_amft, "AMFTConfig", functools.wraps(trl_amft.AMFTConfig)(config))
    monkeypatch.setattr(trl_amft, "AMFTTrainer", Trainer)

    def run(name):
        monkeypatch.setattr(sys, "argv", [name, str(tmp_path / "model")])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        (trainer,) = trained
        return trainer

    return run


def test_all_are_run_here():
    assert [path.name for path in EXAMPLES] == ["existing_grpo_script.py", "own_reward_and_demonstrations.py"]


def test_existing_grpo_script(run):
    trainer = run("existing_grpo_script.py")
    assert trainer.state.global_step == 2
    assert trainer.demonstrations.counts == {"used": 50, "absent": 50}
    text = (ROOT / "examples" / "existing_grpo_script.py").read_text()
    code = [line for line in text.split('"""')[2].splitlines() if line.strip()]
    assert len(code) <= 10, "it calls itself a script of ten lines"


def test_own_reward_and_demonstrations(run, tmp_path):
    trainer = run("own_reward_and_demonstrations.py")
    assert trainer.state.global_step == 2
    assert trainer.demonstrations.counts == {"used": 16}
    held_out = {json.dumps(prompt) for prompt in trainer.eval_dataset["prompt"]}
    demonstrated = {json.dumps(prompt) for prompt in trainer.demonstrations.rows["prompt"]}
    assert len(held_out) == 8 and not held_out & demonstrated
    recorded = read_run(tmp_path / "run")
    assert recorded.finished and recorded.last("eval_reward") is not None
    (reward,) = trainer.reward_funcs
    texts = ["The answer is 6.", "6", "The answer is 7.", "The answer is 6. Or 7."]
    assert reward([[{"content": text}] for text in texts], [6] * 4) == [1.0, 0.0, 0.0, 0.0]
