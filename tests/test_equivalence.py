"""The two ends of the mixing weight: μ = 0 is GRPOTrainer to the bit, μ = 1 is supervised fine-tuning."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from trl import GRPOConfig, GRPOTrainer

import toy
from trl_amft import AMFTConfig, AMFTTrainer


def train(cls, config, **kwargs):
    model, tokenizer = toy.model()
    trainer = cls(
        model=model,
        reward_funcs=toy.dense_reward,
        args=config,
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        **kwargs,
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "cispo"])
def test_weight_zero_is_grpo_to_the_bit(tmp_path, accumulation, loss_type):
    settings = {"gradient_accumulation_steps": accumulation, "loss_type": loss_type, "num_train_epochs": 2}
    expected = train(GRPOTrainer, toy.config(tmp_path, GRPOConfig, **settings))
    trainer = train(
        AMFTTrainer,
        toy.config(tmp_path, AMFTConfig, mixing_policy="fixed", mu_init=0.0, **settings),
        demonstration_dataset=toy.demonstration_set(),
    )
    assert toy.losses(trainer) == toy.losses(expected)
    for name, value in toy.parameters(expected).items():
        assert torch.equal(toy.parameters(trainer)[name], value), name
    assert trainer.mixing_weight == 0.0


def test_weight_zero_needs_no_demonstration_and_draws_none(tmp_path):
    trainer = train(AMFTTrainer, toy.config(tmp_path, mixing_policy="fixed", mu_init=0.0, max_steps=2))
    assert trainer.demonstrations is None
    assert trainer.mixing_callback.demonstrations_consumed == 0


def test_second_epoch_has_the_order_of_grpo(tmp_path):
    settings = {"max_steps": 40, "per_device_train_batch_size": 16}
    expected = train(GRPOTrainer, toy.config(tmp_path, GRPOConfig, **settings))
    trainer = train(AMFTTrainer, toy.config(tmp_path, mixing_policy="fixed", mu_init=0.0, **settings))
    assert trainer.state.epoch > 2
    assert toy.losses(trainer) == toy.losses(expected)


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("mode", ["fixed", "warmup"])
def test_weight_one_is_supervised_training(tmp_path, accumulation, mode):
    settings = (
        {"mixing_policy": "fixed", "mu_init": 1.0} if mode == "fixed" else {"sft_warmup_steps": 5, "max_steps": 5}
    )
    config = toy.config(
        tmp_path, gradient_accumulation_steps=accumulation, per_device_demonstration_batch_size=3, **settings
    )
    # In float64: Adam would blow up float32 rounding where a gradient is nearly zero.
    model, tokenizer = toy.model()
    model, reference = model.double(), toy.model()[0].double()
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=config,
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set(lengths=True),
    )
    trainer.train()

    # The same rows through plain PyTorch: one batch per step, mean over its completion tokens.
    optimizer = torch.optim.AdamW(reference.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    trainer.demonstrations.consumed = 0
    reference_losses = []
    for _ in range(5):
        rows = trainer.demonstrations.take(3 * accumulation)
        batch = [(row["demonstration_prompt_ids"], row["demonstration_completion_ids"]) for row in rows]
        assert all(completion[-1] == tokenizer.eos_token_id for _, completion in batch)
        nll, count = 0.0, 0
        for prompt, completion in batch:
            logits = reference(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
            nll = nll + cross_entropy(logits, torch.tensor(completion), reduction="sum")
            count += len(completion)
        loss = nll / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        reference_losses.append(loss.item())
    assert toy.losses(trainer) == pytest.approx(reference_losses, abs=1e-6)
    moved = 0.0
    for name, value in reference.named_parameters():
        torch.testing.assert_close(toy.parameters(trainer)[name], value.detach(), atol=1e-6, rtol=0)
        moved += (value.detach() - dict(toy.model()[0].named_parameters())[name].detach()).abs().max()
    assert moved > 1e-3
    assert "reward" not in trainer.state.log_history[0], "a supervised step made rollouts"
