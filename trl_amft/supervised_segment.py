"""The supervised segment of a step: its demonstrations, and L_SFT as a mean over the tokens of the whole step."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .demonstration_source import MapDemonstrations, StreamDemonstrations
from .demonstrations import collate_demonstrations
from .losses import IGNORE_INDEX, sft_loss


if TYPE_CHECKING:
    from .amft_trainer import AMFTTrainer


class SupervisedSegment:
    """
    Draws the demonstrations of a step and runs their forward and backward passes.

    All micro-batches of a step are drawn at its start, because the loss is divided by the number of labelled tokens
    over all of them and all processes.

    Args:
        trainer ([`AMFTTrainer`]):
            Gives the sizes, the accelerator and the loss context.
        demonstrations ([`~trl_amft.demonstration_source.MapDemonstrations`] or the streamed form):
            Where rows come from.
    """

    def __init__(self, trainer: "AMFTTrainer", demonstrations: MapDemonstrations | StreamDemonstrations):
        self.demonstrations = demonstrations
        self.tokens = 0
        self._accelerator = trainer.accelerator
        self._rows = trainer.args.per_device_demonstration_batch_size
        self._pad_token_id = trainer._tokenizer.pad_token_id
        self._aux_loss_coef = trainer.router_aux_loss_coef if trainer.aux_loss_enabled else None
        self._loss_context = trainer.compute_loss_context_manager
        self._batches: list[dict[str, Tensor]] = []
        self._num_batches = 0
        self._totals = torch.zeros(2, device=self._accelerator.device)

    def draw(self, micro_batches: int, consumed: int) -> int:
        """
        Draw the rows of a step.

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
        rank, device = self._accelerator.process_index, self._accelerator.device
        self._batches = []
        self._num_batches = micro_batches
        for _ in range(micro_batches):
            drawn = self.demonstrations.take(self._rows * self._accelerator.num_processes)
            own = drawn[rank * self._rows : (rank + 1) * self._rows]
            batch = collate_demonstrations([row for row in own if row is not None], self._pad_token_id)
            self._batches.append({name: tensor.to(device) for name, tensor in batch.items()})
        local = sum((batch["labels"][:, 1:] != IGNORE_INDEX).sum() for batch in self._batches)
        self.tokens = int(self._accelerator.reduce(local, reduction="sum").item())
        self._totals = torch.zeros(2, device=device)
        return self.demonstrations.consumed

    def backward(self, model: nn.Module) -> Tensor:
        """
        Forward and backward pass of the next micro-batch.

        Returns:
            `torch.Tensor` of shape (): its share of L_SFT; the mean over processes of the sum over micro-batches is
            L_SFT.
        """
        batch = self._batches.pop(0)
        extra = {} if self._aux_loss_coef is None else {"output_router_logits": True}
        with self._loss_context():
            outputs = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False, **extra
            )
            result = sft_loss(outputs.logits, batch["labels"])
            # Gradients are averaged over processes; a mean over all tokens takes their number back.
            loss = result.nll * (self._accelerator.num_processes / max(self.tokens, 1))
            if self._aux_loss_coef is not None:
                loss = loss + self._aux_loss_coef * outputs.aux_loss / self._num_batches
        self._accelerator.backward(loss)
        self._totals += torch.stack([result.nll.detach(), result.correct])
        return loss.detach()

    def backward_all(self, model: nn.Module, context) -> Tensor:
        """
        All micro-batches of the step.

        Args:
            model (`torch.nn.Module`):
                The model as the training loop calls it.
            context (`Callable[[bool], AbstractContextManager]`):
                Context of a backward pass, told whether it is the last.

        Returns:
            `torch.Tensor` of shape (): this process's share of L_SFT.
        """
        share = torch.zeros((), device=self._accelerator.device)
        while self._batches:
            backward_context: AbstractContextManager = context(len(self._batches) == 1)
            with backward_context:
                share += self.backward(model)
        return share

    def metrics(self) -> dict[str, float]:
        """Metrics of the step, over all processes."""
        nll, correct = self._accelerator.reduce(self._totals, reduction="sum").tolist()
        tokens = max(self.tokens, 1)
        return {
            "amft/sft_loss": nll / tokens,
            "amft/sft_token_accuracy": correct / tokens,
            "demonstrations/tokens": float(self.tokens),
            "demonstrations/epoch": self.demonstrations.epoch,
        }
