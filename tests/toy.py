"""A toy problem on which a tiny random model gets reward by chance: echo a digit that the prompt determines."""

import torch
from datasets import Dataset

from trl_amft import AMFTConfig
from trl_amft.tiny_model import build_tiny_model


def right_answer(prompt: str) -> str:
    return str((int(prompt[0]) + 3) % 8)


def prompts(count: int = 64) -> list[str]:
    return [f"{index % 8}{chr(ord('a') + index // 8 % 26)}:" for index in range(count)]


def prompt_set(count: int = 64) -> Dataset:
    return Dataset.from_dict({"prompt": prompts(count)})


def demonstration_set(right: bool = True, count: int = 64, lengths: bool = False) -> Dataset:
    completions = [right_answer(p) if right else str((int(p[0]) + 5) % 8) for p in prompts(count)]
    if lengths:
        completions = [c + "x" * (index % 3) for index, c in enumerate(completions)]
    return Dataset.from_dict({"prompt": prompts(count), "completion": completions})


def paired_set(every: int = 1, count: int = 64) -> Dataset:
    """Prompts of which every so-manieth has a demonstration in a column."""
    rows = demonstration_set(count=count, lengths=True).rename_column("completion", "demonstration").to_list()
    return Dataset.from_list([row if i % every == 0 else {**row, "demonstration": None} for i, row in enumerate(rows)])


def reward(prompts, completions, **kwargs):
    """1 if the first character is the right digit modulo 32: a random model is right one time in 32."""
    return [
        float(c != "" and ord(c[0]) % 32 == ord(right_answer(p)) % 32)
        for p, c in zip(prompts, completions, strict=True)
    ]


def dense_reward(prompts, completions, **kwargs):
    """Varies with every completion, so that a random model has a learning signal at once."""
    return [sum(map(ord, c)) % 17 / 17 for c in completions]


def model(seed: int = 0, hidden_size: int = 32, layers: int = 2):
    return build_tiny_model(hidden_size=hidden_size, num_hidden_layers=layers, num_attention_heads=2, seed=seed)


def config(output_dir, cls=AMFTConfig, **overrides):
    settings = {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "max_steps": 5,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    prior = {"mu_init": 0.5} if issubclass(cls, AMFTConfig) else {}
    return cls(**{**settings, **prior, **overrides})


def train(cls, args, **arguments):
    """A trainer that has finished its run on right demonstrations of several lengths."""
    policy, tokenizer = model()
    trainer = cls(
        model=policy,
        reward_funcs=dense_reward,
        args=args,
        train_dataset=prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=demonstration_set(lengths=True),
        **arguments,
    )
    trainer.train()
    return trainer


def losses(trainer) -> list[float]:
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


def parameters(trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
