"""The documented metrics are the logged ones."""

import re
from pathlib import Path

import toy
from trl_amft import AMFTTrainer


def test_documented_metrics_are_the_logged_ones(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`((?:amft|demonstrations)/\w+)`", page))
    model, tokenizer = toy.model()
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=toy.config(tmp_path, max_steps=8, meta_window=1, sft_warmup_steps=1),
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set(),
    )
    trainer.train()
    logged = {name for log in trainer.state.log_history for name in log if re.match("(amft|demonstrations)/", name)}
    assert logged == documented
    last = [log for log in trainer.state.log_history if "amft/mu" in log][-1]
    mu = last["amft/mu"]
    mixed = (1 - mu) * last["amft/rl_loss"] + mu * last["amft/sft_loss"]
    assert abs(last["loss"] - mixed) < 1e-5


def test_steps_without_a_demonstration_are_no_part_of_a_mean(tmp_path):
    """With every third prompt demonstrated, some steps of a gate have no token."""
    runs = {}
    for every in (1, 4):
        model, tokenizer = toy.model()
        trainer = AMFTTrainer(
            model=model,
            reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
            args=toy.config(tmp_path, mixing_policy="gate", max_steps=8, logging_steps=every),
            train_dataset=toy.paired_set(every=3),
            processing_class=tokenizer,
        )
        trainer.train()
        runs[every] = [log for log in trainer.state.log_history if "amft/mu" in log]
    names = ("amft/sft_loss", "amft/token_weight", "amft/sft_token_accuracy")
    empty = [log["demonstrations/tokens"] == 0.0 for log in runs[1]]
    assert any(empty) and not all(empty)
    for name in names:
        assert [log[name] is None for log in runs[1]] == empty
    for number, log in enumerate(runs[4]):
        part = [row for row in runs[1][4 * number : 4 * number + 4] if row["demonstrations/tokens"] > 0.0]
        assert abs(log["amft/sft_loss"] - sum(row["amft/sft_loss"] for row in part) / len(part)) < 1e-6
        assert log["amft/token_weight"] == 1.0


def test_metrics_of_rewards_are_documented():
    root = Path(__file__).parents[1]
    page = (root / "docs" / "metrics.md").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in (root / "trl_amft").rglob("*.py"))
    named = set(re.findall(r'"((?:grader|exploration|baseline|domains)/[^"]+)"', source))
    names = {
        re.sub(r"\{.*?name\}|\{self.domain\}", "DOMAIN", name).replace("{function}", "FUNCTION") for name in named
    }
    assert len(names) >= 8 and [name for name in sorted(names) if f"`{name}`" not in page] == []
