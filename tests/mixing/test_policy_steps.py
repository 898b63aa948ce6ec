"""Steps of a real trainer under each policy, against the same step written down in plain PyTorch."""

import math

import pytest
import torch
from datasets import Dataset
from recorded_steps import GENERATIONS, compare, demonstrations, log_probs, rollouts, run
from trl import GRPOConfig, GRPOTrainer

import toy
from messages import one_line
from trl_amft import AMFTTrainer
from trl_amft.demonstrations.paired import SLOT


def one(probabilities, entropy, index):
    return torch.ones_like(probabilities)


def same(advantage, group, entropy):
    return advantage


SEPARATE = {
    "linear": (lambda *_: None, same, one),
    "chord_phi": (0.1, same, lambda p, entropy, index: p * (1 - p)),
    "srft": (
        0.5,
        lambda a, group, entropy: a * (0.2 * math.exp(entropy) if a > 0 else 2.0),
        lambda p, entropy, index: torch.full_like(p, math.exp(-entropy)),
    ),
    "grad_norm": (lambda rl, sft, *_: min(rl / (rl + sft), 0.95), same, one),
    "variance": (lambda *_: None, same, one),
}


@pytest.mark.parametrize("name", SEPARATE)
def test_gradient_is_the_weighted_sum_of_separate_gradients(tmp_path, name):
    mu, advantage, token_weight = SEPARATE[name]

    def check(trainer):
        given = mu(0.0, 0.0) if name in ("linear", "variance") else mu
        given = trainer.mixing_weight if given is None else given
        return compare(trainer, given, advantage, token_weight)

    trainer = run(tmp_path, name, check, gradient_accumulation_steps=2)
    weights = [mu for mu, _ in trainer.steps]
    if name == "linear":
        assert weights == pytest.approx([0.9, 0.9 - 0.85 / 3, 0.9 - 2 * 0.85 / 3])
    if name == "variance":
        assert weights[0] == 0.5 and 0.0 < weights[2] < 0.95 and weights[2] != 0.5
    assert len(trainer.steps) == 3


def test_variance_is_that_of_the_gradients(tmp_path):
    """Two steps by hand: σ² of two vectors with weights 1/3 and 2/3 … is that of their difference."""
    seen = []

    def check(trainer):
        grads = [torch.cat([g.flatten() for g in grads]) for grads in separate(trainer)]
        seen.append(grads)
        return trainer.mixing_weight

    trainer = run(tmp_path, "variance", check, {"decay": 0.5}, max_steps=2)
    (rl_1, sft_1), (rl_2, sft_2) = seen
    # Σ w ‖g‖² − ‖ḡ‖² = w₁ w₂ ‖g₁ − g₂‖², over 1 − c = 4/9: ½ ‖g₁ − g₂‖².
    rl, sft = (0.5 * (a - b).square().sum().item() for a, b in ((rl_1, rl_2), (sft_1, sft_2)))
    gap = ((sft_1 - rl_1) / 3 + 2 * (sft_2 - rl_2) / 3).square().sum().item() - 5 / 9 * (rl + sft)
    assert trainer.mixing_weight == pytest.approx(rl / (rl + sft + max(gap, 0.0)), rel=1e-4)


def separate(trainer):
    model = trainer.model_before
    parameters = list(model.parameters())
    rl, count = 0.0, 0
    for prompt, completion, advantage, _ in rollouts(trainer):
        rl = rl - advantage * log_probs(model, prompt + completion, len(prompt))[0].sum()
        count += len(completion)
    sft, tokens = 0.0, 0
    for prompt, completion, _ in demonstrations(trainer):
        sft = sft - log_probs(model, prompt + completion, len(prompt))[0].sum()
        tokens += len(completion)
    return torch.autograd.grad(rl / count, parameters), torch.autograd.grad(sft / tokens, parameters)


# Dense rewards are multiples of 1/17; the best of four random ones is above this in about half of the groups.
PASS = 0.8


def group_rewards(trainer):
    return trainer._rewards[:, 0].view(-1, GENERATIONS)


