"""The supervised segment of a step: its demonstrations, and L_SFT as a mean over the tokens of the whole step."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..losses import IGNORE_INDEX, SFTLoss, TokenWeights, sft_loss, token_loss
from ..mixing import DemonstrationBatch, MixingPolicy
from .paired import DemonstrationRow
from .source import MapDemonstrations, StreamDemonstrations
from .supervised_head import add_supervised_head, head_is_that_of_the_model
from .tokenizer import COMPLETION_IDS, PICTURES, PROMPT_IDS, collate_demonstrations
from .weights import weight_of


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


# Key of what the model takes in of pictures, in a micro-batch.
INPUTS = "picture_inputs"


def by_length(rows: list[dict[str, Any]], size: int, micro_batches: int) -> list[list[dict[str, Any]]]:
    """
    Args:
        rows (`list[dict[str, Any]]`):
            Tokenized rows, at most `size * micro_batches`.
        size (`int`):
            Rows of a micro-batch.
        micro_batches (`int`):
            Their number.

    Returns:
        `list[list[dict[str, Any]]]`: the rows of each micro-batch, shorter ones first. One micro-batch keeps its
        order.
    """
    if micro_batches > 1:
        rows = sorted(rows, key=lambda row: len(row[PROMPT_IDS]) + len(row[COMPLETION_IDS]))
    return [rows[start : start + size] for start in range(0, size * micro_batches, size)]


class SupervisedSegment:
    """
    Takes the demonstrations of a step and runs their forward and backward passes.

    All micro-batches of a step are known before the first one runs, because the loss is divided by the number of
    labelled tokens over all of them and all processes. Every process runs as many passes as every other.

    Args:
        trainer ([`AMFTTrainer`]):
            Gives the sizes, the accelerator and the loss context.
        demonstrations ([`~trl_amft.demonstrations.source.MapDemonstrations`] or the streamed form):
            Where rows come from that are drawn.
    """

    def __init__(self, trainer: "AMFTTrainer", demonstrations: MapDemonstrations | StreamDemonstrations):
        self.demonstrations = self._drawn = demonstrations
        self.tokens = 0.0
        self._accelerator = trainer.accelerator
        assert trainer.args.per_device_demonstration_batch_size is not None, "the arguments have set it"
        self._rows = trainer.args.per_device_demonstration_batch_size
        self._pad_token_id = trainer._tokenizer.pad_token_id
        self._aux_loss_coef = trainer.router_aux_loss_coef if trainer.aux_loss_enabled else None
        self._loss_context = trainer.compute_loss_context_manager
        self._place = trainer._prepare_input
        reads_entropy = trainer.mixing_policy.reads_entropy
        self._tiles = add_supervised_head(trainer.model, trainer.args.cast_lm_head_to_fp32, reads_entropy)
        self._tiles_checked = not self._tiles
        # A process without a demonstration must pass through the same layers as the others: a prompt, no completion.
        self._stand_in = [{**row, COMPLETION_IDS: []} for row in demonstrations.sample(1) if row[PICTURES]]
        self._batches: list[dict[str, Any]] = []
        self._num_batches = 0
        self._totals = torch.zeros(3, device=self._accelerator.device)

    def draw(self, micro_batches: int, consumed: int) -> int:
        """
        Draw the rows of a step from all demonstrations.

        Args:
            micro_batches (`int`):
                Micro-batches of the step, the same on every process.
            consumed (`int`):
                Rows taken by all processes before this step.

        Returns:
            `int`: rows taken after it.
        """
        if self.demonstrations.consumed != consumed:
            self.demonstrations.consumed = consumed
        self.draw_from(self.demonstrations, micro_batches)
        return self.demonstrations.consumed

    def draw_from(self, demonstrations: MapDemonstrations | StreamDemonstrations, micro_batches: int) -> None:
        """
        Draw the rows of a step from given demonstrations, at their present position. Rows of like length share a
        micro-batch, since the order within a step does not matter to L_SFT and padding is computed as well.
        """
        self._drawn = demonstrations
        rank = self._accelerator.process_index
        own: list[dict[str, Any]] = []
        for _ in range(micro_batches):
            drawn = demonstrations.take(self._rows * self._accelerator.num_processes)
            own += filter(None, drawn[rank * self._rows : (rank + 1) * self._rows])
        self.load([[DemonstrationRow(row) for row in part] for part in by_length(own, self._rows, micro_batches)])

    def load(self, parts: list[list[DemonstrationRow]]) -> None:
        """
        Take given rows for the step.

        Args:
            parts (`list[list[DemonstrationRow]]`):
                Rows of each micro-batch on this process, as many micro-batches on every process. A part may be empty.
        """
        device = self._accelerator.device
        self._batches = []
        self._num_batches = len(parts)
        for rows in parts:
            shown = [row.row for row in rows] or self._stand_in
            batch = collate_demonstrations(shown, self._pad_token_id)
            pictures = self.demonstrations.tokenize.picture_inputs(shown, batch["input_ids"].shape[1])
            # An empty part is one dummy row, which has no label.
            batch["row_weights"] = torch.tensor([row.count * weight_of(row.row) for row in rows] or [0.0])
            batch["advantages"] = torch.tensor([row.advantage for row in rows] or [0.0])
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            self._batches.append(batch | {INPUTS: self._place(pictures)})
        local = sum(
            ((batch["labels"][:, 1:] != IGNORE_INDEX).sum(1) * batch["row_weights"]).sum() for batch in self._batches
        )
        self.tokens = self._accelerator.reduce(local, reduction="sum").item()
        self._totals = torch.zeros(3, device=device)

    def backward(self, model: nn.Module, policy: MixingPolicy | None = None) -> Tensor:
        """
        Forward and backward pass of the next micro-batch.

        Args:
            model (`torch.nn.Module`):
                The model as the training loop calls it.
            policy ([`~trl_amft.mixing.MixingPolicy`], *optional*):
                Weighs the tokens. All weigh 1 without it.

        Returns:
            `torch.Tensor` of shape (): its share of L_SFT; the mean over processes of the sum over micro-batches is
            L_SFT.
        """
        batch = self._batches.pop(0)
        extra = batch[INPUTS] if self._aux_loss_coef is None else batch[INPUTS] | {"output_router_logits": True}
        weights = None if policy is None else partial(self._token_weights, policy, batch["advantages"])
        with self._loss_context():
            if not self._tiles_checked:
                self._tiles, self._tiles_checked = head_is_that_of_the_model(model, self._accelerator), True
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            if self._tiles:
                outputs = model(**inputs, labels=batch["labels"], supervised_head=True, **extra)
                result = self._loss_of_tiles(outputs, batch["row_weights"], weights)
            else:
                outputs = model(**inputs, use_cache=False, **extra)
                # Prompt tuning puts tokens of its own before those of a row.
                logits = outputs.logits[:, -batch["labels"].size(1) :]
                result = sft_loss(logits, batch["labels"], batch["row_weights"], weights)
            # Gradients are averaged over processes; a mean over all tokens takes their number back.
            loss = result.loss * (self._accelerator.num_processes / self._divisor)
            if self._aux_loss_coef is not None:
                loss = loss + self._aux_loss_coef * outputs.aux_loss / self._num_batches
        self._accelerator.backward(loss)
        self._totals += torch.stack([result.nll, result.correct, result.weight.detach()])
        return loss.detach()

    @property
    def _divisor(self) -> float:
        """Labelled tokens of the step, 1 where there is none."""
        return self.tokens if self.tokens > 0.0 else 1.0

    @staticmethod
    def _loss_of_tiles(outputs: Any, row_weights: Tensor, weights: TokenWeights | None) -> SFTLoss:
        entropies = lambda: outputs.entropy.detach()  # noqa: E731
        return token_loss(outputs.log_probs, outputs.is_top1, outputs.label_mask, entropies, row_weights, weights)

    @staticmethod
    def _token_weights(
        policy: MixingPolicy, advantages: Tensor, log_probs: Tensor, mask: Tensor, entropies: Callable[[], Tensor]
    ) -> Tensor | None:
        found = entropies() if policy.reads_entropy else None
        return policy.demonstration_weights(DemonstrationBatch(log_probs, mask, found, advantages))

    def backward_all(self, model: nn.Module, context, policy: MixingPolicy) -> Tensor:
        """
        All micro-batches of the step.

        Args:
            model (`torch.nn.Module`):
                The model as the training loop calls it.
            context (`Callable[[bool], AbstractContextManager]`):
                Context of a backward pass, told whether it is the last.
            policy ([`~trl_amft.mixing.MixingPolicy`]):
                Weighs the tokens.

        Returns:
            `torch.Tensor` of shape (): this process's share of L_SFT.
        """
        share = torch.zeros((), device=self._accelerator.device)
        while self._batches:
            backward_context: AbstractContextManager = context(len(self._batches) == 1)
            with backward_context:
                share += self.backward(model, policy)
        return share

    def metrics(self) -> dict[str, float]:
        """Metrics of the step, over all processes; NaN, which TRL leaves out of its means, without a token."""
        totals = self._accelerator.reduce(self._totals, reduction="sum").tolist()
        nll, correct, weight = (total / self._divisor if self.tokens > 0.0 else math.nan for total in totals)
        return {
            "amft/sft_loss": nll,
            "amft/sft_token_accuracy": correct,
            "amft/token_weight": weight,
            "demonstrations/tokens": self.tokens,
            "demonstrations/epoch": self._drawn.epoch,
        }
