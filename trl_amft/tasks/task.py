"""What a benchmark is to the trainer: prompts, held-out prompts, rewards and, where they exist, demonstrations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasets import Dataset


@dataclass(frozen=True)
class Task:
    """
    A benchmark, ready to be handed to a trainer.

    Args:
        train_dataset (`Dataset`):
            Column `"prompt"` plus every column that the reward functions read.
        held_out_dataset (`Dataset`):
            Same columns. Its problems never occur in `train_dataset` in any form.
        reward_funcs (`list[Callable]`):
            Reward functions with TRL's signature: keyword arguments `prompts`, `completions` and one per dataset
            column, a list of floats back.
        demonstration_dataset (`Dataset`, *optional*):
            Columns `"prompt"`, `"completion"` and `"demonstration_source"` (what kind of demonstration the row is).
        problem_of (`Callable[[dict[str, Any]], Any]`, *optional*):
            What the rows of one problem have in common, in `train_dataset` and in `demonstration_dataset`. Their
            prompt if not given.
    """

    train_dataset: Dataset
    held_out_dataset: Dataset
    reward_funcs: list[Callable]
    demonstration_dataset: Dataset | None = None
    problem_of: Callable[[dict[str, Any]], Any] | None = None