@pytest.mark.parametrize("name", ["gate", "dead_group"])
@pytest.mark.parametrize("every", [1, 3])
def test_gated_step(tmp_path, name, every):
    """Every prompt has either loss: chosen ones that of their demonstration, the others that of their rollouts."""
    reward = toy.dense_reward if name == "gate" else often_dead

    def check(trainer):
        rewards = group_rewards(trainer)
        best = rewards.amax(1)
        closed = best < PASS if name == "gate" else (best < PASS) & (best == rewards.amin(1))
        # Local prompts in the order of their groups.
        has = [index is not None for index in trainer._paired._slots[::GENERATIONS]]
        chosen = [bool(c) and h for c, h in zip(closed, has, strict=True)]
        share = sum(chosen) / len(chosen)
        scale = 1 / (1 - share) if share < 1 else 0.0
        mu, tokens = compare(trainer, share, lambda a, g, e: 0.0 if chosen[g] else a * scale, one)
        assert sum(row.count for row in trainer.rows) == pytest.approx(sum(chosen))
        return mu

    settings = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 16}
    trainer = run(tmp_path, name, check, {"pass_reward": PASS}, toy.paired_set(every), reward, **settings)
    assert len(set(trainer.steps)) > 1 and max(trainer.steps) > 0.0 and min(trainer.steps) < 1.0


def often_dead(prompts, completions, **kwargs):
    """The same 0 for all rollouts of half of the prompts."""
    dense = toy.dense_reward(prompts, completions)
    return [reward if int(prompt[0]) % 2 else 0.0 for prompt, reward in zip(prompts, dense, strict=True)]


