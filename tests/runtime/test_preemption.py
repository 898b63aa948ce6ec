"""A signal ends a run with a checkpoint from which it goes on as if nothing had happened."""

import os
import signal

import pytest
import torch

import toy
from trl_amft import AMFTTrainer, StopOnSignal


def trainer(folder, at=None, number=signal.SIGTERM, times=1, **settings):
    """The rewards of optimizer step `at` send the signal."""

    def reward(prompts, completions, trainer_state, **kwargs):
        if trainer_state.global_step == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return toy.dense_reward(prompts, completions)

    model, tokenizer = toy.model()
    run = AMFTTrainer(
        model=model,
        reward_funcs=reward,
        args=toy.config(folder, **{"max_steps": 6, "meta_window": 1, **settings}),
        train_dataset=toy.prompt_set(24),
        eval_dataset=toy.prompt_set(4) if "eval_strategy" in settings else None,
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set(count=24),
    )
    run.add_callback(StopOnSignal(run.accelerator))
    return run


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_after_the_step_and_goes_on(tmp_path, handlers, number):
    whole = trainer(tmp_path / "whole")
    whole.train()
    stopped = trainer(tmp_path / "stopped", at=2, number=number)
    stopped.train()
    assert stopped.state.global_step == 3
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    rest = trainer(tmp_path / "stopped")
    rest.train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-3"))
    assert rest.state.global_step == 6
    for name, value in toy.parameters(whole).items():
        assert torch.equal(toy.parameters(rest)[name], value), name
    assert rest.mixing_weight == whole.mixing_weight


def test_waits_for_the_end_of_a_batch_of_rollouts(tmp_path):
    stopped = trainer(tmp_path, at=2, steps_per_generation=2)
    stopped.train()
    assert stopped.state.global_step == 4
    assert (tmp_path / "checkpoint-4").is_dir()


def test_the_end_of_the_epoch_costs_no_evaluation(tmp_path, monkeypatch):
    stopped = trainer(tmp_path, at=2, eval_strategy="epoch", save_strategy="epoch")
    saved = []
    save = AMFTTrainer._save_checkpoint
    monkeypatch.setattr(AMFTTrainer, "_save_checkpoint", lambda *args: saved.append(save(*args)))
    monkeypatch.setattr(stopped, "evaluate", lambda **kwargs: pytest.fail("there is no time for that"))
    stopped.train()
    assert (tmp_path / "checkpoint-3").is_dir() and len(saved) == 1


def test_a_launcher_may_repeat_the_signal(tmp_path):
    stopped = trainer(tmp_path, at=2, times=3)
    stopped.train()
    assert stopped.state.global_step == 3
    assert (tmp_path / "checkpoint-3").is_dir()


@pytest.fixture
def interruptible():
    """Whatever starts the tests: a shell starts its background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_stops_at_once(tmp_path, interruptible):
    stopped = trainer(tmp_path, at=2, number=signal.SIGINT, times=2)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert stopped.state.global_step == 2


def test_a_second_run_of_the_object_is_not_stopped(tmp_path):
    stopped = trainer(tmp_path, at=2)
    stopped.train()
    stopped.reward_funcs = [toy.dense_reward]
    stopped.train()
    assert stopped.state.global_step == 6
