"""
Values that TRL and transformers let pass until they divide by them, or train for hours on them.

Fields of this package are checked by [`AMFTConfig`] and [`RecipeArguments`]; these belong to the classes below.
"""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from .output_file import may_be_folder
from .usage import UsageError, suggest


class Range(NamedTuple):
    """An interval; `low_open` and `high_open` leave out its ends, `infinite` says that infinity belongs to it."""

    low: float
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    infinite: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number lies inside. NaN does not."""
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"a number {'above' if self.low_open else 'of at least'} {self.low:g}"
        left, right = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"a number in {left}{self.low:.10g}, {self.high:.10g}{right}"


ONE, NOT_NEGATIVE, POSITIVE = Range(1), Range(0), Range(0, low_open=True)
LIMIT = Range(0, infinite=True)  # infinity for none
SEED = Range(0, 2**32 - 1)  # what NumPy takes
DECAY, SHARE = Range(0, 1, high_open=True), Range(0, 1, low_open=True)

RANGES: dict[str, Range] = {
    "num_generations": Range(2),
    "num_generations_eval": ONE,
    "per_device_train_batch_size": ONE,
    "per_device_eval_batch_size": ONE,
    "gradient_accumulation_steps": ONE,
    "steps_per_generation": ONE,
    "generation_batch_size": ONE,
    "num_iterations": ONE,
    "max_completion_length": ONE,
    "vllm_max_model_length": ONE,
    "vllm_tensor_parallel_size": ONE,
    "save_total_limit": ONE,
    "lora_r": ONE,
    "temperature": POSITIVE,
    "logging_steps": POSITIVE,
    "save_steps": POSITIVE,
    "eval_steps": POSITIVE,
    "num_train_epochs": POSITIVE,
    "adam_epsilon": POSITIVE,
    "learning_rate": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "max_grad_norm": LIMIT,
    "warmup_steps": NOT_NEGATIVE,
    "epsilon": NOT_NEGATIVE,
    "epsilon_high": LIMIT,
    "delta": LIMIT,
    "beta": NOT_NEGATIVE,
    "top_k": NOT_NEGATIVE,
    "seed": SEED,
    "data_seed": SEED,
    "min_p": Range(0, 1),
    "top_p": SHARE,
    "vllm_gpu_memory_utilization": SHARE,
    "adam_beta1": DECAY,
    "adam_beta2": DECAY,
    "lora_dropout": DECAY,
}

# Words that TRL compares with much later, or never.
CHOICES: dict[str, tuple[Any, ...]] = {
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none", True, False),
    "importance_sampling_level": ("token", "sequence"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "vllm_mode": ("server", "colocate"),
    "vllm_importance_sampling_mode": ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}

TRACKERS = (
    *("none", "all", "azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "flyte", "kubeflow"),
    *("mlflow", "neptune", "swanlab", "tensorboard", "trackio", "wandb"),
)
# Trackers whose package has another name, or several.
TRACKER_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}


def check_values(fields: dict[str, Any]) -> None:
    """
    Args:
        fields (`dict[str, Any]`):
            Every field that was given, its type checked.

    Raises:
        [`UsageError`]: in one line with the field, its value and what it may be.
    """
    for name, allowed in RANGES.items():
        number = _number(fields.get(name))
        if number is not None and not allowed.holds(number):
            raise UsageError(f"{name}={fields[name]!r} is out of range; give {allowed}")
        if number == math.inf and not allowed.infinite:
            raise UsageError(f"{name}={fields[name]!r} is not finite; give {allowed}")
    steps = _number(fields.get("max_steps"))
    if steps is not None and steps < 1 and steps != -1:
        raise UsageError(
            f"max_steps={fields['max_steps']!r} would be num_train_epochs; give at least 1, or -1 for these epochs"
        )
    for name, choices in CHOICES.items():
        value = fields.get(name)
        if value is not None and value not in choices:
            remedy = suggest(str(value), [choice for choice in choices if isinstance(choice, str)])
            raise UsageError(f"{name}={value!r} is not one of its choices; {remedy}")
    _check_trackers(fields.get("report_to"))
    both = [name for name in ("generation_batch_size", "steps_per_generation") if fields.get(name) is not None]
    if len(both) == 2:
        raise UsageError(f"{both[0]}={fields[both[0]]} and {both[1]}={fields[both[1]]} tell the same; give only one")
    levels = {"luspo": "sequence", "vespo": "token"}
    loss, level = fields.get("loss_type"), fields.get("importance_sampling_level", "token")
    if loss in levels and level != levels[loss]:
        raise UsageError(
            f"loss_type={loss!r} does not go with importance_sampling_level={level!r}; set it to {levels[loss]!r}"
        )
    folder = fields.get("output_dir")
    if isinstance(folder, str) and not may_be_folder(folder):
        raise UsageError(f"output_dir={folder!r} is a file, or lies below one; give a folder, which is made if needed")
    entry = fields.get("deepspeed")
    if isinstance(entry, str) and not entry.lstrip().startswith("{") and not Path(entry).is_file():
        raise UsageError(f"deepspeed={entry!r} is not a file; give an existing one, a mapping, or null")


def _check_trackers(names: str | list[str] | None) -> None:
    for name in [names] if isinstance(names, str) else names or []:
        if name not in TRACKERS:
            raise UsageError(f"report_to={names!r} names no tracker {name!r}; {suggest(str(name), TRACKERS)}")
        packages = TRACKER_PACKAGES.get(name, ())
        if packages and all(find_spec(package) is None for package in packages):
            raise UsageError(
                f"report_to={names!r}, but {name} is not installed; run `pip install {packages[0]}`, or set it to none"
            )


def _number(value: Any) -> float | None:
    """What a field will be after the parser has converted it; `None` for what is no number."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
