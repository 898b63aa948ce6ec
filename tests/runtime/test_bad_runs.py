"""Runs that cannot start, and runs that something breaks on the way: what is said, what is kept, what goes on."""

import math
from functools import partial

import pytest
import torch
from datasets import Dataset
from test_bad_input import trainer
from test_failing_rewards import failing, weights
from transformers import TrainerCallback

import toy
from messages import one_line
from trl_amft import AMFTTrainer
from trl_amft.runtime.input_checks import check_validation


def refused(tmp_path, *args, **kwargs):
    """Refused when the trainer is built."""
    with pytest.raises(ValueError) as error:
        trainer(tmp_path, *args, **kwargs)
    return error


def test_filter_that_drops_all(tmp_path):
    error = refused(tmp_path, demonstration_min_reward=2.0)
    one_line(error, "64 low_reward", "lower demonstration_min_reward")
    assert "used" not in str(error.value) and "max_demonstration_length" not in str(error.value)


def test_filter_of_a_stream(tmp_path):
    error = refused(tmp_path, toy.demonstration_set().to_iterable_dataset(), demonstration_min_reward=0.5)
    one_line(error, "demonstration_min_reward=0.5", "IterableDataset", "load them without streaming")


def test_filter_without_the_columns_of_the_reward(tmp_path):
    def needs_answer(completions, answer, **kwargs):
        return [0.0] * len(completions)

    error = refused(tmp_path, reward=needs_answer, demonstration_min_reward=0.5)
    one_line(error, "demonstration_min_reward=0.5", "'answer'", "give them the columns")


class Playground:
    """An environment, as TRL makes one for each rollout."""

    def reset(self, **columns):
        return None


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"meta_gradient": "validation"}, ["meta_gradient='validation'", "use meta_gradient='lagged'"]),
        ({"mixing_policy": "amft_paper"}, ["meta_gradient='validation'", "use mixing_policy='amft'"]),
        ({"demonstration_min_reward": 0.5}, ["demonstration_min_reward=0.5", "leave it unset"]),
        ({"mixing_policy": "luffy", "demonstrations": None}, ["mixing_policy='luffy'", "take another policy"]),
    ],
)
def test_rewards_outside_of_an_environment(tmp_path, settings, parts):
    held_out = Dataset.from_dict({"prompt": ["9a:", "9b:"]})
    more = {"environment_factory": Playground, "validation_dataset": held_out, "remove_unused_columns": False}
    error = refused(tmp_path, train=toy.paired_set(), **more, **settings)
    one_line(error, "environment", *parts)


@pytest.mark.parametrize("name", ["lomo", "adalomo", "galore_adamw_layerwise", "apollo_adamw_layerwise"])
@pytest.mark.parametrize("policy", ["amft", "linear"])
def test_optimizer_that_steps_in_the_backward_pass(tmp_path, name, policy):
    error = refused(tmp_path, optim=name, mixing_policy=policy)
    one_line(error, f"optim='{name}'", "backward pass", "set optim='adamw_torch'")


def test_plain_grpo_is_not_asked_for_its_optimizer(tmp_path, monkeypatch):
    monkeypatch.setattr(AMFTTrainer, "get_optimizer_cls_and_kwargs", None, raising=False)
    trainer(tmp_path, mixing_policy="fixed", mu_init=0.0)


OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.1),
    "AdamW": partial(torch.optim.AdamW, amsgrad=True),
    "Adam": partial(torch.optim.Adam, weight_decay=0.1),
}


REMEDY = "set optim='adamw_torch' or meta_preconditioner='sgd'"


@pytest.mark.parametrize("name", ["Adafactor", *OPTIMIZERS])
def test_optimizer_that_is_not_adamw(tmp_path, name):
    how = {"optimizer": OPTIMIZERS[name]} if name in OPTIMIZERS else {"optim": "adafactor"}
    with pytest.raises(ValueError) as error:
        trainer(tmp_path, **how)
    one_line(error, "meta_preconditioner='adamw'", name, REMEDY)


def test_optimizer_that_turns_out_otherwise(tmp_path):
    """One that is built or replaced after the trainer is judged before its first update."""
    run = trainer(tmp_path)
    run.optimizer = OPTIMIZERS["AdamW"](run.model.parameters())
    before = toy.parameters(run)
    with pytest.raises(ValueError) as error:
        run.train()
    one_line(error, "meta_preconditioner='adamw'", "AdamW without amsgrad", REMEDY)
    assert run.state.global_step == 0
    assert all(torch.equal(value, before[key]) for key, value in toy.parameters(run).items())


def test_optimizers_that_fit(tmp_path):
    sgd = OPTIMIZERS["SGD"]
    run = trainer(tmp_path, meta_preconditioner="sgd", meta_window=1, max_steps=3, optimizer=sgd)
    run.train()
    assert run.mixing_callback.policy.updates > 0
    trainer(tmp_path, mixing_policy="fixed", optimizer=sgd)
    for fits in (torch.optim.AdamW, torch.optim.Adam):
        trainer(tmp_path, optimizer=fits)


def test_optimizers_without_a_schedule_are_told_that_they_train(tmp_path):
    """In supervised steps as well, and in each, because an evaluation tells them otherwise."""

    class Told(torch.optim.AdamW):
        training = False

        def train(self):
            self.training = True

        def step(self, closure=None):
            assert self.training
            self.training = False
            return super().step(closure)

    run = trainer(tmp_path, mixing_policy="sft_then_rl", sft_warmup_steps=2, max_steps=3, optimizer=Told)
    run.train()
    assert run.state.global_step == 3


