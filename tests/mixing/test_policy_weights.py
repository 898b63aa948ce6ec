"""What each policy answers on a scripted input, against numbers worked out by hand."""

import math

import pytest
import torch

import toy
from trl_amft.gradient_moments import GradientMoments, GradientVariances
from trl_amft.losses import sft_loss, token_entropies
from trl_amft.meta_window import MetaGradient
from trl_amft.mixing import (
    MIXING_POLICIES,
    PAPER_SETTINGS,
    DemonstrationBatch,
    GroupBatch,
    MixingSignals,
    RolloutBatch,
)


NAN = math.nan


def policy(tmp_path, name, options=None, **overrides):
    args = toy.config(tmp_path, mixing_policy=name, mixing_policy_kwargs=options, **overrides)
    return MIXING_POLICIES[name](args)


def groups(rewards, demonstrated=None, demonstration_rewards=None):
    rewards = torch.tensor(rewards)
    count = len(rewards)
    varies = rewards.nan_to_num(-9.0).amax(1) > rewards.nan_to_num(9.0).amin(1)
    return GroupBatch(
        rewards=rewards,
        varies=varies,
        demonstrated=torch.tensor(demonstrated or [True] * count),
        demonstration_rewards=torch.tensor(demonstration_rewards or [NAN] * count),
    )


class TestSchedules:
    def weights(self, tmp_path, name, options, steps, **overrides):
        schedule = policy(tmp_path, name, options, **overrides)
        return [schedule.known_weight(step) for step in steps]

    def test_linear(self, tmp_path):
        options = {"start": 0.8, "end": 0.2, "steps": 4}
        found = self.weights(tmp_path, "linear", options, range(2, 9), sft_warmup_steps=2, max_steps=10)
        assert found == pytest.approx([0.8, 0.65, 0.5, 0.35, 0.2, 0.2, 0.2])

    def test_cosine(self, tmp_path):
        found = self.weights(tmp_path, "cosine", {"start": 1.0, "end": 0.0, "steps": 4}, range(6))
        half = math.sqrt(0.5) / 2
        assert found == pytest.approx([1.0, 0.5 + half, 0.5, 0.5 - half, 0.0, 0.0])

    @pytest.mark.parametrize("name", ["linear", "cosine"])
    def test_length_of_the_run_after_the_warm_up(self, tmp_path, name):
        found = self.weights(tmp_path, name, None, (10, 30, 50), sft_warmup_steps=10, max_steps=50)
        assert found == pytest.approx([0.9, 0.475, 0.05])

    def test_chord_mu_is_the_published_schedule(self, tmp_path):
        found = self.weights(tmp_path, "chord_mu", None, (0, 50, 100, 150, 200, 300), max_steps=400)
        published = [0.05 + 0.85 * 0.5 * (1 + math.cos(math.pi * step / 200)) for step in (0, 50, 100, 150)]
        assert found == pytest.approx([*published, 0.05, 0.05])
        assert found[:3:2] == pytest.approx([0.9, 0.475])

    def test_chord_mu_with_a_rise(self, tmp_path):
        options = {"warmup_steps": 4, "decay_steps": 3, "peak": 0.8, "valley": 0.2}
        found = self.weights(tmp_path, "chord_mu", options, range(8))
        assert found == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.65, 0.35, 0.2])

    def test_two_stages(self, tmp_path):
        stages = policy(tmp_path, "sft_then_rl", sft_warmup_steps=2)
        assert [stages.known_weight(step) for step in (2, 3)] == [0.0, 0.0]


