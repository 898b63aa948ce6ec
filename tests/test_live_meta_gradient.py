"""dU/dμ inside a real `train()` against a replay of the recorded gradients in float64."""

import itertools
from functools import partial

import pytest
import torch

import toy
from trl_amft import AMFTTrainer
from trl_amft.gradient_sketch import GradientSketch
from trl_amft.meta_gradient import adamw_sensitivity


class Recorder:
    """Copies both gradients and Adam's state of every mixed step, at the moment when they are combined."""

    def __init__(self, algebra):
        self.steps = []
        self._combine = algebra.combine
        self._algebra = algebra
        algebra.combine = self

    def __call__(self, mu, products, learning_rate):
        pieces = list(self._algebra.shards.pieces())
        first = pieces[0]
        self.steps.append(
            {
                "mu": mu,
                "rl": [g.double().clone() for g in self._algebra._stored],
                "sft": [p.grad.double().clone() for p in pieces],
                "exp_avg": [p.exp_avg.double().clone() for p in pieces] if first.exp_avg is not None else None,
                "exp_avg_sq": [p.exp_avg_sq.double().clone() for p in pieces] if first.exp_avg is not None else None,
                "step": int(first.step),
                "lr": first.lr,
            }
        )
        return self._combine(mu, products, learning_rate)


class RecordingTrainer(AMFTTrainer):
    def _begin_step(self, model, supervised):
        super()._begin_step(model, supervised)
        if not hasattr(self, "recorder"):
            self.recorder = Recorder(self.step_algebra)


def run(tmp_path, **overrides):
    settings = {"max_steps": 6, "meta_window": 1, "lr_scheduler_type": "linear", **overrides}
    return toy.train(RecordingTrainer, toy.config(tmp_path, **settings))


def replayed(steps, max_grad_norm, rates=None) -> dict[int, float]:
    """Step t → −⟨g_RL(t), dθ'/dμ(t − 1)⟩."""
    values = {}
    for t in range(2, len(steps)):
        before = steps[t - 1]
        _, sensitivity = adamw_sensitivity(
            before["rl"],
            before["sft"],
            before["mu"],
            before["exp_avg"],
            before["exp_avg_sq"],
            before["step"],
            rates or before["lr"],
            (0.9, 0.999),
            1e-8,
            max_grad_norm,
        )
        values[t] = -sum((g * q).sum().item() for g, q in zip(steps[t]["rl"], sensitivity, strict=True))
    return values


@pytest.mark.parametrize("overrides", [{}, {"gradient_accumulation_steps": 2}, {"max_grad_norm": 0.0}], ids=str)
def test_live_value_equals_replay(tmp_path, overrides):
    trainer = run(tmp_path, **overrides)
    steps = trainer.recorder.steps
    logs = {log["step"] - 1: log for log in trainer.state.log_history if "amft/mu" in log}
    expected = replayed(steps, trainer.args.max_grad_norm)
    for t, value in expected.items():
        # Logged per learning rate of the judging step, stored per learning rate of the judged one.
        live = logs[t]["amft/meta_gradient"] / steps[t]["lr"] * steps[t - 1]["lr"]
        assert live == pytest.approx(value, rel=1e-4)
    assert len(expected) == 4
    # Adam's first update is void, so the second step has nothing to judge.
    assert "amft/meta_gradient" not in logs[0] and "amft/meta_gradient" not in logs[1]


def test_sgd_form_is_the_difference_of_gradients(tmp_path):
    trainer = run(tmp_path, meta_preconditioner="sgd")
    steps = trainer.recorder.steps
    logs = {log["step"] - 1: log for log in trainer.state.log_history if "amft/mu" in log}
    for t in range(1, len(steps)):
        value = sum(
            (g * (s - r)).sum().item()
            for g, r, s in zip(steps[t]["rl"], steps[t - 1]["rl"], steps[t - 1]["sft"], strict=True)
        )
        assert logs[t]["amft/meta_gradient"] / steps[t]["lr"] == pytest.approx(value, rel=1e-4)


def sft_gradient(model, micro_batches) -> list[torch.Tensor]:
    """Mean token loss over all rows of a step, one row at a time, by autograd."""
    rows = [row for batch in micro_batches for row in batch if row is not None]
    parameters = list(model.parameters())
    count = sum(len(row["demonstration_completion_ids"]) for row in rows)
    nll = sum(0.0 * p.sum() for p in parameters)
    for row in rows:
        prompt, completion = row["demonstration_prompt_ids"], row["demonstration_completion_ids"]
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        nll = nll + torch.nn.functional.cross_entropy(logits, torch.tensor(completion), reduction="sum")
    return [g.double().flatten() for g in torch.autograd.grad(nll / max(count, 1), parameters)]