def test_luffy_step(tmp_path):
    def check(trainer):
        rewards = group_rewards(trainer)
        slots = trainer._paired._slots[::GENERATIONS]
        worth = [None if i is None else trainer._paired._rewards[i] for i in slots]
        joint = [
            row.mean().item() if own is None else (row.sum().item() + own) / (GENERATIONS + 1)
            for row, own in zip(rewards, worth, strict=True)
        ]
        present = [own - mean for own, mean in zip(worth, joint, strict=True) if own is not None]
        slots = [slot for batch in trainer.micro_batches for slot in batch[SLOT].tolist()]
        values = iter([trainer._rewards[slot, 0].item() - joint[slot // GENERATIONS] for slot in slots])
        # The parts of the step take every second demonstration.
        count = len(trainer.micro_batches)
        expected = [present[i] for part in range(count) for i in range(part, len(present), count)]
        shaped = lambda p, e, index: expected[index] * 0.1 * p / (p + 0.1) ** 2  # noqa: E731
        share = lambda rl, sft, rollout_tokens, tokens: tokens / (tokens + rollout_tokens)  # noqa: E731
        return compare(trainer, share, lambda a, g, e: next(values), shaped)[0]

    settings = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 16}
    trainer = run(tmp_path, "luffy", check, None, toy.paired_set(2), **settings)
    assert all(0.0 < mu < 0.5 for mu in trainer.steps)


@pytest.mark.parametrize("name", ["gate", "dead_group"])
def test_with_everything_solved_it_is_grpo_to_the_bit(tmp_path, name):
    settings = {"max_steps": 3, "gradient_accumulation_steps": 2}

    def train(cls, config):
        model, tokenizer = toy.model()
        trainer = cls(
            model=model,
            reward_funcs=toy.dense_reward,
            args=config,
            train_dataset=toy.paired_set(),
            processing_class=tokenizer,
        )
        trainer.train()
        return trainer

    expected = train(GRPOTrainer, toy.config(tmp_path, GRPOConfig, **settings))
    options = {"pass_reward": 0.0}
    found = train(AMFTTrainer, toy.config(tmp_path, mixing_policy=name, mixing_policy_kwargs=options, **settings))
    assert toy.losses(found) == toy.losses(expected)
    for parameter, value in toy.parameters(expected).items():
        assert torch.equal(toy.parameters(found)[parameter], value), parameter


def test_rollouts_that_serve_two_steps_share_a_demonstration(tmp_path):
    """A demonstration counts in each step for the share of its rollouts there, and never in vain."""
    counts = []

    def check(trainer):
        counts.append({tuple(row.row["demonstration_prompt_ids"]): row.count for row in trainer.rows})
        compared = compare(trainer, 1.0, lambda *_: 0.0, one)
        return compared

    options = {"pass_reward": 2.0}
    settings = {"steps_per_generation": 2, "max_steps": 4, "per_device_train_batch_size": 8}
    run(tmp_path, "gate", check, options, toy.paired_set(), **settings)
    for first, second in (counts[:2], counts[2:]):
        prompts = {*first, *second}
        assert len(prompts) == 4
        assert all(first.get(prompt, 0) + second.get(prompt, 0) == pytest.approx(1.0) for prompt in prompts)
    assert any(0.0 < count < 1.0 for step in counts for count in step.values())


def test_a_warm_up_draws_from_all_demonstrations(tmp_path):
    trainer = run(
        tmp_path,
        "gate",
        lambda t: len(t.rows),
        {"pass_reward": 2.0},
        toy.paired_set(),
        sft_warmup_steps=2,
        max_steps=4,
    )
    assert trainer.mixing_callback.demonstrations_consumed == 4
    assert trainer.steps == [2, 2]
    logs = [log for log in trainer.state.log_history if "amft/mu" in log]
    assert [log["amft/mu"] for log in logs] == [1.0, 1.0, 1.0, 1.0]
    assert ["reward" in log for log in logs] == [False, False, True, True]


def test_a_warm_up_is_not_weighed(tmp_path):
    trainer = run(tmp_path, "chord_phi", lambda t: None, sft_warmup_steps=1, max_steps=2)
    weights = [log["amft/token_weight"] for log in trainer.state.log_history if "amft/token_weight" in log]
    assert weights[0] == 1.0 and 0.0 < weights[1] < 0.25
    supervised = run(tmp_path, "chord_phi", lambda t: None, {"mu": 1.0}, max_steps=1)
    assert "reward" not in supervised.state.log_history[0]
    assert 0.0 < supervised.state.log_history[0]["amft/token_weight"] < 0.25


@pytest.mark.parametrize("name", ["gate", "dead_group", "luffy"])
def test_a_separate_set_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(ValueError, match=f"mixing_policy='{name}' decides prompt by prompt.*'demonstration'") as error:
        run(tmp_path, name, None)
    assert "\n" not in str(error.value)


def test_demonstrations_that_no_reward_can_score_are_refused_in_one_line(tmp_path):
    def reward(**kwargs):
        raise KeyError("answer\nsecond line")

    with pytest.raises(ValueError) as error:
        run(tmp_path, "luffy", None, None, toy.paired_set(), reward)
    one_line(error, "mixing_policy='luffy'", "cannot be scored (KeyError: ", "give them the columns")


@pytest.mark.parametrize("name", ["gate", "luffy"])
def test_no_demonstration_in_a_step_is_no_nan(tmp_path, name):
    """Only the last prompt of 64 has one: nearly all micro-batches have none."""
    rows = toy.paired_set().to_list()
    dataset = Dataset.from_list([{**row, "demonstration": "5" if i == 63 else None} for i, row in enumerate(rows)])
    options = {"pass_reward": 2.0} if name == "gate" else None
    trainer = run(tmp_path, name, lambda t: len(t.rows), options, dataset, max_steps=4, gradient_accumulation_steps=2)
    assert trainer.steps.count(0) >= 3
    assert all(math.isfinite(loss) for loss in toy.losses(trainer))
    assert all(value.isfinite().all() for value in toy.parameters(trainer).values())


def test_rollouts_that_are_reused_are_weighed_once(tmp_path):
    """SRFT multiplies advantages; in the second pass over the same rollouts it must start from TRL's again."""

    def check(trainer):
        return sorted(a for batch in trainer.micro_batches for a in batch["advantages"].tolist())

    trainer = run(tmp_path, "srft", check, num_iterations=2, max_steps=2)
    assert trainer.steps[0] == trainer.steps[1] != [0.0] * 8
