"""
Trainers for the benchmarks: every form of a step on the same model, prompts, demonstrations and recorded rollouts.

Recorded rollouts keep the noise of generation out of the comparison. A form is one of `FORMS`.
"""

import contextlib
import io
import random
import resource
import tempfile
import time
from types import SimpleNamespace
from typing import Any

from datasets import Dataset, disable_progress_bars
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from trl_amft import AMFTConfig, AMFTTrainer
from trl_amft.tiny_model import build_tiny_model


# A step with a learned weight (lagged; judged on held-out prompts every 5 or 20 steps); with a fixed weight as
# `mixing_policy="fixed"` has it, and in the leanest form that is possible; GRPO alone; demonstrations alone.
FORMS = ("amft", "validation_5", "validation_20", "fixed", "lean_fixed", "grpo", "sft")


class LeanFixedTrainer(AMFTTrainer):
    """A fixed weight without a copy of the gradient: both losses add up in one buffer, nothing is measured."""

    def _mix(self, model, known):
        self._signals.reduce()
        self.mixing_callback.mu = known
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(1.0 - known)
        backward = self.accelerator.backward
        self.accelerator.backward = lambda loss, **kwargs: backward(known * loss, **kwargs)
        try:
            share = self._supervised.backward_all(model, self.step_algebra.shards.backward_context, self.mixing_policy)
        finally:
            self.accelerator.backward = backward
        self._log_metrics({"amft/mu": known, **self._supervised.metrics()})
        return known * share


class StepTimer(TrainerCallback):
    """Processor and wall seconds of each optimizer step and pages taken from the system, the first few left out."""

    def __init__(self, skip: int = 0):
        self.skip = skip
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.faults: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):
        self._start = time.process_time(), time.perf_counter(), page_faults()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step > self.skip:
            self.cpu.append(time.process_time() - self._start[0])
            self.wall.append(time.perf_counter() - self._start[1])
            self.faults.append(page_faults() - self._start[2])


def ratios_by_round(
    ratios: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...], seconds: dict[str, list[float]]
) -> dict[str, list[float]]:
    """Values round by round of each ratio of sums of forms whose forms were run, from the seconds of every round."""
    rounds = range(len(next(iter(seconds.values()))))
    return {
        name: [sum(seconds[f][n] for f in above) / sum(seconds[f][n] for f in below) for n in rounds]
        for name, above, below in ratios
        if set(above + below) <= set(seconds)
    }


def page_faults() -> int:
    """Pages that this process has taken from the system without reading them from a disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def recorded_rollouts(prompts, trainer):
    """Random completions of the full length, the same in every run."""
    tokenizer, length = trainer.processing_class, trainer.args.max_completion_length
    draws = random.Random(0)
    return {
        "prompt_ids": tokenizer(prompts)["input_ids"],
        "completion_ids": [[20 + draws.randrange(60) for _ in range(length)] for _ in prompts],
        "logprobs": [[0.0] * length for _ in prompts],
    }


def random_reward(completions, **kwargs):
    return [float(sum(map(ord, completion)) % 2) for completion in completions]


def generating_trainer(form: str, folder: str, options: SimpleNamespace, **overrides: Any) -> GRPOTrainer:
    """
    A trainer that makes `options.steps` steps of a form.

    Args:
        form (`str`):
            One of `FORMS`.
        folder (`str`):
            Where the trainer may write.
        options (`types.SimpleNamespace`):
            `hidden_size`, `layers`, `batch` (rollouts and demonstrations a step), `length` (tokens of each completion)
            and `steps`; optionally `heads` of the model, and `generate` for real rollouts.
        overrides:
            Further arguments of the trainer or of its configuration; `model` instead of a tiny one.

    Returns:
        [`~trl.GRPOTrainer`]
    """
    model, tokenizer = build_tiny_model(
        hidden_size=options.hidden_size,
        num_hidden_layers=options.layers,
        num_attention_heads=getattr(options, "heads", 4),
    )
    model = overrides.pop("model", model)
    digits = random.Random(1)
    prompts = ["".join(digits.choice("0123456789") for _ in range(12)) + ">" for _ in range(512)]
    completions = ["".join(digits.choice("0123456789+-*=,") for _ in range(options.length - 1)) for _ in prompts]
    settings: dict[str, Any] = {
        "output_dir": folder,
        "per_device_train_batch_size": options.batch,
        "num_generations": 8,
        "max_completion_length": options.length,
        "max_steps": options.steps,
        "learning_rate": 1e-4,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1000,
        "disable_tqdm": True,
    }
    arguments = {
        "model": model,
        "reward_funcs": random_reward,
        "processing_class": tokenizer,
        "train_dataset": Dataset.from_dict({"prompt": prompts}),
    }
    arguments |= {name: overrides.pop(name) for name in ("callbacks", "peft_config") if name in overrides}
    if form == "grpo":
        return GRPOTrainer(args=GRPOConfig(**{**settings, **overrides}), **arguments)
    settings["per_device_demonstration_batch_size"] = options.batch
    if form.startswith("validation"):
        settings |= {"meta_gradient": "validation", "meta_interval": int(form.split("_")[1])}
        arguments["validation_dataset"] = Dataset.from_dict({"prompt": prompts[:128]})
    else:
        policy = {"amft": {}, "sft": {"mixing_policy": "fixed", "mu_init": 1.0}}
        settings |= policy.get(form, {"mixing_policy": "fixed", "mu_init": 0.5})
    trainer_class = LeanFixedTrainer if form == "lean_fixed" else AMFTTrainer
    return trainer_class(
        args=AMFTConfig(**{**settings, **overrides}),
        demonstration_dataset=Dataset.from_dict({"prompt": prompts, "completion": completions}),
        **arguments,
    )


def build_trainer(form: str, folder: str, options: SimpleNamespace, **overrides: Any) -> GRPOTrainer:
    """The trainer of [`generating_trainer`] with recorded rollouts, unless `options.generate` asks for real ones."""
    trainer = generating_trainer(form, folder, options, **overrides)
    if not getattr(options, "generate", False):
        # Afterwards, because validation refuses a function that might remember something. This one does not.
        trainer.rollout_func = recorded_rollouts
    return trainer


@contextlib.contextmanager
def quiet_folder():
    """A temporary folder, and what is printed meanwhile thrown away."""
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        yield folder