def test_validation_without_a_way_to_score(tmp_path):
    run = trainer(tmp_path)
    run._is_vlm = True
    with pytest.raises(ValueError) as error:
        check_validation(run, 2)
    one_line(error, "meta_gradient='validation'", "images", "use meta_gradient='lagged'")
    run._is_vlm = False
    run.rollout_func = object()
    with pytest.raises(ValueError) as error:
        check_validation(run, 2)
    run.rollout_func = None
    one_line(error, "meta_gradient='validation'", "rollout function", "use meta_gradient='lagged'")
    check_validation(run, 2)


@pytest.mark.parametrize(
    "what",
    # The mean of eight times 0.1 is not 0.1 in float32, so the advantages of the last case are not quite zero.
    [lambda v: [None] * len(v), lambda v: [math.nan] * len(v), lambda v: [0.1] * len(v)],
    ids=["None", "NaN", "zero variance"],
)
def test_rewards_that_say_nothing_leave_mu_alone(tmp_path, what):
    run = trainer(tmp_path, reward=failing(what, at=None), max_steps=4, meta_window=1, num_generations=8)
    before = toy.parameters(run)
    run.train()
    assert weights(run) == [0.5] * 4
    policy = run.mixing_callback.policy
    assert (policy.updates, policy.skipped, policy.normalizer.count) == (0, 4, 0)
    assert all(map(math.isfinite, toy.losses(run)))
    for name, value in toy.parameters(run).items():
        assert value.isfinite().all() and not torch.equal(value, before[name]), f"{name}: imitation must go on"


@pytest.mark.parametrize("what", [lambda v: [None] * len(v), lambda v: [math.nan] * len(v)], ids=["None", "NaN"])
def test_one_silent_step_skips_one_update(tmp_path, what):
    run = trainer(tmp_path, reward=failing(what), max_steps=6, meta_window=1)
    run.train()
    mu = weights(run)
    assert mu[3] == mu[2] and mu[4] != mu[3]
    # The first two steps have nothing to judge, the silent one judges nothing.
    assert run.mixing_callback.policy.updates == 3


def test_rows_without_a_reward_are_left_out(tmp_path):
    run = trainer(tmp_path, reward=failing(lambda v: [None, *v[1:]], at=None), max_steps=4, meta_window=1)
    run.train()
    assert run.mixing_callback.policy.updates == 2
    assert all(map(math.isfinite, toy.losses(run)))


@pytest.mark.parametrize(
    ("settings", "updates"),
    [
        ({"max_completion_length": 1, "max_demonstration_length": 4}, 3),
        ({"max_completion_length": 1, "max_demonstration_length": 4, "mask_truncated_completions": True}, 0),
        (
            {
                "generation_kwargs": {"forced_eos_token_id": 1},
                "max_completion_length": 1,
                "max_demonstration_length": 4,
            },
            0,
        ),
    ],
    ids=["one token", "all masked", "EOS at once"],
)
def test_completions_without_tokens(tmp_path, settings, updates):
    settings = {"max_completion_length": 1, "max_demonstration_length": 4, "mu_entropy_lr": 0.01, **settings}
    run = trainer(tmp_path, max_steps=5, meta_window=1, learning_rate=1e-4, **settings)
    run.train()
    assert run.state.global_step == 5
    policy = run.mixing_callback.policy
    assert policy.updates == updates
    assert all(math.isfinite(value) for value in policy.state().values() if value is not None)
    assert all(map(math.isfinite, toy.losses(run)))
    assert all(value.isfinite().all() for value in toy.parameters(run).values())


class PoisonedStep(TrainerCallback):
    """Puts a value into the gradient of one segment of one step, and keeps it from the parameters."""

    def __init__(self, run, segment, step, value):
        self.step, self.passes, self.done = step, 0, False

        def hook(grad):
            # Backward passes of a step: first that of the rollouts, then that of the demonstrations.
            self.passes += run.state.global_step == step
            here = run.state.global_step == step and self.passes == segment
            return torch.full_like(grad, value) if here else grad

        next(run.model.parameters()).register_hook(hook)

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if state.global_step == self.step:
            self.done = any(p.grad.isnan().any() for p in model.parameters())
            for parameter in model.parameters():
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("segment", [1, 2], ids=["RL", "SFT"])
@pytest.mark.parametrize("normalization", ["rms", "none"])
def test_non_finite_gradient_skips_one_update(tmp_path, segment, value, normalization):
    run = trainer(tmp_path, max_steps=7, meta_window=1, mu_entropy_lr=0.01, meta_normalization=normalization)
    poisoned = PoisonedStep(run, segment, step=3, value=value)
    run.add_callback(poisoned)
    run.train()
    assert poisoned.done
    mu, policy = weights(run), run.mixing_callback.policy
    assert mu[3] == mu[2] and len(set(mu[3:])) > 1
    # Nothing to judge in steps 0, 1 and 4; in step 3 the judgement or the gradients are not finite.
    assert (policy.updates, policy.skipped) == (3, 4)
    assert all(math.isfinite(number) for number in policy.state().values())
    assert all(tensor.isfinite().all() for tensor in toy.parameters(run).values())
