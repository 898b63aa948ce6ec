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


def test_metrics_of_rewards_are_documented():
    root = Path(__file__).parents[1]
    page = (root / "docs" / "metrics.md").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in (root / "trl_amft").rglob("*.py"))
    named = set(re.findall(r'"((?:grader|exploration|baseline|domains)/[^"]+)"', source))
    names = {
        re.sub(r"\{.*?name\}|\{self.domain\}", "DOMAIN", name).replace("{function}", "FUNCTION") for name in named
    }
    assert len(names) >= 8 and [name for name in sorted(names) if f"`{name}`" not in page] == []
