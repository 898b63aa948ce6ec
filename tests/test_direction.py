"""The controller tells right demonstrations from wrong ones, from a random start and with no help."""

import pytest

import toy
from trl_amft import AMFTTrainer


STEPS = 110


def final_weight(tmp_path, right: bool, seed: int) -> float:
    """Mean μ over the last fifth of a run without entropy term, prior or warm-up."""
    model, tokenizer = toy.model(seed=seed)
    args = toy.config(
        tmp_path,
        max_steps=STEPS,
        per_device_train_batch_size=64,
        num_generations=8,
        max_completion_length=2,
        learning_rate=3e-3,
        scale_rewards="none",
        mu_entropy_lr=0.0,
        seed=seed,
    )
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=toy.reward,
        args=args,
        train_dataset=toy.prompt_set(208),
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set(right, 208),
    )
    trainer.train()
    weights = [log["amft/mu"] for log in trainer.state.log_history if "amft/mu" in log]
    last = weights[-STEPS // 5 :]
    return sum(last) / len(last)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_right_demonstrations_gain_weight_and_wrong_ones_lose_it(tmp_path, seed):
    right, wrong = final_weight(tmp_path, True, seed), final_weight(tmp_path, False, seed)
    print(f"seed {seed}: mean weight over the last fifth, right {right:.3f}, wrong {wrong:.3f}")
    assert right - wrong >= 0.3
    assert wrong <= 0.1
