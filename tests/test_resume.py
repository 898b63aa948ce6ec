"""A resumed run equals an uninterrupted one bit for bit."""

import json
import shutil

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

import toy
from trl_amft import AMFTTrainer


def trainer(config, cls=AMFTTrainer, streamed=False, **kwargs):
    model, tokenizer = toy.model()
    if cls is AMFTTrainer:
        demonstrations = toy.demonstration_set(lengths=True, count=40)
        kwargs["demonstration_dataset"] = demonstrations.to_iterable_dataset() if streamed else demonstrations
    return cls(
        model=model,
        reward_funcs=toy.dense_reward,
        args=config,
        train_dataset=toy.prompt_set(24),
        processing_class=tokenizer,
        **kwargs,
    )


def logs(run):
    timing = ("step_time", "runtime", "per_second")
    return [
        {name: value for name, value in log.items() if not any(t in name for t in timing)}
        for log in run.state.log_history
        if "loss" in log
    ]


@pytest.mark.parametrize(
    ("overrides", "streamed"),
    [
        ({"meta_window": 2, "sft_warmup_steps": 2}, False),
        ({"meta_window": 2, "gradient_accumulation_steps": 2, "mu_entropy_lr": 0.01}, True),
        ({"meta_window": 1, "steps_per_generation": 2, "sft_warmup_steps": 4}, False),
        ({"meta_window": 2, "meta_gradient": "validation", "meta_interval": 3}, False),
        ({"mixing_policy": "fixed", "mu_init": 0.3, "per_device_train_batch_size": 24}, False),
    ],
    ids=["warmup", "accumulation", "reused rollouts", "validation", "third epoch"],
)
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, overrides, streamed):
    settings = {"max_steps": 12, "save_strategy": "steps", "save_steps": 6, "lr_scheduler_type": "linear", **overrides}
    extra = {}
    if overrides.get("meta_gradient") == "validation":
        extra["validation_dataset"] = Dataset.from_dict({"prompt": ["9a:", "9b:", "9c:", "9d:", "9e:"]})
    whole = trainer(toy.config(tmp_path / "whole", **settings), streamed=streamed, **extra)
    whole.train()

    part = trainer(toy.config(tmp_path / "part", **settings), streamed=streamed, **extra)
    part.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))

    for name, value in toy.parameters(whole).items():
        assert torch.equal(toy.parameters(part)[name], value), name
    assert json.dumps(logs(part), sort_keys=True) == json.dumps(logs(whole), sort_keys=True)
    assert part.mixing_callback.policy.state() == whole.mixing_callback.policy.state()
    assert part.mixing_callback.demonstrations_consumed == whole.mixing_callback.demonstrations_consumed
    first, second = part.window.state_dict(), whole.window.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name].nan_to_num(7.0), second[name].nan_to_num(7.0)), name
    if overrides.get("mixing_policy") != "fixed":
        assert whole.mixing_callback.policy.updates > 0 and "sketches" in first
    assert whole.state.epoch > (2 if "per_device_train_batch_size" in overrides else 0)


def test_restoring_callbacks_on_request_works_as_well(tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "meta_window": 1}
    whole = trainer(toy.config(tmp_path / "whole", **settings))
    whole.train()
    part = trainer(toy.config(tmp_path / "part", restore_callback_states_from_checkpoint=True, **settings))
    first_object = part.mixing_callback
    part.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert part.mixing_callback is not first_object
    assert part.mixing_weight == whole.mixing_weight
    assert part.mixing_callback.policy.state() == whole.mixing_callback.policy.state()


def test_starts_from_a_grpo_checkpoint_with_one_warning(tmp_path, caplog):
    settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 3}
    trainer(toy.config(tmp_path / "grpo", GRPOConfig, **settings), GRPOTrainer).train()
    run = trainer(toy.config(tmp_path / "amft", **{**settings, "max_steps": 6}))
    run.train(resume_from_checkpoint=str(tmp_path / "grpo" / "checkpoint-3"))
    assert run.state.global_step == 6
    assert sum("holds no state" in record.message for record in caplog.records) == 1
    assert (tmp_path / "amft" / "checkpoint-6").is_dir()


