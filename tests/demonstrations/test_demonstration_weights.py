"""Weights of demonstrations: 0 is absence, equal weights are none, and a weight is a factor on the loss of its row."""

import math

import pytest
import torch
from datasets import Dataset

import toy
from trl_amft import AMFTTrainer
from trl_amft.demonstrations.weights import advantage_weights, weight_of


def demonstrations(weights=None, count=16):
    rows = toy.demonstration_set(count=count, lengths=True).to_list()
    if weights is not None:
        rows = [{**row, "demonstration_weight": weights[n % len(weights)]} for n, row in enumerate(rows)]
    return rows


def train(tmp_path, rows, streamed=False, steps=4, **options):
    model, tokenizer = toy.model()
    dataset = Dataset.from_list(rows)
    settings = {"mixing_policy": "fixed", "mu_init": 1.0, "per_device_demonstration_batch_size": 4, **options}
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=toy.reward,
        args=toy.config(tmp_path, max_steps=steps, **settings),
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=dataset.to_iterable_dataset() if streamed else dataset,
    )
    trainer.train()
    return trainer


def same(one, other, exactly=True):
    compare = torch.equal if exactly else lambda a, b: torch.allclose(a, b, atol=1e-5)
    first, second = toy.parameters(one), toy.parameters(other)
    return all(compare(first[name], second[name]) for name in first)


@pytest.mark.parametrize("streamed", [False, True])
def test_weight_zero_is_absence_to_the_bit(tmp_path, streamed):
    rows = demonstrations([1.0, 0.0, 1.0, 1.0])
    kept = [row for row in rows if row["demonstration_weight"]]
    weighed = train(tmp_path / "all", rows, streamed)
    assert same(weighed, train(tmp_path / "kept", kept, streamed))
    assert not same(weighed, train(tmp_path / "plain", demonstrations(), streamed))
    assert weighed.demonstrations.counts["zero_weight"] > 0


def test_equal_weights_are_plain_fine_tuning(tmp_path):
    plain = train(tmp_path / "plain", demonstrations())
    assert same(plain, train(tmp_path / "twice", demonstrations([2.0])))
    assert same(plain, train(tmp_path / "third", demonstrations([1 / 3])), exactly=False)


def test_loss_is_the_weighted_mean_over_tokens(tmp_path):
    """Against plain PyTorch, on the first step of a batch of four rows."""
    weights = [0.5, 2.0, 1.0, 3.0]
    rows = demonstrations(weights, count=4)
    trainer = train(tmp_path, rows, steps=1, learning_rate=0.0)
    model, tokenizer = toy.model()
    summed, total = 0.0, 0.0
    for row in rows:
        prompt, answer = (tokenizer(row[name])["input_ids"] for name in ("prompt", "completion"))
        answer = [*answer, tokenizer.eos_token_id]
        ids = torch.tensor([[*prompt, *answer]])
        log_probs = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        nll = -log_probs[range(len(answer)), answer].sum().item()
        summed += row["demonstration_weight"] * nll
        total += row["demonstration_weight"] * len(answer)
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(summed / total, rel=1e-5)
    assert log["demonstrations/tokens"] == pytest.approx(total)


def test_paired_demonstrations_are_weighed(tmp_path):
    rows = [{**row, "demonstration_weight": 0.5} for row in toy.paired_set().to_list()]
    model, tokenizer = toy.model()
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=toy.reward,
        args=toy.config(tmp_path, max_steps=1, mixing_policy="dead_group"),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    tokens = {log["demonstrations/tokens"] for log in trainer.state.log_history if "demonstrations/tokens" in log}
    # Two groups, each with a demonstration of two to four tokens that counts half.
    assert len(tokens) == 1 and 2.0 <= tokens.pop() <= 4.0


class TestWeights:
    def test_advantage_form(self):
        assert advantage_weights([1.0, 0.0, 0.5], 0.5, 5.0) == [2.718282, 0.367879, 1.0]
        assert advantage_weights([1.0, 0.0], 0.01, 5.0) == [5.0, 0.0]
        assert advantage_weights([0.3, 0.3], 0.1, 5.0) == [1.0, 1.0] and advantage_weights([], 1.0, 5.0) == []
        # Nothing overflows.
        assert advantage_weights([1e6, -1e6], 1e-3, 5.0) == [5.0, 0.0]

    @pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, None, "1", True])
    def test_anything_else_is_refused(self, weight):
        with pytest.raises(ValueError, match="demonstration_weight=.*: give a number from 0 on to every row"):
            weight_of({"demonstration_weight": weight})

    def test_absent_is_one(self):
        assert weight_of({}) == 1.0 and weight_of({"demonstration_weight": 2}) == 2.0

    def test_all_zero_is_told(self, tmp_path):
        with pytest.raises(ValueError, match=r"16 zero_weight\): give some of them a demonstration_weight above 0"):
            train(tmp_path, demonstrations([0.0]))

    def test_a_negative_one_is_told_before_training(self, tmp_path):
        with pytest.raises(ValueError, match="demonstration_weight=-2.0"):
            train(tmp_path, demonstrations([1.0, -2.0]))
