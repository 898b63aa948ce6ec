"""
Where the gradients are, and what the optimizer knows about them, for each way of distributing a model.

The rest of the package sees one interface, [`GradientShards`]: pieces of the gradient that can be read and written in
place, a reset between the two segments of a step, and a sum over shards.
"""

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from .interface import GradientPiece, GradientShards, steps_taken
from .replicated import ReplicatedGradients


def open_gradients(
    model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, max_grad_norm: float
) -> GradientShards:
    """
    Access to the gradients in the form that this run keeps them.

    Args:
        model (`torch.nn.Module`):
            The model as the training loop calls it.
        optimizer (`torch.optim.Optimizer`):
            Its optimizer, possibly wrapped by accelerate.
        accelerator ([`~accelerate.Accelerator`]):
            Tells the way of distributing.
        max_grad_norm (`float`):
            Threshold by which the training loop will clip; 0 means none. DeepSpeed has its own.

    Returns:
        [`GradientShards`]
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        from .zero import zero_gradients

        return zero_gradients(model, accelerator)
    if accelerator.distributed_type == DistributedType.FSDP:
        from .fsdp import FsdpGradients

        return FsdpGradients(model, optimizer, accelerator, max_grad_norm)
    return ReplicatedGradients(model, optimizer, accelerator, max_grad_norm)


__all__ = [
    "GradientPiece",
    "GradientShards",
    "ReplicatedGradients",
    "open_gradients",
    "steps_taken",
]