def test_a_lost_history_is_dropped(tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "meta_window": 1}
    trainer(toy.config(tmp_path / "whole", **settings)).train()
    checkpoint = tmp_path / "whole" / "checkpoint-3"
    shutil.copytree(checkpoint, tmp_path / "copy")
    (tmp_path / "copy" / "amft_evidence.safetensors").unlink()
    run = trainer(toy.config(tmp_path / "part", **settings))
    run.train(resume_from_checkpoint=str(tmp_path / "copy"))
    steps = [log["step"] for log in run.state.log_history if "amft/meta_gradient" in log and log["step"] > 3]
    assert steps == [5, 6], "the first step after resuming has nothing to judge"


def test_another_seed_of_the_sketch_drops_the_history(tmp_path, caplog):
    """Sketches of another seed are noise to those of this one."""
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "meta_window": 1}
    trainer(toy.config(tmp_path / "one", **settings)).train()
    checkpoint = str(tmp_path / "one" / "checkpoint-2")
    trainer(toy.config(tmp_path / "two", seed=7, **settings)).train(resume_from_checkpoint=checkpoint)
    (said,) = [record.message for record in caplog.records if "evidence so far is dropped" in record.message]
    assert said.startswith("it was sketched with seed=42, not 7")


def test_a_warm_up_is_no_state_of_the_policy(tmp_path):
    """Who goes on from it with another μ begins at that, and not at what it was made with."""
    settings = {"max_steps": 4, "sft_warmup_steps": 2, "save_strategy": "steps", "save_steps": 2, "mu_lr": 0.0}
    trainer(toy.config(tmp_path / "one", mu_init=0.5, **settings)).train()
    for step, expected in ((2, 0.1), (4, 0.5)):
        run = trainer(toy.config(tmp_path / "two", mu_init=0.1, **{**settings, "max_steps": step + 1}))
        run.train(resume_from_checkpoint=str(tmp_path / "one" / f"checkpoint-{step}"))
        assert run.mixing_weight == expected


@pytest.mark.parametrize("answer", [1.3, -0.1, float("nan")])
def test_a_weight_that_is_none_ends_the_run(tmp_path, monkeypatch, answer):
    run = trainer(toy.config(tmp_path, meta_window=1))
    monkeypatch.setattr(type(run.mixing_policy), "global_weight", lambda self, signals: answer)
    with pytest.raises(
        ValueError, match=r"AMFTPolicy answered mu=.* at step 0: a policy must give a number in \[0, 1\]"
    ):
        run.train()


def test_another_window_drops_the_history_with_one_line(tmp_path, caplog):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    trainer(toy.config(tmp_path / "one", meta_window=1, **settings)).train()
    checkpoint = str(tmp_path / "one" / "checkpoint-2")
    trainer(toy.config(tmp_path / "two", meta_window=2, **settings)).train(resume_from_checkpoint=checkpoint)
    assert sum("evidence so far is dropped" in record.message for record in caplog.records) == 1
    fixed = {"mixing_policy": "fixed", "mu_init": 0.5, "meta_window": 2}
    trainer(toy.config(tmp_path / "three", **fixed, **settings)).train(resume_from_checkpoint=checkpoint)


def test_the_same_object_goes_on_after_a_failure_as_a_new_one_would(tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "gradient_accumulation_steps": 2}
    settings |= {"meta_window": 1}
    calls = []

    def fails_once(prompts, completions, **kwargs):
        calls.append(len(completions))
        if len(calls) == 4 and len(completions) == 16:
            raise OSError("out of reach")
        return toy.dense_reward(prompts, completions)

    broken = trainer(toy.config(tmp_path / "broken", **settings))
    broken.reward_funcs = [fails_once]
    with pytest.raises(RuntimeError, match="checkpoint-2"):
        broken.train()
    checkpoint = str(tmp_path / "broken" / "checkpoint-2")
    broken.train(resume_from_checkpoint=checkpoint)
    fresh = trainer(toy.config(tmp_path / "fresh", **settings))
    fresh.train(resume_from_checkpoint=checkpoint)
    assert toy.losses(broken)[-4:] == toy.losses(fresh)[-4:]
    assert broken.mixing_weight == fresh.mixing_weight


def test_a_second_run_starts_from_the_beginning(tmp_path):
    run = trainer(toy.config(tmp_path, max_steps=4, meta_window=1, meta_normalization="cosine", mu_lr=1.0))
    run.train()
    moved, updates = run.mixing_weight, run.mixing_callback.policy.updates
    run.train()
    assert moved != 0.5 and updates == 2
    # transformers keeps the optimizer, whose first step of the second run is no longer void.
    assert run.mixing_callback.policy.updates == 3
    assert [log["amft/mu"] for log in run.state.log_history if "amft/mu" in log][0] == 0.5
