"""The validation form of the utility: its gradient is that of the reward, and training does not notice it."""

import pytest
import torch
from datasets import Dataset

import toy
from trl_amft import AMFTTrainer


HELD_OUT = Dataset.from_dict({"prompt": [f"{digit}z:" for digit in range(8)]})


class CapturingTrainer(AMFTTrainer):
    """Keeps the rollouts and the gradient of each validation, and Adam's state before the step that it judges."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.validations = []

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        if self.step_algebra is not None and inputs[0]["prompt"].endswith("z:"):
            self.validations.append((dict(output.items()), toy.parameters(self)))
        return output


def run(tmp_path, cls=CapturingTrainer, **overrides):
    settings = {"max_steps": 6, "meta_window": 1, "meta_gradient": "validation", "meta_interval": 2, **overrides}
    return toy.train(cls, toy.config(tmp_path, **settings), validation_dataset=HELD_OUT)


def logs(trainer, drop=()):
    return [
        {k: v for k, v in log.items() if not k.startswith(("amft/", "train_")) and k not in ("step_time", *drop)}
        for log in trainer.state.log_history
        if "loss" in log
    ]


def test_training_does_not_notice_it(tmp_path):
    # With η_μ = 0 the validations can change nothing; everything else must be as in a run without them.
    measured = run(tmp_path / "a", mu_lr=0.0, temperature=0.9)
    plain = run(tmp_path / "b", cls=AMFTTrainer, mu_lr=0.0, temperature=0.9, meta_interval=1000)
    assert measured.mixing_callback.policy.updates == 2 and plain.mixing_callback.policy.updates == 0
    assert logs(measured) == logs(plain)
    for name, value in toy.parameters(plain).items():
        assert torch.equal(toy.parameters(measured)[name], value), name


@pytest.mark.parametrize("batch", [None, 4])
def test_value_is_that_of_the_policy_gradient(tmp_path, batch):
    """−⟨g, q⟩ with g from autograd on the captured rollouts, q from the stored history."""
    trainer = run(tmp_path, meta_batch_size=batch, temperature=0.7, mu_lr=0.0)
    evaluations = {log["step"]: log for log in trainer.state.log_history if "amft/meta_gradient" in log}
    # The estimate of the validation after step 4 is used, and logged, in step 5; after step 6 none follows.
    assert sorted(evaluations) == [3, 5]
    prompts = trainer.args.per_device_train_batch_size // trainer.args.num_generations if batch is None else batch
    inputs, parameters = trainer.validations[-1]
    assert inputs["completion_ids"].size(0) == prompts * trainer.args.num_generations
    model, _ = toy.model()
    model.load_state_dict({**parameters, "lm_head.weight": parameters["model.embed_tokens.weight"]})
    total, count = 0.0, inputs["completion_ids"].size(0)
    for row in range(count):
        ids = torch.cat([inputs["prompt_ids"][row], inputs["completion_ids"][row]])[None]
        mask = torch.cat([inputs["prompt_mask"][row], inputs["completion_mask"][row]])[None]
        length = inputs["completion_ids"].size(1)
        logits = model(input_ids=ids, attention_mask=mask).logits[0, -length - 1 : -1] / 0.7
        log_probs = logits.log_softmax(-1).gather(1, inputs["completion_ids"][row][:, None])[:, 0]
        # The group mean without the completion itself as baseline.
        advantage = inputs["advantages"][row] * 4 / 3
        total = total - advantage * (log_probs * inputs["completion_mask"][row]).sum() / count
    total.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    # The last judged sensitivity is that of step index 5; the window keeps exactly it.
    sensitivity = trainer.window.state_dict()["sketches"][0]
    expected = -gradient.dot(sensitivity).item()
    assert trainer.mixing_callback.pending.value == pytest.approx(expected, rel=1e-3)


def test_advantages_have_a_mean_of_zero_and_no_scaling(tmp_path):
    trainer = run(tmp_path, scale_rewards="group")
    for inputs, _ in trainer.validations:
        groups = inputs["advantages"].view(-1, 4)
        assert groups.mean(1).abs().max() < 1e-6
        assert groups.abs().max() < 1.0, "rewards lie in [0, 1), so advantages without scaling do too"
    assert trainer.scale_rewards == "group"


class TrainerOfAnotherEngine(CapturingTrainer):
    """Whose validation rollouts the model itself would never have written."""

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        if not inputs[0]["prompt"].endswith("z:"):
            return output
        return {**output, "importance_sampling_ratio": torch.zeros(len(output["advantages"]), 1)}


def test_importance_weights_of_the_loss_count_in_the_utility(tmp_path):
    assert run(tmp_path / "own").mixing_callback.pending.value != 0.0
    assert run(tmp_path / "other", TrainerOfAnotherEngine).mixing_callback.pending.value == 0.0


def test_validation_starts_after_the_warmup(tmp_path):
    trainer = run(tmp_path, sft_warmup_steps=3, max_steps=7)
    assert len(trainer.validations) == 2
