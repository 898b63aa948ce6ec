"""A reward that fails ends a run at a checkpoint from which it goes on as if nothing had happened."""

import math

import pytest
import torch
from safetensors import SafetensorError
from test_bad_input import trainer

import toy
from messages import one_line
from trl_amft.rollouts.reward_errors import RewardError


SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "meta_window": 1}


def failing(what, at=3):
    """The dense reward, until `what` replaces its answer at one step (None: at every step)."""

    def reward(completions, trainer_state, **kwargs):
        values = toy.dense_reward(None, completions)
        return what(values) if at is None or trainer_state.global_step == at else values

    return reward


def explode(values):
    raise ZeroDivisionError("no judge\nsecond line")


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        (explode, ["the reward function 'reward' failed (ZeroDivisionError: no judge)"]),
        (
            lambda values: values[1:],
            ["'reward' failed (ValueError", "returned 7 rewards, but 8 were expected"],
        ),
        (lambda values: ["high"] * len(values), ["'reward' failed (ValueError"]),
        (lambda values: [math.inf, *values[1:]], ["'reward'", "returned inf", "return finite rewards"]),
        (lambda values: [*values[1:], -math.inf], ["'reward'", "returned inf", "return finite rewards"]),
    ],
    ids=["raises", "wrong length", "text", "inf", "minus inf"],
)
def test_failing_reward_loses_nothing(tmp_path, what, parts):
    """The step before the failure is saved, and resumed as if nothing had happened."""
    whole = trainer(tmp_path / "whole", **SAVING)
    whole.train()
    with pytest.raises(RewardError) as error:
        trainer(tmp_path / "broken", reward=failing(what), **SAVING).train()
    checkpoint = tmp_path / "broken" / "checkpoint-3"
    one_line(error, "step 3: ", f"resume from {checkpoint}", *parts)
    repaired = trainer(tmp_path / "broken", **SAVING)
    repaired.train(resume_from_checkpoint=str(checkpoint))
    assert weights(repaired) == weights(whole)
    for name, value in toy.parameters(whole).items():
        assert torch.equal(toy.parameters(repaired)[name], value), name
    assert repaired.mixing_callback.policy.updates == 4, "the evidence of the first steps was not lost"


@pytest.mark.parametrize("at", [4, 5])
def test_failing_reward_around_the_end_of_an_epoch(tmp_path, at):
    """Of four steps. The checkpoint that the run itself has just saved is as good, and stays."""
    settings = {**SAVING, "max_steps": 7, "train": toy.prompt_set(8)}
    whole = trainer(tmp_path / "whole", **settings)
    whole.train()
    run = trainer(tmp_path / "broken", reward=failing(explode, at), **settings)
    save, saved = run._save_rng_state, []
    run._save_rng_state = lambda folder: saved.append(run.state.global_step) or save(folder)
    with pytest.raises(RewardError):
        run.train()
    assert saved == [2, 4] + [5] * (at == 5)
    repaired = trainer(tmp_path / "broken", **settings)
    repaired.train(resume_from_checkpoint=str(tmp_path / "broken" / f"checkpoint-{at}"))
    assert weights(repaired) == weights(whole)
    for name, value in toy.parameters(whole).items():
        assert torch.equal(toy.parameters(repaired)[name], value), name
    assert repaired.state.num_input_tokens_seen == whole.state.num_input_tokens_seen


def test_failing_reward_in_the_first_step_of_an_epoch_that_nothing_had_saved(tmp_path):
    settings = {**SAVING, "save_steps": 3, "max_steps": 7, "train": toy.prompt_set(8)}
    whole = trainer(tmp_path / "whole", **settings)
    whole.train()
    with pytest.raises(RewardError):
        trainer(tmp_path / "broken", reward=failing(explode, at=4), **settings).train()
    repaired = trainer(tmp_path / "broken", **settings)
    checkpoint = tmp_path / "broken" / "checkpoint-4"
    with pytest.raises(RewardError) as error:
        trainer(tmp_path / "again", reward=failing(explode, at=4), **settings).train(str(checkpoint))
    one_line(error, "nothing was trained yet; resume from where this run did")
    repaired.train(resume_from_checkpoint=str(checkpoint))
    for name, value in toy.parameters(whole).items():
        assert torch.equal(toy.parameters(repaired)[name], value), name
    assert repaired.state.num_input_tokens_seen == whole.state.num_input_tokens_seen


def test_failing_asynchronous_reward(tmp_path):
    async def reward(completions, **kwargs):
        raise OSError("judge is out of reach")

    with pytest.raises(RewardError) as error:
        trainer(tmp_path, reward=reward, **SAVING).train()
    one_line(error, "'reward' failed (OSError: judge is out of reach)")


def test_failing_reward_in_the_first_step(tmp_path):
    with pytest.raises(RewardError) as error:
        trainer(tmp_path / "new", reward=failing(explode, at=0), **SAVING).train()
    one_line(error, "step 0: ", "nothing was trained yet")


@pytest.mark.parametrize("kind", [OSError, RuntimeError, SafetensorError])
def test_failing_reward_on_a_full_disk(tmp_path, monkeypatch, kind):
    """The checkpoint that is there already is named."""
    run = trainer(tmp_path, reward=failing(explode), **SAVING)
    save = run._save_rng_state

    def full(folder):
        if run.state.global_step == 3:
            raise kind("no space left on device")
        save(folder)

    monkeypatch.setattr(run, "_save_rng_state", full)
    with pytest.raises(RewardError) as error:
        run.train()
    one_line(error, f"resume from {tmp_path / 'checkpoint-2'}")


def weights(run):
    return [log["amft/mu"] for log in run.state.log_history if "amft/mu" in log]
