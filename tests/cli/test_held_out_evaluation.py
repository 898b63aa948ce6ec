"""Held-out evaluations of a run: what rewards are handed there, and what happens to the run when one fails."""

import asyncio
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

import toy
from messages import one_line
from trl_amft import AMFTTrainer
from trl_amft.cli import held_out_evaluation
from trl_amft.cli.held_out_evaluation import HeldOutEvaluation
from trl_amft.rollouts.reward_errors import RewardError


HELD_OUT = Dataset.from_dict({"prompt": toy.prompts(3), "kept_back": [True] * 3})
SETTINGS = {"max_steps": 3, "sft_warmup_steps": 1, "save_strategy": "steps", "save_steps": 2, "meta_window": 1}


def trainer(folder, reward=toy.dense_reward, **settings):
    model, tokenizer = toy.model()
    made = AMFTTrainer(
        model=model,
        reward_funcs=reward,
        args=toy.config(folder, **SETTINGS, **settings),
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set(),
    )
    made.add_callback(HeldOutEvaluation(made, HELD_OUT, [reward], 2))
    return made


def accuracies(run):
    return {row["step"]: row["held_out/accuracy"] for row in run.state.log_history if "held_out/accuracy" in row}


def failing(at):
    """The dense reward, except in the held-out evaluation at one step."""

    def reward(prompts, completions, trainer_state, kept_back=None, **kwargs):
        if kept_back and trainer_state.global_step == at:
            raise ZeroDivisionError("no judge\nsecond line")
        return toy.dense_reward(prompts, completions)

    return reward


class TestWhatRewardsAreHanded:
    def test_state_and_logs(self, tmp_path):
        seen = []

        def reward(prompts, completions, trainer_state, log_extra, log_metric, kept_back=None, **kwargs):
            if kept_back:
                seen.append(trainer_state.global_step)
                log_extra("words", completions)
                log_metric("never", 1.0)
            return toy.dense_reward(prompts, completions)

        run = trainer(tmp_path, reward)
        run.train()
        assert seen == list(accuracies(run)) == [0, 1, 3]
        assert not any("never" in row for row in run.state.log_history)

    def test_asynchronous(self, tmp_path):
        """In the one loop of the run: what is connected in a loop can be used in no other."""
        loops = set()

        async def reward(prompts, completions, **kwargs):
            loops.add(asyncio.get_running_loop())
            await asyncio.sleep(0)
            return toy.dense_reward(prompts, completions)

        run = trainer(tmp_path / "asynchronous", reward)
        run.train()
        plain = trainer(tmp_path / "plain")
        plain.train()
        assert accuracies(run) == accuracies(plain) and loops == {run.async_loop}


class TestFailingReward:
    LINE = "the reward function 'reward' failed in a held-out evaluation (ZeroDivisionError: no judge); "

    @pytest.mark.parametrize("at", [1, 3])
    def test_loses_nothing(self, tmp_path, at):
        """Neither the steps before it nor the evaluation, which the resumed run makes."""
        whole = trainer(tmp_path / "whole")
        whole.train()
        with pytest.raises(RewardError) as error:
            trainer(tmp_path / "broken", failing(at)).train()
        checkpoint = tmp_path / "broken" / f"checkpoint-{at}"
        one_line(error, f"step {at}: {self.LINE}resume from {checkpoint}")
        assert isinstance(error.value.__cause__, ZeroDivisionError)
        repaired = trainer(tmp_path / "broken")
        repaired.train(resume_from_checkpoint=str(checkpoint))
        assert accuracies(repaired) == accuracies(whole)
        if at == 3:
            # transformers trains one step more of a run that was resumed at its end.
            return
        for name, value in toy.parameters(whole).items():
            assert torch.equal(toy.parameters(repaired)[name], value), name

    def test_before_training(self, tmp_path):
        with pytest.raises(RewardError) as error:
            trainer(tmp_path, failing(at=0)).train()
        one_line(error, f"step 0: {self.LINE}nothing was trained yet")

    @pytest.mark.parametrize(
        ("values", "what"),
        [([1.0], r"ValueError: it returned 1 rewards, but 2 were expected"), (["high"] * 2, "ValueError: could not")],
    )
    def test_values_that_are_no_rewards(self, values, what):
        callback = self.callback(1)
        with pytest.raises(RewardError, match=what):
            callback._guarded(lambda **_: values, [])(["a", "b"])

    def test_all_processes_generate_and_are_told(self, monkeypatch):
        """One of them fails, goes on without asking again, and all raise the same line."""
        asked, failures, callback = [], [], self.callback(2)

        def reward(prompts, **kwargs):
            asked.append(prompts)
            raise OSError("no judge")

        guarded = callback._guarded(reward, failures)
        assert guarded(["a"]) == guarded(["b"]) == [None] and asked == [["a"]]
        sent = []
        monkeypatch.setattr(held_out_evaluation, "gather_object", lambda lines: sent.extend(lines) or sent)
        for of_process in (failures, []):
            with pytest.raises(RewardError) as error:
                callback._tell(of_process)
            one_line(error, "'reward' failed in a held-out evaluation (process 1: OSError: no judge)")

    def callback(self, processes):
        accelerator = SimpleNamespace(num_processes=processes, process_index=processes - 1)
        return HeldOutEvaluation(SimpleNamespace(accelerator=accelerator, state=None), HELD_OUT, [], 1)
