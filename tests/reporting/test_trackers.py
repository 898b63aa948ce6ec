"""Trackers get what the log holds, under the same names: TensorBoard for all of them, which needs no network."""

import math

import pytest

import toy
from trl_amft import AMFTTrainer
from trl_amft.reporting.watch import watch


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """Log rows of training steps, and what TensorBoard read of them: step and value by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path_factory.mktemp("tracked")
    model, tokenizer = toy.model()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TENSORBOARD_LOGGING_DIR", str(folder / "events"))
        trainer = AMFTTrainer(
            model=model,
            reward_funcs=toy.dense_reward,
            args=toy.config(folder, max_steps=8, sft_warmup_steps=1, meta_window=1, report_to="tensorboard"),
            train_dataset=toy.prompt_set(),
            processing_class=tokenizer,
            demonstration_dataset=toy.demonstration_set(),
        )
        watch(trainer)
        trainer.train()
    events: dict[str, dict[int, float]] = {}
    for file in (folder / "events").rglob("events.*"):
        reader = EventAccumulator(str(file))
        reader.Reload()
        for name in reader.Tags()["scalars"]:
            events.setdefault(name, {}).update({event.step: event.value for event in reader.Scalars(name)})
    return [row for row in trainer.state.log_history if "learning_rate" in row], events


def test_every_metric_of_the_log_is_there(tracked):
    rows, events = tracked
    logged = {name for row in rows for name, value in row.items() if name != "step" and value is not None}
    assert {f"train/{name}" for name in logged} <= set(events)
    for part in ("amft/mu", "amft/meta_gradient_snr", "demonstrations/epoch", "time/rollouts", "reward"):
        assert f"train/{part}" in events


def test_with_the_same_values_at_the_same_steps(tracked):
    rows, events = tracked
    compared = 0
    for row in rows:
        for name in ("amft/mu", "amft/sft_loss", "amft/rl_loss", "reward", "loss", "time/step"):
            if isinstance(row.get(name), float) and math.isfinite(row[name]):
                assert events[f"train/{name}"][row["step"]] == pytest.approx(row[name], rel=1e-5, abs=1e-7)
                compared += 1
    assert compared > 40
