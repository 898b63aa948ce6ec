"""Folders of runs as the tests of the report need them: finished, under way, dead, and of other people's scripts."""

import json
from pathlib import Path

import yaml


HEAD = {"max_steps": 40, "processes": 1}
HOSTILE = "<script>alert(1)</script><img src=http://example.org/x.png>"


def rows(steps: int = 40, warmup: int = 10) -> list[dict]:
    """A log with every quantity that a report draws."""
    log: list[dict] = [{"step": 0, "held_out/accuracy": 0.0, "held_out/standard_error": None}]
    for step in range(5, steps + 1, 5):
        row = {
            "step": step,
            "loss": 1.0,
            "learning_rate": 1e-3,
            "grad_norm": 1.0,
            "amft/mu": 1.0,
            "amft/sft_loss": 3.0 - step / 20,
            "amft/sft_token_accuracy": step / 50,
            "demonstrations/tokens": 100.0,
            "demonstrations/epoch": step / 10,
            "time/step": 2.0,
            "time/sft": 1.0,
            "time/optimizer": 1.0,
        }
        if step > warmup:
            row |= {
                "amft/mu": 0.5 - step / 100,
                "amft/mu/first": 0.3,
                "amft/mu/second": 0.2 - step / 100,
                "amft/rl_loss": 0.01,
                "amft/rl_grad_norm": 0.1,
                "amft/sft_grad_norm": 1.0,
                "amft/grad_cosine": -0.1,
                "amft/effective_sft_ratio": 2.0,
                "amft/meta_gradient": 1e-6,
                "amft/meta_gradient_cosine": 0.01,
                "amft/meta_gradient_snr": float("nan") if step < 20 else 1.5,
                "amft/entropy_gap": -0.2,
                "entropy": 1.2,
                "reward": step / 100,
                "reward_std": 0.3,
                "frac_reward_zero_std": 0.4,
                "completions/mean_length": 12.0,
                "completions/clipped_ratio": 0.1,
                "num_tokens": 100.0 * (step - warmup),
                "time/rollouts": 0.5,
            }
        log.append(row)
    log += [{"step": 20, "eval_reward": 0.1}, {"step": 40, "eval_reward": 0.2}]
    log += [{"step": 10, "held_out/accuracy": 0.1, "held_out/standard_error": 0.02, "held_out/num_problems": 50}]
    return [row for row in log if row["step"] <= steps]


def write_lines(path: Path, lines: list[dict], end: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + end)


def run_folder(folder: Path, steps: int = 40, **recipe) -> Path:
    """What the train command leaves; with fewer steps than 40, what a killed one does."""
    write_lines(folder / "log.jsonl", [HEAD, *rows(steps)], end='{"step": 99, "rew')
    completions = [
        {"step": step, "prompt": "1 2:3>", "completion": HOSTILE, "rewards": {"right": 1.0}, "advantage": 0.5}
        for step in (20, steps)
    ]
    write_lines(folder / "samples.jsonl", completions)
    fields = {"max_steps": 40, "sft_warmup_steps": 10, "mu_init": 0.5, "mu_entropy_lr": 0.1, "seed": 3} | recipe
    (folder / "resolved_recipe.yaml").write_text("# trl_amft 0.1.0, trl 1.16.0\n" + yaml.safe_dump(fields))
    return folder


def checkpoints(folder: Path, *steps: int) -> Path:
    """What a run of a script of one's own leaves when it dies."""
    for step in steps:
        place = folder / f"checkpoint-{step}"
        place.mkdir(parents=True)
        state = {"max_steps": 40, "global_step": step, "log_history": rows(step)}
        (place / "trainer_state.json").write_text(json.dumps(state))
    return folder