class TestTokenWeights:
    def test_chord_phi(self, tmp_path):
        probabilities = torch.tensor([[0.5, 0.9, 1.0]])
        batch = DemonstrationBatch(probabilities.log(), torch.ones(1, 3, dtype=torch.bool))
        chord = policy(tmp_path, "chord_phi")
        assert chord.known_weight(0) == 0.1
        assert chord.demonstration_weights(batch)[0].tolist() == pytest.approx([0.25, 0.09, 0.0], abs=1e-7)

    def test_srft(self, tmp_path):
        srft = policy(tmp_path, "srft")
        mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
        entropies = torch.tensor([[1.0, 2.0, NAN], [0.5, 9.0, 9.0], [0.0, 0.0, 0.0]])
        batch = DemonstrationBatch(torch.zeros(3, 3), mask.bool(), entropies)
        expected = [2 * 0.5 * math.exp(-entropy) for entropy in (1.5, 0.5, 0.0)]
        assert srft.demonstration_weights(batch)[:, 0].tolist() == pytest.approx(expected)
        rollouts = RolloutBatch(torch.tensor([2.0, -1.0, 0.0]), mask, entropies)
        assert srft.advantage_weights(rollouts).tolist() == pytest.approx([2 * 0.1 * math.exp(1.5), 2.0, 2.0])
        assert srft.global_weight(MixingSignals(step=0)) == 0.5

    def test_entropy_of_a_known_distribution(self):
        logits = torch.tensor([[[0.0, 0.0], [math.log(3.0), 0.0]]])
        expected = [math.log(2.0), -0.75 * math.log(0.75) - 0.25 * math.log(0.25)]
        assert token_entropies(logits)[0].tolist() == pytest.approx(expected)


class TestGates:
    REWARDS = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.2, 0.0], [0.0, 0.0]]
    DEMONSTRATED = [True, True, True, True, False]

    def test_gate(self, tmp_path):
        batch = groups(self.REWARDS, self.DEMONSTRATED)
        assert policy(tmp_path, "gate").chosen(batch).tolist() == [True, False, False, True, False]
        assert policy(tmp_path, "gate", {"gate": 1}).chosen(batch).tolist() == [True, True, False, True, False]
        low = policy(tmp_path, "gate", {"pass_reward": 0.2})
        assert low.chosen(batch).tolist() == [True, False, False, False, False]

    def test_dead_group_leaves_partial_credit_to_grpo(self, tmp_path):
        batch = groups(self.REWARDS, self.DEMONSTRATED)
        assert policy(tmp_path, "dead_group").chosen(batch).tolist() == [True, False, False, False, False]

    def test_a_rollout_without_reward_is_not_solved(self, tmp_path):
        assert policy(tmp_path, "gate").chosen(groups([[NAN, 0.0], [NAN, 1.0]])).tolist() == [True, False]

    @pytest.mark.parametrize("name", ["gate", "dead_group"])
    @pytest.mark.parametrize(
        ("share", "expected"), [(0.0, [1.0, 1.0]), (0.25, [0.0, 4 / 3]), (0.5, [0.0, 2.0]), (1.0, [0.0, 0.0])]
    )
    def test_weights(self, tmp_path, name, share, expected):
        gate = policy(tmp_path, name)
        chosen = torch.tensor([share > 0.0, share == 1.0])
        rollouts = RolloutBatch(torch.ones(2), torch.ones(2, 1), chosen=chosen, chosen_share=share)
        assert gate.advantage_weights(rollouts).tolist() == pytest.approx(expected)
        assert gate.global_weight(MixingSignals(step=0, chosen_share=share)) == share


class TestLuffy:
    def test_joint_advantages(self, tmp_path):
        luffy = policy(tmp_path, "luffy")
        rollouts = RolloutBatch(
            advantages=torch.full((5,), 9.0),
            mask=torch.ones(5, 1),
            rewards=torch.tensor([0.0, 1.0, 0.0, 1.0, NAN]),
            group_means=torch.tensor([0.0, 1.0, 0.5, 0.5, 0.5]),
            demonstration_rewards=torch.tensor([1.0, 0.0, NAN, 1.0, 1.0]),
            group_sizes=torch.tensor([7.0, 7.0, 7.0, 7.0, 7.0]),
        )
        # The mean of 7 rollouts and the demonstration: 1/8, 7/8, without one 1/2, (3.5 + 1) / 8.
        expected = [-1 / 8, 1 / 8, -1 / 2, 1 - 4.5 / 8, 0.0]
        assert luffy.advantages(rollouts).tolist() == pytest.approx(expected)

    def test_shaping_is_the_derivative_of_the_shaped_probability(self, tmp_path):
        luffy = policy(tmp_path, "luffy", {"gamma": 0.1})
        log_probs = torch.tensor([[0.9, 0.1, 1e-4]]).log().requires_grad_()
        (-0.5 * (log_probs.exp() / (log_probs.exp() + 0.1))).sum().backward()
        batch = DemonstrationBatch(log_probs.detach(), torch.ones(1, 3), None, torch.tensor([0.5]))
        weights = luffy.demonstration_weights(batch)
        # The loss is the weight times −log p.
        torch.testing.assert_close(-weights, log_probs.grad)
        assert weights[0, 1].item() == pytest.approx(0.5 * 0.25)

    def test_share_of_tokens(self, tmp_path):
        luffy = policy(tmp_path, "luffy")
        signals = MixingSignals(step=0, rollout_tokens=300, demonstration_tokens=100)
        assert luffy.global_weight(signals) == 0.25
        assert luffy.global_weight(MixingSignals(step=0)) == 0.0

    def test_only_demonstrations_with_a_reward_join(self, tmp_path):
        batch = groups([[0.0, 1.0]] * 3, [True, True, False], [1.0, NAN, NAN])
        assert policy(tmp_path, "luffy").chosen(batch).tolist() == [True, False, False]


