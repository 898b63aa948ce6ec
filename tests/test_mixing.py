"""The law of μ with hand numbers, and the controller driven without a trainer."""

import json
import math

import pytest
from transformers import TrainerState

import toy
from trl_amft import MixingWeightCallback
from trl_amft.meta_window import MetaGradient
from trl_amft.mixing import MixingSignals
from trl_amft.mixing.amft import MetaGradientNormalizer, evidence, next_weight


def signals(value=None, entropy=None, t_value=None, **kwargs):
    sure = 0.0 if value is None else math.copysign(9.0, value)
    t_value = sure if t_value is None else t_value
    gradient = None if value is None else MetaGradient(value=value, cosine=value / 10, t_value=t_value)
    return MixingSignals(step=0, entropy=entropy, meta_gradient=gradient, **kwargs)


def callback(tmp_path, **overrides):
    settings = {"meta_window": 1, "mu_lr": 0.1, "mu_max": 1.0}
    return MixingWeightCallback(toy.config(tmp_path, **{**settings, **overrides}))


@pytest.mark.parametrize(
    ("mu", "gradient", "gap", "expected"),
    [
        (0.5, 0.2, 0.0, 0.52),
        (0.5, -0.2, 0.0, 0.48),  # imitation that lowers the reward must lose weight
        (0.5, 0.0, 2.0, 0.502),  # entropy below target: more imitation
        (0.5, 0.0, -2.0, 0.498),
        (0.5, 9.0, 0.0, 0.9),
        (0.5, -9.0, 0.0, 0.1),
    ],
)
def test_law(mu, gradient, gap, expected):
    assert next_weight(mu, gradient, gap, 0.1, 0.001, 0.1, 0.9) == pytest.approx(expected)


def test_rms_normalization_by_hand():
    normalize = MetaGradientNormalizer("rms", momentum=0.0, variance_decay=0.5)
    assert normalize(4.0) == pytest.approx(1.0)
    # Second moment: (.5·.5·16 + .5·4) / (1 − .25) = 8.
    assert normalize(-2.0) == pytest.approx(-2.0 / math.sqrt(8.0))
    # A long silence, then a large value: clipped to 1.
    for _ in range(20):
        normalize(0.001)
    assert normalize(10.0) == 1.0


def test_momentum_by_hand():
    normalize = MetaGradientNormalizer("none", momentum=0.5, variance_decay=0.9)
    assert normalize(4.0) == pytest.approx(4.0)
    assert normalize(1.0) == pytest.approx((0.5 * 0.5 * 4.0 + 0.5 * 1.0) / 0.75)