@pytest.mark.parametrize(("accumulation", "temperature"), [(1, 1.0), (4, 1.0), (4, 0.6)])
def test_mixed_gradient_is_the_weighted_sum(tmp_path, accumulation, temperature):
    """Also where a micro-batch has no demonstration and lengths differ; L_SFT is at temperature 1."""
    seen, reference, taken = [], [], []

    class Trainer(RecordingTrainer):
        def _mix(self, model, known):
            loss = super()._mix(model, known)
            seen.append([p.grad.double().flatten().clone() for p in model.parameters()])
            reference.append(sft_gradient(model, taken[-accumulation:]))
            return loss

    model, tokenizer = toy.model()
    trainer = Trainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=toy.config(
            tmp_path,
            max_steps=3,
            gradient_accumulation_steps=accumulation,
            meta_window=1,
            mu_init=0.3,
            temperature=temperature,
        ),
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set(lengths=True),
    )
    take = trainer.demonstrations.take

    def take_none_first(count):
        rows = take(count)
        taken.append([None] * count if len(taken) % accumulation == 0 else rows)
        return taken[-1]

    trainer.demonstrations.take = take_none_first
    trainer.train()
    for step, mixed, expected in zip(trainer.recorder.steps, seen, reference, strict=True):
        for rl, sft, found, alone in zip(step["rl"], step["sft"], mixed, expected, strict=True):
            torch.testing.assert_close(found, (1 - step["mu"]) * rl + step["mu"] * sft, rtol=1e-5, atol=1e-8)
            torch.testing.assert_close(sft, alone, rtol=1e-4, atol=1e-7)
    if accumulation == 1:
        assert trainer.window.estimate(2) is None, "a step without demonstrations is no evidence"
    else:
        assert any(g.abs().max() > 1e-3 for g in reference[0])


def test_groups_with_other_learning_rates_keep_their_proportion(tmp_path):
    """The judged quantity is dθ'/dμ with each group's own rate, also where one of them is 0."""
    model, tokenizer = toy.model()
    parameters = list(model.parameters())
    rates = [1e-3, 1e-6, 0.0]
    groups = [{"params": parameters[index::3], "lr": rate} for index, rate in enumerate(rates)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    trainer = RecordingTrainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=toy.config(tmp_path, max_steps=5, meta_window=1),
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        optimizers=(optimizer, None),
        demonstration_dataset=toy.demonstration_set(lengths=True),
    )
    trainer.train()
    steps = trainer.recorder.steps
    logs = {log["step"] - 1: log for log in trainer.state.log_history if "amft/mu" in log}
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    per_tensor = [rate_of[id(p)] for p in parameters]
    assert set(per_tensor) == set(rates)
    for t, value in replayed(steps, trainer.args.max_grad_norm, per_tensor).items():
        assert logs[t]["amft/meta_gradient"] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(
    ("overrides", "reuse"),
    [
        ({"num_iterations": 4}, 4),
        ({"steps_per_generation": 3}, 3),
        # Every third step begins with a batch of rollouts.
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 3, "per_device_train_batch_size": 4}, 3),
    ],
    ids=str,
)
def test_reused_rollouts_judge_once_and_still_move_the_weight(tmp_path, overrides, reuse):
    trainer = run(tmp_path, meta_window=10, meta_normalization="cosine", **{**overrides, "max_steps": 60})
    assert trainer.args.meta_estimate_interval == reuse
    judged = [log["step"] - 1 for log in trainer.state.log_history if "amft/meta_gradient" in log]
    gaps = [later - earlier for earlier, later in itertools.pairwise(judged)]
    # With accumulation the last step of an epoch may have fewer batches.
    shorter = trainer.state.epoch if trainer.args.gradient_accumulation_steps > 1 else 0
    assert gaps and sum(gap != reuse for gap in gaps) <= shorter
    assert len(judged) > 60 // reuse // 2
    assert trainer.mixing_weight != 0.5


def test_a_compressed_history_tells_the_same_up_to_its_error(tmp_path, monkeypatch):
    exact = run(tmp_path / "exact", mu_lr=0.0)
    width = 1009
    monkeypatch.setattr("trl_amft.amft_trainer.GradientSketch", partial(GradientSketch, width=width))
    sketched = run(tmp_path / "sketched", mu_lr=0.0)
    assert sketched.window.state_dict()["sketches"].size(1) == width < exact.step_algebra.shards.num_elements
    pairs = [
        (a["amft/meta_gradient_cosine"], b["amft/meta_gradient_cosine"])
        for a, b in zip(exact.state.log_history, sketched.state.log_history, strict=True)
        if "amft/meta_gradient_cosine" in a
    ]
    assert len(pairs) == 4
    for expected, found in pairs:
        assert found != expected and abs(found - expected) < 5 / width**0.5
