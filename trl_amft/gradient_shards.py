"""
Where the gradients are, and what the optimizer knows about them, for each way of distributing a model.

The rest of the package sees one interface: pieces of the gradient that can be read and written in place, a reset
between the two segments of a step, and a sum over shards. Sharded forms are further classes with these members.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn


if TYPE_CHECKING:
    from .zero_gradients import ZeroGradients


# Elements per chunk of the elementwise passes: large enough for a GPU, small enough to need no second gradient.
CHUNK_SIZE = 4_194_304

ADAM_STATE = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class GradientPiece:
    """
    One parameter's gradient, or the local part of it.

    Args:
        offset (`int`):
            Index of its first element in the vector of all trainable parameters of the model.
        grad (`torch.Tensor` of shape (n,)):
            View of the gradient; writing to it changes what the optimizer will see.
        exp_avg (`torch.Tensor` of shape (n,), *optional*):
            Adam's first moment before the step; `None` where the optimizer has no such state yet.
        exp_avg_sq (`torch.Tensor` of shape (n,), *optional*):
            Adam's second moment before the step.
        step (`int`):
            Optimizer steps already taken.
        lr (`float`):
            Learning rate of the coming step.
        betas (`tuple[float, float]`):
            Adam's decay rates.
        eps (`float`):
            Adam's ε.
    """

    offset: int
    grad: Tensor
    exp_avg: Tensor | None
    exp_avg_sq: Tensor | None
    step: int
    lr: float
    betas: tuple[float, float]
    eps: float


class ReplicatedGradients:
    """
    Every process holds the whole gradient: one process, or DDP.

    Args:
        model (`torch.nn.Module`):
            The model as the training loop calls it, wrapped or not.
        optimizer (`torch.optim.Optimizer`):
            Its optimizer, possibly wrapped by accelerate.
        accelerator ([`~accelerate.Accelerator`]):
            Gives the context that keeps a backward pass from synchronising.
        max_grad_norm (`float`):
            Threshold by which the training loop will clip; 0 means none.
    """

    # Under DeepSpeed, whether the step waits for the mixed gradient. Elsewhere it always does.
    held = False

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, max_grad_norm: float
    ):
        self._model = model
        self.max_grad_norm = max_grad_norm
        self._accelerator = accelerator
        self._optimizer = optimizer
        self._group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self.num_elements = sum(p.numel() for p in self._parameters)

    def pieces(self) -> Iterator[GradientPiece | None]:
        """One entry per trainable parameter, always in the same order; `None` where it has no gradient."""
        offset = 0
        for parameter in self._parameters:
            yield self._piece(parameter, offset) if parameter.grad is not None else None
            offset += parameter.numel()

    def _piece(self, parameter: nn.Parameter, offset: int) -> GradientPiece:
        if not parameter.grad.is_contiguous():
            parameter.grad = parameter.grad.contiguous()
        group = self._group_of[id(parameter)]
        state = self._optimizer.state.get(parameter, {})
        known = all(name in state for name in ADAM_STATE)
        return GradientPiece(
            offset=offset,
            grad=parameter.grad.view(-1),
            exp_avg=state["exp_avg"].reshape(-1) if known else None,
            exp_avg_sq=state["exp_avg_sq"].reshape(-1) if known else None,
            step=int(state["step"]) if known else 0,
            lr=float(group["lr"]),
            betas=group.get("betas", (0.0, 0.0)),
            eps=group.get("eps", 0.0),
        )

    def snapshot(self) -> list[Tensor | None]:
        """Copy the gradient, in its own dtype, and reset it: the one gradient-sized buffer of a mixed step."""
        copies = [p.grad.detach().reshape(-1).clone() if p.grad is not None else None for p in self._parameters]
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()
        return copies

    def reset(self) -> None:
        """Empty the buffers."""
        self._model.zero_grad()

    def sum_over_shards(self, tensor: Tensor) -> Tensor:
        """Sum of a tensor over the processes that hold different parts of the gradient: here it is whole."""
        return tensor

    def backward_context(self, last: bool) -> AbstractContextManager:
        """Context of one backward pass of a segment; only the last one synchronises."""
        if last or self._accelerator.distributed_type == DistributedType.NO:
            return nullcontext()
        return self._accelerator.no_sync(self._model)

    def step(self, norm: float) -> None:
        """Called when the mixed gradient, of this norm, is written: the training loop does the rest."""


def open_gradients(
    model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, max_grad_norm: float
) -> "ReplicatedGradients | ZeroGradients":
    """Access to the gradients in the form that this run keeps them; see [`ReplicatedGradients`]."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        from .zero_gradients import zero_gradients

        return zero_gradients(model, accelerator)
    return ReplicatedGradients(model, optimizer, accelerator, max_grad_norm)