@pytest.mark.parametrize(
    ("value", "t_value", "expected"),
    [
        (0.3, 1.0, 0.5),
        (-0.3, -1.0, 0.5),
        (0.3, 7.0, 1.0),
        (0.3, -1.0, 0.0),  # the last windows together say the opposite
        (-0.3, 5.0, 0.0),
        (0.3, math.nan, 0.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_evidence(value, t_value, expected):
    assert evidence(value, t_value) == expected


def test_the_step_is_weighed_by_its_evidence(tmp_path):
    assert callback(tmp_path).update(signals(1.0, t_value=1.0)) == pytest.approx(0.55)
    assert callback(tmp_path).update(signals(1.0, t_value=math.nan)) == 0.5
    assert callback(tmp_path, meta_normalization="cosine").update(signals(1.0, t_value=0.0)) == pytest.approx(0.51)


def test_with_momentum_the_evidence_is_that_of_the_running_mean(tmp_path):
    controller = callback(tmp_path, meta_momentum=0.9, mu_lr=0.01)
    for _ in range(20):
        before = controller.update(signals(-1.0, t_value=-3.0))
    # The mean still says down, the last windows together up.
    assert controller.update(signals(1.0, t_value=3.0)) == before
    assert controller.update(signals(1.0, t_value=-3.0)) < before


def test_scale_of_the_model_does_not_matter_but_for_the_raw_form(tmp_path):
    def trajectory(scale, normalization):
        controller = callback(tmp_path, meta_normalization=normalization)
        return [controller.update(signals(scale * v, learning_rate=1e-3)) for v in (1.0, -2.0, 0.5)]

    assert trajectory(1.0, "rms") == pytest.approx(trajectory(1e-6, "rms"))
    assert trajectory(1.0, "none") == pytest.approx([0.5001, 0.4999, 0.49995])
    assert trajectory(1.0, "cosine") == pytest.approx([0.51, 0.49, 0.495])


def test_window_divides_the_step(tmp_path):
    assert callback(tmp_path, meta_window=10).update(signals(3.0)) == pytest.approx(0.51)


def test_entropy_term_measures_its_target_first(tmp_path):
    controller = callback(tmp_path, mu_entropy_lr=0.1)
    assert controller.update(signals(entropy=2.0)) == 0.5
    assert controller.update(signals(entropy=1.0)) == pytest.approx(0.6)
    assert controller.update(signals(entropy=3.0)) == pytest.approx(0.5)
    given = callback(tmp_path, mu_entropy_lr=0.1, mu_entropy_target=1.5)
    assert given.update(signals(entropy=1.0)) == pytest.approx(0.55)


def test_no_evidence_leaves_the_moments_alone(tmp_path):
    controller = callback(tmp_path)
    controller.update(signals(1.0))
    before = controller.policy.state()
    controller.update(signals(None, entropy=1.0))
    after = controller.policy.state()
    assert {k: after[k] for k in ("mu", "first_moment", "second_moment", "moment_count")} == {
        k: before[k] for k in ("mu", "first_moment", "second_moment", "moment_count")
    }
    assert after["skipped"] == before["skipped"] + 1


@pytest.mark.parametrize(
    "bad",
    [
        signals(math.nan, entropy=1.0),
        signals(math.inf, entropy=1.0),
        signals(1.0, entropy=math.nan),
        signals(1.0, entropy=1.0, rl_grad_norm=math.nan),
        signals(1.0, entropy=1.0, sft_grad_norm=math.inf),
    ],
)
def test_non_finite_numbers_skip_the_update(tmp_path, bad):
    controller = callback(tmp_path, mu_entropy_lr=0.1)
    controller.update(signals(1.0, entropy=2.0))
    before = controller.policy.state()
    assert controller.update(bad) == before["mu"]
    after = controller.policy.state()
    assert after == {**before, "skipped": before["skipped"] + 1}
    assert math.isfinite(controller.update(signals(1.0, entropy=2.0)))


def test_bounds_are_reached_and_told(tmp_path):
    controller = callback(tmp_path, mu_lr=1.0, mu_min=0.1, mu_max=0.9)
    assert controller.update(signals(5.0)) == 0.9
    assert controller.policy.metrics()["at_bound"] == 1.0
    controller.update(signals(-1.0))
    assert controller.policy.metrics()["at_bound"] == 0.0


def test_rate_zero_measures_without_moving(tmp_path):
    controller = callback(tmp_path, mu_lr=0.0)
    for value in (1.0, -3.0, 2.0):
        assert controller.update(signals(value)) == 0.5
    assert controller.policy.metrics()["meta_updates"] == 3.0


def test_state_survives_json_and_a_new_object(tmp_path):
    args = toy.config(tmp_path, meta_window=1)
    first = MixingWeightCallback(args)
    for value in (1.0, -0.5, 0.2):
        first.update(signals(value, entropy=1.0))
    first.demonstrations_consumed, first.pending = 96, MetaGradient(0.1, 0.2, math.nan)
    state = TrainerState(stateful_callbacks=[first], global_step=3)
    path = tmp_path / "trainer_state.json"
    state.save_to_json(path)

    by_default = MixingWeightCallback(args)
    by_default.on_train_begin(args, TrainerState.load_from_json(path), None)
    stored = json.loads(path.read_text())["stateful_callbacks"]["MixingWeightCallback"]
    new_object = MixingWeightCallback.from_state(stored)  # what transformers does when asked to restore callbacks
    new_object.on_train_begin(args, TrainerState(global_step=3), None)
    for restored in (by_default, new_object):
        assert restored.policy.state() == first.policy.state()
        assert restored.mu == first.mu and restored.demonstrations_consumed == 96
        assert restored.pending.value == 0.1
        assert restored.update(signals(0.7, entropy=0.9)) == MixingWeightCallback.update(
            _copy(first, args), signals(0.7, entropy=0.9)
        )


def _copy(original, args):
    copy = MixingWeightCallback(args)
    copy.policy.load_state(original.policy.state())
    return copy


def test_checkpoint_of_another_trainer_warns_and_starts_fresh(tmp_path, caplog):
    args = toy.config(tmp_path)
    controller = MixingWeightCallback(args)
    state = TrainerState(global_step=7)
    controller.on_train_begin(args, state, None)
    assert controller.mu == 0.5
    assert "holds no state" in caplog.text
    assert "MixingWeightCallback" in state.stateful_callbacks


def test_fixed_ignores_the_bounds_and_knows_its_weight(tmp_path):
    controller = callback(tmp_path, mixing_policy="fixed", mu_init=0.02, mu_min=0.3)
    assert [controller.known_weight(step, warmup_steps=2) for step in range(4)] == [1.0, 1.0, 0.02, 0.02]


def test_replay_repeats_a_trajectory(tmp_path):
    logs = [{"step": 1, "amft/mu": 0.5}, {"step": 1, "eval_reward": 1.0}, {"step": 2, "amft/mu": 0.4}]
    logs.append({"step": 4, "amft/mu": 0.1})
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": logs}))
    controller = callback(tmp_path, mixing_policy="replay", mixing_policy_kwargs={"path": str(path)})
    assert [controller.known_weight(step, 0) for step in range(6)] == [0.5, 0.4, 0.1, 0.1, 0.1, 0.1]
    path.write_text(json.dumps(logs))
    assert (
        callback(tmp_path, mixing_policy="replay", mixing_policy_kwargs={"path": str(path)}).known_weight(0, 0) == 0.5
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no file"),
        ("{}", "holds no list"),
        ('[{"step": 1}]', "no entry `amft/mu`"),
        ("[", "holds no list"),
        (
            '[{"step": 1, "amft/mu": 0.5}, {"step": 2, "amft/mu": 50}]',
            r"amft/mu=50.0 at step 2; give weights in \[0, 1",
        ),
        ('[{"step": 1, "amft/mu": NaN}]', "amft/mu=nan at step 1"),
    ],
)
def test_replay_without_a_trajectory_is_one_line(tmp_path, content, message):
    path = tmp_path / "log.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        callback(tmp_path, mixing_policy="replay", mixing_policy_kwargs={"path": str(path)})
    assert "\n" not in str(error.value)