class TestGradients:
    def norms(self, rl, sft):
        return MixingSignals(step=0, rl_grad_norm=rl, sft_grad_norm=sft)

    def test_grad_norm(self, tmp_path):
        balance = policy(tmp_path, "grad_norm")
        script = [(1.0, 3.0), (0.0, 0.0), (3.0, 1.0), (0.0, 1.0), (9.0, 0.0), (NAN, 1.0)]
        found = [balance.global_weight(self.norms(*pair)) for pair in script]
        assert found == pytest.approx([0.25, 0.25, 0.75, 0.0, 0.95, 0.95])
        assert policy(tmp_path, "grad_norm").global_weight(self.norms(0.0, 0.0)) == 0.5
        twice = policy(tmp_path, "grad_norm", {"ratio": 2.0})
        mu = twice.global_weight(self.norms(1.0, 3.0))
        assert mu * 3.0 == pytest.approx(2.0 * (1 - mu) * 1.0)

    def test_variance(self, tmp_path):
        mixture = policy(tmp_path, "variance", mu_init=0.3)
        assert mixture.global_weight(MixingSignals(step=0)) == 0.3
        found = GradientVariances(rl=2.0, sft=1.0, disagreement=1.0)
        assert mixture.global_weight(MixingSignals(step=1, variances=found)) == 0.5
        assert mixture.global_weight(MixingSignals(step=2, variances=GradientVariances(0.0, 0.0, 0.0))) == 0.5

    def test_moments_by_hand(self):
        moments = GradientMoments(decay=0.5)
        assert moments.add(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])) is None
        # Weights 1/3 and 2/3, c = 5/9. RL: mean (1, 4/3), E‖g‖² = 1/3 + 2/3 · 5 = 11/3, ‖ḡ‖² = 25/9.
        found = moments.add(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 3.0]))
        assert found.rl == pytest.approx((11 / 3 - 25 / 9) / (4 / 9))
        # SFT: mean (0, 2), E‖g‖² = 6, ‖ḡ‖² = 4.
        assert found.sft == pytest.approx(2 / (4 / 9))
        gap = 1.0 + (2 - 4 / 3) ** 2
        assert found.disagreement == pytest.approx(max(gap - 5 / 9 * (found.rl + found.sft), 0.0))

    def test_moments_are_unbiased(self):
        generator = torch.Generator().manual_seed(0)
        found = []
        for _ in range(200):
            moments = GradientMoments(decay=0.8)
            for _ in range(12):
                rl = 1.0 + 0.5 * torch.randn(50, generator=generator)
                estimate = moments.add(rl, 2.0 + 1.0 * torch.randn(50, generator=generator))
            found.append((estimate.rl, estimate.sft, estimate.disagreement))
        rl, sft, gap = torch.tensor(found).mean(dim=0).tolist()
        assert rl == pytest.approx(50 * 0.25, rel=0.05)
        assert sft == pytest.approx(50 * 1.0, rel=0.05)
        assert gap == pytest.approx(50 * 1.0, rel=0.05)

    def test_moments_survive_saving(self):
        first, second = GradientMoments(0.9), GradientMoments(0.9)
        for _ in range(3):
            first.add(torch.rand(4), torch.rand(4))
        second.load_state_dict(first.state_dict())
        new = torch.rand(2, 4)
        assert first.add(*new) == second.add(*new)
        first.add(torch.full((4,), NAN), torch.rand(4))
        assert first.estimate() == second.estimate()
        with pytest.raises(ValueError, match="another kind of evidence"):
            second.load_state_dict({"products": torch.zeros(1)})


