"""
Gradients under PyTorch's FSDP2: every parameter is a DTensor, cut by rows, and so are its gradient and Adam's moments.

Rows that are cut off a parameter are contiguous in it, so that a shard has one place in the vector of all trainable
parameters, whatever the number of processes. Under hybrid sharding the shards exist several times; sums go over the
processes of one copy.
"""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from .interface import ADAM_STATE, GradientPiece
from .replicated import ReplicatedGradients


class FsdpGradients(ReplicatedGradients):
    """
    The shards of this process; the arguments are those of [`ReplicatedGradients`].

    Raises:
        `ValueError`: for a trainable parameter that is not cut by rows along one dimension of the device mesh.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, max_grad_norm: float
    ):
        super().__init__(model, optimizer, accelerator, max_grad_norm)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        meshes = {_sharded_dimension(names[id(parameter)], parameter) for parameter in self._parameters}
        if len(meshes) != 1:
            raise ValueError(f"FSDP shards over {len(meshes)} device meshes: expert parallelism is not supported")
        mesh, dimension = meshes.pop()
        self._group = mesh.get_group(dimension)
        self._rank, self._size = mesh.get_local_rank(dimension), mesh.size(dimension)
        self._device = accelerator.device
        # With CPU offload the shards are not where the model computes.
        self.device = _shard(self._parameters[0]).device

    def _piece(self, parameter: nn.Parameter, offset: int) -> GradientPiece | None:
        if parameter.grad is None:
            return None
        grad = _shard(parameter.grad)
        if grad.numel() == 0:
            return None
        rows = -(-parameter.shape[0] // self._size)
        start = self._rank * rows * (parameter.numel() // parameter.shape[0])
        group = self._group_of[id(parameter)]
        state = self._optimizer.state.get(parameter, {})
        known = all(name in state for name in ADAM_STATE)
        return GradientPiece(
            offset=offset + start,
            grad=grad.view(-1),
            exp_avg=_local(state["exp_avg"]) if known else None,
            exp_avg_sq=_local(state["exp_avg_sq"]) if known else None,
            step=_local(state["step"]) if known else 0,
            lr=float(group["lr"]),
            betas=group.get("betas", (0.0, 0.0)),
            eps=group.get("eps", 0.0),
        )

    def snapshot(self) -> list[Tensor | None]:
        copies = [piece.grad.clone() if piece is not None else None for piece in self.pieces()]
        for parameter in self._parameters:
            if parameter.grad is not None:
                _shard(parameter.grad).zero_()
        return copies

    def _synchronise(self, wanted: bool) -> None:
        model: Any = self._model
        model.set_requires_gradient_sync(wanted)

    def sum_over_shards(self, tensor: Tensor) -> Tensor:
        total = tensor.to(self._device)
        torch.distributed.all_reduce(total, group=self._group)
        return total


def _shard(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _local(tensor: Tensor) -> Tensor:
    return _shard(tensor).reshape(-1)


def _sharded_dimension(name: str, parameter: nn.Parameter) -> tuple:
    """The mesh and its dimension over which the rows of a parameter are cut."""
    if isinstance(parameter, DTensor):
        cut = [dimension for dimension, placement in enumerate(parameter.placements) if not placement.is_replicate()]
        if len(cut) == 1 and parameter.placements[cut[0]] == Shard(0):
            return parameter.device_mesh, cut[0]
    placements = getattr(parameter, "placements", None)
    raise ValueError(
        f"the trainable parameter {name!r} has the placements {placements}: only FSDP2 alone, which cuts every "
        "parameter by rows, is supported; remove `ignored_modules` and tensor parallelism"
    )
