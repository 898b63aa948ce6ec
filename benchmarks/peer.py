"""
One CHORD step of ms-swift beside one of ours with a learned weight: same model, batch and lengths, real rollouts by
`generate` of transformers on both sides, one thread.

ms-swift needs other versions of TRL and transformers, so it runs in an environment of its own. Where it cannot be run
there, the script says why and stops.

    python -m venv ../swift && ../swift/bin/pip install ms-swift
    python benchmarks/peer.py --python ../swift/bin/python
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
from pathlib import Path

import torch
from common import append_result, print_table
from mixed_step import StepTimer, build_trainer, quiet_folder

from trl_amft.tiny_model import build_tiny_model


WARM_UP = 2

# The reward notes the processor's seconds: from one call to the next is one step.
PLUGIN = """
import time
from swift.rewards import ORM, orms

class Parity(ORM):
    def __call__(self, completions, **kwargs):
        with open({marks!r}, "a") as file:
            file.write(str(time.process_time()) + " " + str(sum(map(len, completions))) + chr(10))
        return [float(sum(map(ord, completion)) % 2) for completion in completions]

orms["parity"] = Parity
"""


def reason_without(python: str) -> str | None:
    """Why ms-swift cannot be used with an interpreter; `None` if it can."""
    try:
        found = subprocess.run([python, "-c", "import swift.pipelines"], capture_output=True, text=True, timeout=300)
    except OSError as error:
        return str(error)
    return None if found.returncode == 0 else found.stderr.strip().splitlines()[-1]


def chord_steps(python: str, options: argparse.Namespace, folder: Path) -> list[float] | str:
    """Processor seconds of each CHORD step, or why there are none."""
    model, tokenizer = build_tiny_model(hidden_size=options.hidden_size, num_hidden_layers=options.layers)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    draws = random.Random(1)
    prompts = ["".join(draws.choice("0123456789") for _ in range(12)) + ">" for _ in range(512)]
    answers = ["".join(draws.choice("0123456789+-*=,") for _ in range(options.length - 1)) for _ in prompts]
    asked = [{"messages": [{"role": "user", "content": prompt}]} for prompt in prompts]
    shown = [
        {"messages": [*row["messages"], {"role": "assistant", "content": answer}]}
        for row, answer in zip(asked, answers, strict=True)
    ]
    for name, rows in (("prompts", asked), ("demonstrations", shown)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    marks = folder / "marks"
    (folder / "plugin.py").write_text(PLUGIN.format(marks=str(marks)))
    arguments = {
        "rlhf_type": "grpo",
        "model": folder / "model",
        "model_type": "qwen2",
        "template": "dummy",
        "tuner_type": "full",
        "torch_dtype": "float32",
        "dataset": folder / "prompts.jsonl",
        "chord_sft_dataset": folder / "demonstrations.jsonl",
        "chord_sft_per_device_train_batch_size": options.batch,
        "chord_mu_warmup_steps": 0,
        "chord_mu_decay_steps": 1000,
        "chord_mu_peak": 0.5,
        "chord_mu_valley": 0.5,
        "external_plugins": folder / "plugin.py",
        "reward_funcs": "parity",
        "per_device_train_batch_size": options.batch,
        "gradient_accumulation_steps": 1,
        "num_generations": 8,
        "max_completion_length": options.length,
        "max_length": 256,
        "max_steps": WARM_UP + options.steps + 1,
        "beta": 0.0,
        "learning_rate": 1e-4,
        "gradient_checkpointing": "false",
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "output_dir": folder / "output",
    }
    command = [python, "-m", "swift.cli.rlhf"]
    for name, value in arguments.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "USE_HF": "1", "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if found.returncode or not marks.is_file():
        return (found.stderr.strip().splitlines() or ["no message"])[-1]
    times = [float(line.split()[0]) for line in marks.read_text().splitlines()]
    return [later - earlier for earlier, later in zip(times, times[1:], strict=False)][WARM_UP:]


def our_steps(options: argparse.Namespace) -> list[float]:
    """Processor seconds of each step with a learned weight."""
    timer = StepTimer(skip=WARM_UP)
    settings = argparse.Namespace(**{**vars(options), "steps": WARM_UP + options.steps, "generate": True})
    with quiet_folder() as folder:
        build_trainer("amft", folder, settings, callbacks=[timer]).train()
    return timer.cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of an environment with ms-swift")
    parser.add_argument("--hidden-size", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64, help="rollouts, and demonstrations, per step")
    parser.add_argument("--length", type=int, default=32, help="tokens per completion")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    reason = reason_without(options.python)
    if reason is not None:
        print(f"skipped: {options.python} has no ms-swift: {reason}")
        return
    ours, theirs = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            steps = chord_steps(options.python, options, Path(folder))
        if isinstance(steps, str):
            print(f"skipped: ms-swift did not run: {steps}")
            return
        theirs.append(statistics.median(steps))
        ours.append(statistics.median(our_steps(options)))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    rows = [
        ("learned weight", f"{statistics.median(ours):.3f}"),
        ("ms-swift, CHORD", f"{statistics.median(theirs):.3f}"),
    ]
    rows += [("ratio: median", f"{statistics.median(ratios):.3f}"), ("lowest", f"{min(ratios):.3f}")]
    rows += [("highest", f"{max(ratios):.3f}")]
    print_table(f"processor seconds of a step, {options.rounds} rounds", ("", "median"), rows)
    settings = {name: value for name, value in vars(options).items() if name != "python"}
    print(append_result("peer", {**settings, "ours": ours, "theirs": theirs, "ratios": ratios}))


if __name__ == "__main__":
    main()