class TestPaper:
    def test_constants(self, tmp_path):
        args = toy.config(tmp_path, mixing_policy="amft_paper")
        assert {name: getattr(args, name) for name in PAPER_SETTINGS} == PAPER_SETTINGS
        assert args.needs_validation

    def test_law(self, tmp_path):

        paper = policy(tmp_path, "amft_paper")
        assert paper.global_weight(MixingSignals(step=0, entropy=2.0, learning_rate=1e-6)) == 0.5
        gradient = MetaGradient(value=3.0, cosine=0.1, t_value=NAN)
        found = paper.global_weight(MixingSignals(step=1, entropy=1.0, meta_gradient=gradient, learning_rate=0.1))
        assert found == pytest.approx(0.5 + 1e-4 * 0.3 + 5e-4 * 1.0)

    def test_another_value_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="mu_lr=0.3 contradicts mixing_policy='amft_paper'.*0.0001") as error:
            toy.config(tmp_path, mixing_policy="amft_paper", mu_lr=0.3)
        assert "\n" not in str(error.value)


class TestOptions:
    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("linear", {"begin": 1.0}, "unknown key 'begin' for mixing_policy='linear'; it takes start, end, steps"),
            ("linear", {"start": 1.5}, r"start=1.5 is not usable: give a number in \[0, 1\]"),
            ("chord_mu", {"decay_steps": 0.5}, r"decay_steps=0.5 is not usable: give an integer in \[1, inf\)"),
            ("gate", {"gate": True}, r"gate=True is not usable: give an integer in \[0, inf\)"),
            ("grad_norm", {"ratio": NAN}, "ratio=nan is not usable"),
            ("variance", {"decay": 0.0}, "decay=0.0 is not usable"),
            ("fixed", {"mu": 0.5}, "it takes none"),
        ],
    )
    def test_are_checked_in_one_line(self, tmp_path, name, options, message):
        with pytest.raises(ValueError, match=message) as error:
            toy.config(tmp_path, mixing_policy=name, mixing_policy_kwargs=options)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("name", ["linear", "cosine"])
    def test_a_schedule_must_know_its_length(self, tmp_path, name):
        with pytest.raises(ValueError, match="must know its length, but max_steps=-1"):
            toy.config(tmp_path, mixing_policy=name, max_steps=-1)
        toy.config(tmp_path, mixing_policy=name, max_steps=-1, mixing_policy_kwargs={"steps": 5})

    def test_two_stages_need_a_first_one(self, tmp_path):
        with pytest.raises(ValueError, match="sft_warmup_steps=0 has no first stage"):
            toy.config(tmp_path, mixing_policy="sft_then_rl")

    @pytest.mark.parametrize("name", ["grad_norm", "variance"])
    def test_bounds_hold(self, tmp_path, name):
        with pytest.raises(ValueError, match="mu_init=0.5 is outside"):
            toy.config(tmp_path, mixing_policy=name, mu_min=0.6)

    def test_every_policy_tells_formula_and_source(self):
        for name, kind in MIXING_POLICIES.items():
            text = kind.__doc__
            assert name == "replay" or "Source" in text, name
            assert all(f"{option} (`" in text or name in ("linear", "cosine") for option in kind.keywords), name


def test_weights_are_constants_of_the_loss():
    """A policy whose weight depends on the model through its graph must not leak a gradient."""

    logits = torch.randn(1, 4, 5, requires_grad=True)
    labels = torch.tensor([[-100, 1, 2, 3]])
    weight = logits.detach()[:, :-1].log_softmax(-1).exp().amax(-1)
    leaky = lambda *_: logits[:, :-1].softmax(-1).amax(-1)  # noqa: E731
    sft_loss(logits, labels, token_weights=leaky).loss.backward()
    leaked, logits.grad = logits.grad, None
    nll = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="none")
    (nll * weight[0]).sum().backward()
    torch.testing.assert_close(leaked, logits.grad)
