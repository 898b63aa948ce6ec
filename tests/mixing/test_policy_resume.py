"""A resumed run equals an uninterrupted one bit for bit under every policy that remembers, schedules or pairs."""

import json

import pytest
import torch
from datasets import Dataset

import toy
from trl_amft import AMFTTrainer


PAIRED = ("gate", "luffy")


def train(folder, name, checkpoint=None):
    options = {"gate": {"pass_reward": 0.8}, "variance": {"decay": 0.5}}.get(name)
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "linear"}
    args = toy.config(folder, mixing_policy=name, mixing_policy_kwargs=options, **settings)
    model, tokenizer = toy.model()
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=args,
        train_dataset=toy.paired_set(2) if name in PAIRED else toy.prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=None if name in PAIRED else toy.demonstration_set(lengths=True),
        validation_dataset=Dataset.from_dict({"prompt": ["9a:", "9b:"]}) if args.needs_validation else None,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


@pytest.mark.parametrize("name", ["chord_mu", "srft", "grad_norm", "variance", "amft_paper", *PAIRED])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, name):
    whole = train(tmp_path / "whole", name)
    part = train(tmp_path / "part", name, str(tmp_path / "whole" / "checkpoint-2"))
    for parameter, value in toy.parameters(whole).items():
        assert torch.equal(toy.parameters(part)[parameter], value), parameter
    timing = ("time", "runtime", "per_second")
    logs = [
        [{key: row[key] for key in row if not any(t in key for t in timing)} for row in run.state.log_history[:4]]
        for run in (whole, part)
    ]
    assert json.dumps(logs[0], sort_keys=True) == json.dumps(logs[1], sort_keys=True)
    assert part.mixing_policy.state() == whole.mixing_policy.state()
    weights = [row["amft/mu"] for row in logs[0]]
    assert len(set(weights)) > (0 if name == "srft" else 1)


def test_moments_that_are_lost_are_dropped(tmp_path):
    train(tmp_path / "whole", "variance")
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    (checkpoint / "amft_evidence.safetensors").unlink()
    part = train(tmp_path / "part", "variance", str(checkpoint))
    weights = [row["amft/mu"] for row in part.state.log_history if "amft/mu" in row]
    # The first step after resuming has no variance yet and keeps the weight before it.
    assert weights[2] == weights[1] != weights[3]
