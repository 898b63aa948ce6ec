"""
The demonstrations of the prompts that were just rolled out, for policies that decide prompt by prompt.

Which of them are imitated is decided once per generation batch from the rewards of all processes. A group may lie on
two processes or in two optimizer steps; its demonstration then counts on each for the share of its rollouts there, so
that the sum over the step does not depend on the number of processes.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..mixing.luffy import joint_mean
from ..mixing.policy import GroupBatch, MixingPolicy
from ..rollouts.signals import total_rewards
from ..runtime.self_check import cause_of, score_demonstrations
from .pictures import pictures_digest
from .source import MapDemonstrations


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


# Keys beside TRL's own inputs of the loss, each of shape (batch_size,).
CHOSEN, SLOT, REWARD = "demonstration_chosen", "demonstration_slot", "rollout_reward"
GROUP_MEAN, GROUP_SIZE, DEMONSTRATION_REWARD = "group_mean_reward", "group_size", "demonstration_reward"


@dataclass(frozen=True)
class DemonstrationRow:
    """
    A demonstration of a step.

    Args:
        row (`dict[str, Any]`):
            Tokenized.
        count (`float`, *optional*, defaults to `1.0`):
            How much of it belongs to this process and step, in (0, 1].
        advantage (`float`, *optional*, defaults to `0.0`):
            Its reward minus the mean of its group, itself included.
    """

    row: dict[str, Any]
    count: float = 1.0
    advantage: float = 0.0


class PairedDemonstrations:
    """
    Finds demonstrations by their prompt, and collects those of a step.

    Args:
        trainer ([`AMFTTrainer`]):
            Gives rewards and processes.
        demonstrations ([`~trl_amft.demonstrations.source.MapDemonstrations`]):
            The usable ones, from the column of the training set.
        column (`str`):
            That column.
        scored (`bool`):
            Whether the rewards of demonstrations are needed.

    Raises:
        `ValueError`: if they are needed and cannot be had.
    """

    def __init__(self, trainer: "AMFTTrainer", demonstrations: MapDemonstrations, column: str, scored: bool):
        self.share = 0.0
        self._trainer = trainer
        self._demonstrations = demonstrations
        self._column = column
        rows = demonstrations.rows
        self._index = {_key(row, column): index for index, row in enumerate(rows)}
        self._rewards: list[float] | None = None
        if scored:
            self._rewards = self._score()
        self._slots: list[int | None] = []
        self._start = 0
        self._counts: dict[int, float] = {}
        self._found: dict[int, tuple[int, float]] = {}

    def attach(
        self, policy: MixingPolicy, inputs: list[dict[str, Any]], rewards: Tensor, varies: Tensor, output: dict
    ) -> None:
        """
        Decide which demonstrations of a generation batch are imitated, and note it beside its rollouts.

        Args:
            policy ([`~trl_amft.mixing.MixingPolicy`]):
                Decides.
            inputs (`list[dict[str, Any]]`):
                Rows of this process, whole groups one after the other over all processes.
            rewards (`torch.Tensor` of shape (num_rollouts, num_reward_functions)):
                Of all processes; NaN where a function does not apply.
            varies (`torch.Tensor` of shape (num_rollouts,)):
                Whether rewards differ in the group of each, of all processes.
            output (`dict[str, torch.Tensor]`):
                TRL's inputs of the loss; keys are added to it.
        """
        # Of a step that was broken off.
        self._counts, self._found = {}, {}
        trainer, generations = self._trainer, self._trainer.num_generations
        self._slots = [self._index.get(_key(row, self._column)) for row in inputs]
        own = torch.tensor([[slot is not None, self._reward(slot)] for slot in self._slots], dtype=torch.float64)
        everywhere = trainer.accelerator.gather(own.to(rewards.device, torch.float32))
        total = total_rewards(rewards, trainer.reward_weights)
        grouped = total.view(-1, generations)
        groups = GroupBatch(
            rewards=grouped,
            varies=varies[::generations],
            demonstrated=everywhere[::generations, 0] > 0.0,
            demonstration_rewards=everywhere[::generations, 1],
        )
        chosen = policy.chosen(groups)
        self.share = chosen.float().mean().item()
        columns = {
            CHOSEN: chosen,
            GROUP_MEAN: grouped.nanmean(dim=1),
            GROUP_SIZE: (~grouped.isnan()).sum(dim=1).to(grouped.dtype),
            DEMONSTRATION_REWARD: groups.demonstration_rewards.masked_fill(~chosen, torch.nan),
        }
        columns = {name: values.repeat_interleave(generations) for name, values in columns.items()}
        columns[REWARD] = total
        self._start = start = trainer.accelerator.process_index * len(inputs)
        output |= {name: values[start : start + len(inputs)] for name, values in columns.items()}
        output[SLOT] = torch.arange(len(inputs), device=rewards.device)

    def observe(self, inputs: dict[str, Any]) -> None:
        """Take in the chosen demonstrations of one RL micro-batch."""
        share = 1.0 / self._trainer.num_generations
        joint = joint_mean(inputs[GROUP_MEAN], inputs[GROUP_SIZE], inputs[DEMONSTRATION_REWARD])
        advantages = (inputs[DEMONSTRATION_REWARD] - joint).nan_to_num(0.0)
        for slot, chosen, advantage in zip(
            inputs[SLOT].tolist(), inputs[CHOSEN].tolist(), advantages.tolist(), strict=True
        ):
            if chosen:
                group = (self._start + slot) // self._trainer.num_generations
                self._counts[group] = self._counts.get(group, 0.0) + share
                self._found[group] = (self._slots[slot], advantage)

    def micro_batches(self, count: int) -> list[list[DemonstrationRow]]:
        """
        The demonstrations of the step on this process in `count` parts of nearly equal size, some maybe empty. The
        next step starts with none.
        """
        rows = []
        for group, share in sorted(self._counts.items()):
            index, advantage = self._found[group]
            rows.append(DemonstrationRow(self._demonstrations.rows[index], share, advantage))
        self._counts, self._found = {}, {}
        return [rows[part::count] for part in range(count)]

    def _score(self) -> list[float]:
        trainer, demonstrations = self._trainer, self._demonstrations
        name = f"mixing_policy={trainer.args.mixing_policy!r}"
        try:
            return score_demonstrations(trainer, demonstrations.sample(len(demonstrations)))
        except Exception as error:
            raise ValueError(
                f"{name}: the demonstrations cannot be scored ({cause_of(error)}): give them the columns that the "
                "rewards read, or take a policy that does not score them"
            ) from error

    def _reward(self, slot: int | None) -> float:
        return torch.nan if slot is None or self._rewards is None else self._rewards[slot]


def _key(row: dict[str, Any], column: str) -> bytes:
    """One key for a prompt with its demonstration and pictures, whatever their length."""
    parts = [row["prompt"], row[column], pictures_digest(row)]
    return hashlib.sha1(json.dumps(parts, sort_keys=True).encode()).digest()
