"""Every process holds the whole gradient: one process, or DDP."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from .interface import ADAM_STATE, GradientPiece, GradientShards


class ReplicatedGradients(GradientShards):
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

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, max_grad_norm: float
    ):
        self._model = model
        self.max_grad_norm = max_grad_norm
        self._accelerator = accelerator
        self._optimizer = optimizer
        self._group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if left := [name for name, p in trained.items() if id(p) not in self._group_of]:
            raise ValueError(
                f"optimizers: the one given lacks {left[0]} and {len(left) - 1} more trainable parameters; set their "
                "requires_grad to False, or give them to it"
            )
        self._parameters = list(trained.values())
        self.num_elements = sum(p.numel() for p in self._parameters)
        self.device = accelerator.device

    def pieces(self) -> Iterator[GradientPiece | None]:
        offset = 0
        for parameter in self._parameters:
            yield self._piece(parameter, offset)
            offset += parameter.numel()

    def _piece(self, parameter: nn.Parameter, offset: int) -> GradientPiece | None:
        if parameter.grad is None:
            return None
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
            step=state["step"] if known else 0,
            lr=float(group["lr"]),
            betas=group.get("betas", (0.0, 0.0)),
            eps=group.get("eps", 0.0),
        )

    def snapshot(self) -> list[Tensor | None]:
        copies = [p.grad.detach().reshape(-1).clone() if p.grad is not None else None for p in self._parameters]
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()
        return copies

    def reset(self) -> None:
        self._model.zero_grad()

    def sum_over_shards(self, tensor: Tensor) -> Tensor:
        return tensor

    def backward_context(self, last: bool) -> AbstractContextManager:
        if self._accelerator.distributed_type == DistributedType.NO:
            return nullcontext()
        if not last:
            return self._accelerator.no_sync(self._model)
        # Settled by the loop for this micro-batch, or for all.
        every = self._accelerator.gradient_state.plugin_kwargs.get("sync_each_batch", False)
        return nullcontext() if every or self._accelerator.sync_gradients else self._synchronised()

    @contextmanager
    def _synchronised(self) -> Iterator[None]:
        """For a segment of our own among the first micro-batches of a step, where the loop asks not to synchronise."""
        self._synchronise(True)
        try:
            yield
        finally:
            self._synchronise(False)

    def _synchronise(self, wanted: bool) -> None:
        model: Any = self._model
        model.require_backward_grad_sync = wanted

    def step(self, norm: float) -> None:
        """The training loop steps by itself."""
