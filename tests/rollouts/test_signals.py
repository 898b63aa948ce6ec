"""Which groups carry a signal is told by what the advantages are made of; a warm-up draws what the loop draws."""

import math

import pytest
import torch

import toy
from trl_amft import AMFTTrainer
from trl_amft.rollouts.prompt_sampler import warm_up_draws
from trl_amft.rollouts.signals import group_varies


NAN = math.nan


@pytest.mark.parametrize(
    ("rewards", "weights", "summed", "normalized"),
    [
        ([[0.1], [0.1]], [1.0], False, False),
        ([[0.0], [1.0]], [1.0], True, True),
        # Of weight 0, that is only logged.
        ([[0.0, 5.0], [0.0, 7.0]], [1.0, 0.0], False, False),
        ([[0.0, 5.0], [1.0, 7.0]], [1.0, 0.0], True, True),
        # What does not apply counts as 0 in the sum; alone it says nothing.
        ([[0.0, NAN], [0.0, 0.5]], [1.0, 1.0], True, False),
        ([[0.0, NAN], [0.0, 0.0]], [1.0, 1.0], False, False),
        # A row that nothing scores has no advantage.
        ([[NAN, NAN], [0.5, 0.5]], [1.0, 1.0], False, False),
        # Functions that add up to the same.
        ([[0.25, 0.5], [0.5, 0.25]], [1.0, 1.0], False, True),
        ([[0.25, 0.5], [0.5, 0.25]], [1.0, 2.0], True, True),
    ],
)
def test_groups(rewards, weights, summed, normalized):
    batch = torch.tensor([*rewards, [0.5] * len(weights), [0.5] * len(weights)])
    for is_sum, expected in ((True, summed), (False, normalized)):
        found = group_varies(batch, torch.tensor(weights), 2, is_sum)
        assert found.tolist() == [expected, expected, False, False]


def length_reward(completions, **kwargs):
    return [float(len(completion) + index) for index, completion in enumerate(completions)]


def zero_reward(completions, **kwargs):
    return [0.0] * len(completions)


@pytest.mark.parametrize(("weight", "imitated"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_reward_that_is_only_logged_leaves_a_group_dead(tmp_path, weight, imitated):
    model, tokenizer = toy.model()
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=[zero_reward, length_reward],
        args=toy.config(tmp_path, mixing_policy="dead_group", reward_weights=[1.0, weight], max_steps=1),
        train_dataset=toy.paired_set(),
        processing_class=tokenizer,
    )
    trainer.train()
    assert trainer.state.log_history[0]["amft/mu"] == imitated


@pytest.mark.parametrize("accumulated", [1, 3, 4])
@pytest.mark.parametrize("per_epoch", [1, 4, 10])
def test_draws_of_a_warm_up(accumulated, per_epoch):
    drawn = 0
    for step in range(12):
        assert warm_up_draws(step, accumulated, per_epoch) == drawn
        drawn += min(accumulated, per_epoch - drawn % per_epoch)
