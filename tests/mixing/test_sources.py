"""One weight per source of demonstrations: its law, its gradient, its sensitivities, and what it learns."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset, concatenate_datasets

import toy
from trl_amft import AMFTTrainer
from trl_amft.callbacks import MixingWeightCallback
from trl_amft.demonstrations.source import MapDemonstrations
from trl_amft.demonstrations.source_rotation import SourceRotation
from trl_amft.meta_gradient import clipping
from trl_amft.meta_window import MetaGradient
from trl_amft.mixing import MixingSignals
from trl_amft.mixing.per_source import AMFTSourcesPolicy, project


@pytest.mark.parametrize(
    ("weights", "low", "total", "expected"),
    [
        ([0.2, 0.3], 0.0, 0.9, [0.2, 0.3]),
        ([0.2, -0.3], 0.0, 0.9, [0.2, 0.0]),
        ([0.7, 0.5], 0.0, 1.0, [0.6, 0.4]),
        ([1.4, 0.1], 0.0, 1.0, [1.0, 0.0]),
        ([1.0, 0.7, 0.1], 0.0, 1.0, [0.65, 0.35, 0.0]),
        ([1.4, 0.1], 0.1, 1.0, [0.9, 0.1]),
        ([-1.0, 2.0], 0.0, 1.0, [0.0, 1.0]),
    ],
)
def test_projection(weights, low, total, expected):
    assert project(weights, low, total) == pytest.approx(expected)


def policy(tmp_path, **overrides):
    settings = {"meta_window": 1, "mu_lr": 0.1, "mu_init": 0.6, **overrides}
    found = AMFTSourcesPolicy(toy.config(tmp_path, mixing_policy="amft_sources", **settings))
    found.begin(["book", "web"])
    return found


def sure(value):
    return MetaGradient(value, 0.1, math.copysign(9.0, value))


def test_law(tmp_path):
    found = policy(tmp_path)
    assert found.source_weights == {"book": 0.3, "web": 0.3}
    # The first estimate of each is its own root mean square.
    assert found.global_weight(MixingSignals(0, meta_gradient={"book": sure(5.0), "web": sure(-1.0)})) == 0.6
    assert found.source_weights == pytest.approx({"book": 0.4, "web": 0.2})
    # A source without an estimate stays where it is.
    assert found.global_weight(MixingSignals(1, meta_gradient={"book": sure(5.0)})) == pytest.approx(0.7)
    assert found.source_weights == pytest.approx({"book": 0.5, "web": 0.2})
    bad = MixingSignals(2, meta_gradient={"book": sure(5.0)}, sft_grad_norm=math.nan)
    assert found.global_weight(bad) == pytest.approx(0.7)
    for step in range(9):
        found.global_weight(MixingSignals(step, meta_gradient={"book": sure(5.0), "web": sure(5.0)}))
    assert sum(found.source_weights.values()) == pytest.approx(0.95)
    assert found.source_weights["book"] - found.source_weights["web"] == pytest.approx(0.3)


def test_rounding_leaves_nothing_above_one(tmp_path):
    names = list("abcdef")
    assert sum(project([0.2] * len(names), 0.0, 1.0)) > 1.0
    callback = MixingWeightCallback(toy.config(tmp_path, mixing_policy="amft_sources", mu_max=1.0))
    found = callback.bound_policy
    found.begin(names)
    found.source_weights = dict.fromkeys(names, 0.2)
    for norm in (1.0, math.nan):
        signals = MixingSignals(0, sft_grad_norm=norm)
        assert callback.decide(signals, None, SimpleNamespace(num_processes=1)) == 1.0
        assert sum(found.source_weights.values()) > 1.0 and found.mixture(0)[0][0] == 0.0


def test_mixture(tmp_path):
    found = policy(tmp_path)
    found.source_weights = {"book": 0.5, "web": 0.2}
    assert found.mixture(0) == ((pytest.approx(0.3), 1.0), [(-1.0, 2.0), (-1.0, 0.0)])
    assert found.mixture(1) == ((pytest.approx(0.3), 0.4), [(-1.0, 2.0), (-1.0, 0.0)])


def sources(count=64, names=("right", "wrong")):
    parts = [toy.demonstration_set(name != "wrong", count) for name in names]
    named = [part.add_column("demonstration_source", [name] * count) for part, name in zip(parts, names, strict=True)]
    return concatenate_datasets(named)


def test_a_short_last_step_moves_nobody_back():
    taken, names = [], ("a", "b")
    rows = Dataset.from_dict({"demonstration_source": [name for name in names for _ in range(64)]})
    demonstrations = MapDemonstrations.__new__(MapDemonstrations)
    demonstrations.rows = rows
    rotation = SourceRotation(SimpleNamespace(sft_warmup_steps=0), demonstrations)
    policy = AMFTSourcesPolicy.__new__(AMFTSourcesPolicy)
    policy.begin = lambda names: None
    args = SimpleNamespace(per_device_demonstration_batch_size=2, gradient_accumulation_steps=4)
    segment = SimpleNamespace(draw_from=lambda part, count: taken.append((part.consumed, 2 * count)))
    for step, count in enumerate((4, 4, 4, 4, 1, 1, 4, 4)):
        state, processes = SimpleNamespace(global_step=step), SimpleNamespace(num_processes=1)
        trainer = SimpleNamespace(mixing_policy=policy, state=state, args=args, accelerator=processes)
        rotation.draw(trainer, segment, count)
    assert taken == [(0, 8)] * 2 + [(8, 8)] * 2 + [(16, 2)] * 2 + [(24, 8)] * 2


def run(
    tmp_path, demonstrations, cls=AMFTTrainer, checkpoint=None, reward=toy.dense_reward, model_seed=0, **overrides
):
    model, tokenizer = toy.model(seed=model_seed)
    settings = {"mixing_policy": "amft_sources", "meta_window": 1, **overrides}
    trainer = cls(
        model=model,
        reward_funcs=reward,
        args=toy.config(tmp_path, **settings),
        train_dataset=toy.prompt_set(208),
        processing_class=tokenizer,
        demonstration_dataset=demonstrations,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


class Watched(AMFTTrainer):
    """Compares gradient and sensitivities with finite differences of the step in float64."""

    def _mix(self, model, known):
        algebra, seen = self.step_algebra, {}
        store, mix = algebra.store_rl_gradient, algebra.mix

        def vector():
            return torch.cat([p.grad.flatten() for p in self.model.parameters()]).double()

        def noted_store():
            seen["rl"] = vector()
            store()

        def noted_mix(weights, directions, products, rate):
            sft = vector()
            found = mix(weights, directions, products, rate)
            torch.testing.assert_close(vector(), weights[0] * seen["rl"] + weights[1] * sft, rtol=1e-4, atol=1e-7)
            turn, names = self._rotation.turn(self.state.global_step), self._rotation.names
            mu = self.mixing_policy.source_weights
            assert weights == pytest.approx((1 - sum(mu.values()), len(names) * mu[names[turn]]))
            if found is not None:
                for number, (sketch, norm) in enumerate(found):
                    name = names[turn if number == 0 else 1 - turn]
                    expected = self.slope(seen["rl"], sft, dict(mu), name, names[turn])
                    torch.testing.assert_close(sketch.double(), expected, rtol=1e-3, atol=1e-3 * expected.abs().max())
                    assert norm == pytest.approx(expected.norm().item(), rel=1e-3)
                self.checked = getattr(self, "checked", 0) + len(found)
            return found

        algebra.store_rl_gradient, algebra.mix = noted_store, noted_mix
        try:
            return super()._mix(model, known)
        finally:
            algebra.store_rl_gradient, algebra.mix = store, mix

    def slope(self, rl, sft, mu, name, in_turn, h=1e-5):
        """Central difference of the clipped AdamW update, per unit of learning rate, by one weight."""
        state = [self.optimizer.state[p] for p in self.model.parameters()]
        first, second = (torch.cat([s[k].flatten() for s in state]).double() for k in ("exp_avg", "exp_avg_sq"))
        group, step = self.optimizer.param_groups[0], int(state[0]["step"]) + 1
        (beta1, beta2), count = group["betas"], len(mu)

        def update(change):
            moved = {**mu, name: mu[name] + change}
            grad = (1 - sum(moved.values())) * rl + count * moved[in_turn] * sft
            grad = grad * clipping(grad.norm().item(), 0.0, self.args.max_grad_norm).scale
            mean = (beta1 * first + (1 - beta1) * grad) / (1 - beta1**step)
            square = (beta2 * second + (1 - beta2) * grad**2) / (1 - beta2**step)
            return -mean / (square.sqrt() + group["eps"])

        return (update(h) - update(-h)) / (2 * h)


def test_gradient_and_sensitivities(tmp_path):
    trainer = run(tmp_path, sources(), Watched, max_steps=4, max_grad_norm=0.5)
    # Adam's first step is void; two weights in each of the others.
    assert trainer.checked == 6


def test_each_source_has_its_turn_and_its_own_order(tmp_path):
    shown = []

    class Noted(AMFTTrainer):
        def _mix(self, model, known):
            tokens = [batch["input_ids"][:, :2].tolist() for batch in self._supervised._batches]
            shown.append((self._rotation.turn(self.state.global_step), tokens))
            return super()._mix(model, known)

    settings = {"sft_warmup_steps": 1, "max_steps": 5, "per_device_demonstration_batch_size": 8}
    trainer = run(tmp_path, sources(16), Noted, **settings)
    assert [turn for turn, _ in shown] == [0, 1, 0, 1]
    assert trainer.mixing_callback.demonstrations_consumed == 8
    for source in (0, 1):
        prompts = [tuple(p) for turn, batches in shown if turn == source for batch in batches for p in batch]
        # Two steps of eight rows go once through the sixteen rows of a source.
        assert len(prompts) == len(set(prompts)) == 16


def test_a_single_source_is_the_single_weight(tmp_path):
    settings = {"max_steps": 6, "mu_lr": 1.0}
    one = run(tmp_path, sources(64, ("right",)), **settings)
    plain = run(tmp_path, toy.demonstration_set(), mixing_policy="amft", **settings)
    assert toy.losses(one) == toy.losses(plain)
    for name, value in toy.parameters(plain).items():
        assert torch.equal(toy.parameters(one)[name], value), name
    assert one.mixing_weight == plain.mixing_weight


def test_resumed_run_equals_an_uninterrupted_one(tmp_path):
    settings = {"max_steps": 10, "save_strategy": "steps", "save_steps": 5, "mu_lr": 1.0, "sft_warmup_steps": 1}
    whole = run(tmp_path / "whole", sources(), **settings)
    part = run(tmp_path / "part", sources(), checkpoint=str(tmp_path / "whole" / "checkpoint-5"), **settings)
    for name, value in toy.parameters(whole).items():
        assert torch.equal(toy.parameters(part)[name], value), name
    weights = [
        [(row["amft/mu/right"], row["amft/mu/wrong"]) for row in run.state.log_history if "amft/mu/right" in row]
        for run in (whole, part)
    ]
    assert weights[0] == weights[1] and len(set(weights[0])) > 3
    assert json.dumps(part.mixing_policy.state()) == json.dumps(whole.mixing_policy.state())


def test_learns_which_source_to_trust(tmp_path):
    trainer = run(
        tmp_path,
        sources(208),
        reward=toy.reward,
        max_steps=140,
        meta_window=10,
        per_device_train_batch_size=64,
        num_generations=8,
        max_completion_length=2,
        learning_rate=3e-3,
        scale_rewards="none",
    )
    last = [row for row in trainer.state.log_history if "amft/mu/right" in row][-20:]
    right, wrong = (sum(row[f"amft/mu/{name}"] for row in last) / len(last) for name in ("right", "wrong"))
    print(f"mean weight over the last 20 steps: right {right:.3f}, wrong {wrong:.3f}")
    assert wrong < 0.1 and right - wrong > 0.25


@pytest.mark.parametrize("streamed", [False, True])
def test_demonstrations_without_sources_are_refused_in_one_line(tmp_path, streamed):
    demonstrations = toy.demonstration_set()
    with pytest.raises(ValueError, match="needs demonstrations with a column 'demonstration_source', found") as error:
        run(tmp_path, demonstrations.to_iterable_dataset() if streamed else demonstrations)
    assert "\n" not in str(error.value)


def test_held_out_gradients_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="meta_gradient='validation' does not judge single sources: use 'lagged'"):
        toy.config(tmp_path, mixing_policy="amft_sources", meta_gradient="validation")


def test_evidence_of_other_sources_is_dropped_with_one_line(tmp_path, caplog):
    settings = {"save_strategy": "steps", "save_steps": 2}
    run(tmp_path / "one", sources(), max_steps=2, **settings)
    others = Dataset.from_list(
        [{**row, "demonstration_source": row["demonstration_source"] + "?"} for row in sources()]
    )
    checkpoint = str(tmp_path / "one" / "checkpoint-2")
    trainer = run(tmp_path / "two", others, checkpoint=checkpoint, max_steps=4, **settings)
    assert sum("evidence so far is dropped" in record.message for record in caplog.records) == 1
    assert sorted(trainer.mixing_policy.source_weights) == ["right?", "wrong?"]
