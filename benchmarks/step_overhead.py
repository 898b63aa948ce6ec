"""
What learning the weight costs: seconds of an optimizer step with `mixing_policy="amft"` over one with `"fixed"`.

Both run the same model, batch and recorded rollouts, so that the noise of generation is out; their runs alternate and
each pair gives one ratio. `--generate` makes real rollouts instead.

    python benchmarks/step_overhead.py
"""

import argparse
import contextlib
import io
import random
import statistics
import tempfile
import time

import torch
from common import append_result
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from transformers import TrainerCallback

from trl_amft import AMFTConfig, AMFTTrainer
from trl_amft.tiny_model import build_tiny_model


class StepTimer(TrainerCallback):
    """Seconds of each optimizer step, the first few left out."""

    def __init__(self, skip: int):
        self.skip = skip
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):
        self._start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step > self.skip:
            self.seconds.append(time.perf_counter() - self._start)


def recorded_rollouts(prompts, trainer):
    """Random completions of the full length, drawn once per prompt."""
    tokenizer, length = trainer.processing_class, trainer.args.max_completion_length
    draws = random.Random(0)
    completions = [[20 + draws.randrange(60) for _ in range(length)] for _ in prompts]
    return {
        "prompt_ids": tokenizer(prompts)["input_ids"],
        "completion_ids": completions,
        "logprobs": [[0.0] * length for _ in prompts],
    }


def random_reward(completions, **kwargs):
    return [float(sum(map(ord, completion)) % 2) for completion in completions]


def median_step(options: argparse.Namespace, policy: str) -> float:
    """Median seconds of a step in one short run."""
    model, tokenizer = build_tiny_model(hidden_size=options.hidden_size, num_hidden_layers=options.layers)
    digits = random.Random(1)
    prompts = ["".join(digits.choice("0123456789") for _ in range(12)) + ">" for _ in range(4096)]
    completions = ["".join(digits.choice("0123456789+-*=,") for _ in range(options.length - 1)) for _ in prompts]
    timer = StepTimer(skip=3)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        args = AMFTConfig(
            output_dir=folder,
            mixing_policy=policy,
            per_device_train_batch_size=options.batch,
            num_generations=8,
            max_completion_length=options.length,
            max_steps=options.steps + 3,
            learning_rate=1e-4,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_steps=1000,
            disable_tqdm=True,
        )
        trainer = AMFTTrainer(
            model=model,
            reward_funcs=random_reward,
            args=args,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            rollout_func=None if options.generate else recorded_rollouts,
            callbacks=[timer],
            demonstration_dataset=Dataset.from_dict({"prompt": prompts, "completion": completions}),
        )
        trainer.train()
    return statistics.median(timer.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden-size", type=int, default=96, help="width of the model (quickstart's)")
    parser.add_argument("--layers", type=int, default=3, help="layers of the model (quickstart's)")
    parser.add_argument("--batch", type=int, default=128, help="rollouts per step")
    parser.add_argument("--length", type=int, default=16, help="tokens per completion")
    parser.add_argument("--steps", type=int, default=12, help="timed steps per run")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--generate", action="store_true", help="generate instead of recorded rollouts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ratios, seconds = [], {"amft": [], "fixed": []}
    for pair in range(options.pairs):
        for policy in ("amft", "fixed") if pair % 2 else ("fixed", "amft"):
            seconds[policy].append(median_step(options, policy))
        ratios.append(seconds["amft"][-1] / seconds["fixed"][-1])
    model, _ = build_tiny_model(hidden_size=options.hidden_size, num_hidden_layers=options.layers)
    result = {
        **vars(options),
        "parameters": sum(p.numel() for p in model.parameters()),
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
        "median_seconds": {policy: statistics.median(values) for policy, values in seconds.items()},
    }
    table = Table(title=f"{result['parameters']:,} parameters, {options.batch} rollouts of {options.length} tokens")
    for column in ("fixed, s", "amft, s", "ratio: median", "lowest", "highest", "pairs"):
        table.add_column(column, justify="right")
    table.add_row(
        f"{result['median_seconds']['fixed']:.3f}",
        f"{result['median_seconds']['amft']:.3f}",
        f"{result['median_ratio']:.3f}",
        f"{min(ratios):.3f}",
        f"{max(ratios):.3f}",
        str(options.pairs),
    )
    Console().print(table)
    print(append_result("step_overhead", result))


if __name__ == "__main__":
    main()
