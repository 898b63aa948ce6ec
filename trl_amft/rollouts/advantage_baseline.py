"""
A baseline per prompt in the place of the group's mean: A = r − b, with b from a column of the training set.

MRT (arXiv 2503.07572) rewards progress: how much the rest of a solution adds to the success probability that the model
has when it is made to stop after the prefix in the prompt. As a reward function α (r − b) would do nothing under GRPO,
because a group shares its prefix: b cancels in the mean, and 1 + α in the standard deviation. In the place of the mean
it also gives a signal where all rollouts of a group are rewarded alike.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor

from .signals import GROUP_VARIES, total_rewards


if TYPE_CHECKING:
    from ..amft_config import AMFTConfig
    from .weighed_rollouts import WeighedRollouts


GROUP, COLUMN = "group", "column:"
PROGRESS, REGRET = "baseline/progress", "baseline/regret"
# Rewards have this type; what lies beyond would be infinite in it.
LARGEST = torch.finfo(torch.float32).max


def baseline_column(args: "AMFTConfig") -> str | None:
    """
    Args:
        args ([`AMFTConfig`]):
            Configuration.

    Returns:
        `str`, *optional*: the column of the baseline; `None` where TRL's advantages stay as they are.
    """
    return None if args.advantage_baseline == GROUP else args.advantage_baseline.removeprefix(COLUMN)


def check_baseline(args: "AMFTConfig") -> None:
    """
    Args:
        args ([`AMFTConfig`]):
            Configuration, after TRL's own checks.

    Raises:
        `ValueError`: for an unknown form, and for fields that would undo it.
    """
    value = args.advantage_baseline
    if value == GROUP:
        return
    if not isinstance(value, str) or not value.startswith(COLUMN) or value == COLUMN:
        raise ValueError(
            f"advantage_baseline={value!r} is unknown: give 'group', or 'column:' and the name of a column"
        )
    for name, needed in (("scale_rewards", "none"), ("multi_objective_aggregation", "sum_then_normalize")):
        if getattr(args, name) != needed:
            raise ValueError(
                f"advantage_baseline={value!r} needs {name}={needed!r}, got {getattr(args, name)!r}: advantages are "
                "rewards minus the column, not divided by a standard deviation that may be 0"
            )
    if args.mixing_policy == "luffy":
        raise ValueError(
            f"advantage_baseline={value!r} and mixing_policy='luffy' are two baselines: set advantage_baseline to "
            "'group' or choose another policy"
        )


def check_baseline_column(args: "AMFTConfig", train_dataset: Any) -> None:
    """
    Args:
        args ([`AMFTConfig`]):
            Configuration.
        train_dataset (`Dataset` or `IterableDataset`, *optional*):
            A stream may not know its columns; its rows are then read when they come.

    Raises:
        `ValueError`: if there is no such column, or something else than numbers in it.
    """
    column = baseline_column(args)
    columns = None if train_dataset is None else train_dataset.column_names
    if column is None or columns is None:
        return
    if column not in columns:
        raise ValueError(
            f"advantage_baseline={args.advantage_baseline!r}: train_dataset has no column {column!r}, only "
            f"{sorted(columns)}; add it, see scripts/make_prefixes.py"
        )
    if isinstance(train_dataset, Dataset):
        for index, value in enumerate(train_dataset[column]):
            _number(column, value, f"row {index} of train_dataset")


def _number(column: str, value: Any, where: str = "a row") -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
        raise ValueError(f"{where} has {column}={value!r}: give a finite number, or nothing to leave it to the group")
    return float(value)


def _numbers(column: str, rows: list[dict[str, Any]]) -> tuple[list[float], list[str]]:
    """Numbers of rows, and what is wrong with those that are infinite here: other processes wait for them."""
    values, failures = [], []
    for row in rows:
        try:
            values.append(_number(column, row.get(column)))
        except ValueError as error:
            values.append(math.inf)
            failures.append(str(error))
    return values, failures


def take_baseline(
    trainer: "WeighedRollouts", column: str, inputs: list[dict[str, Any]], rewards: Tensor, output: dict[str, Any]
) -> None:
    """
    Put reward minus baseline in the place of TRL's advantages, and log progress and regret of the generation batch.

    Args:
        trainer ([`~trl_amft.rollouts.weighed_rollouts.WeighedRollouts`]):
            Gives reward weights and processes; its metrics and its table of completions are written.
        column (`str`):
            Of the baseline.
        inputs (`list[dict[str, Any]]`):
            Rows of this process.
        rewards (`torch.Tensor` of shape (num_rollouts, num_reward_functions)):
            Of all processes; NaN where a function does not apply.
        output (`dict[str, Any]`):
            TRL's inputs of the loss; `advantages` and `group_varies` of shape (batch_size,) are replaced where a row
            has a baseline.

    Raises:
        [`~trl_amft.runtime.checkpoints.ResumableError`]: on every process, if a row of any of them has something
            else than a number.
    """
    gather, count = trainer.accelerator.gather, len(inputs)
    values, failures = _numbers(column, inputs)
    own = torch.tensor(values, device=rewards.device)
    baselines = gather(own.to(rewards.dtype))
    if baselines.isinf().any():
        # Imports the configuration, which imports this file.
        from ..runtime.checkpoints import ResumableError

        raise ResumableError(gather_object(failures)[0])
    total = total_rewards(rewards, trainer.reward_weights)
    differences = total - baselines
    advantages = torch.where(
        baselines.isnan(), gather(output["advantages"]).to(rewards.dtype), differences.nan_to_num(0.0)
    )
    start = trainer.accelerator.process_index * count
    mine = slice(start, start + count)
    output["advantages"] = advantages[mine].to(output["advantages"].dtype)
    output[GROUP_VARIES] = torch.where(own.isnan(), output[GROUP_VARIES], output["advantages"] != 0.0)
    table: Any = trainer._logs["advantages"]
    for _ in range(min(len(table), len(advantages))):
        table.pop()
    table.extend(advantages.tolist())
    known = ~differences.isnan()
    if known.any():
        metrics = trainer._metrics["train"]
        metrics[PROGRESS].append(differences[known].mean().item())
        left = 1.0 - baselines[known].mean().item()
        if left > 0.0:
            metrics[REGRET].append((1.0 - total[known].mean().item()) / left)
