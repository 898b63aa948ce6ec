"""What the algebra of a step sees of the gradient: one part of it at a time, with the optimizer's state beside it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor


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
        step (`int` or `torch.Tensor` of one element):
            Optimizer steps already taken, as the optimizer keeps them; see [`steps_taken`].
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
    step: int | Tensor
    lr: float
    betas: tuple[float, float]
    eps: float


def steps_taken(pieces: list[GradientPiece | None]) -> list[int]:
    """
    Optimizer steps of each piece on the host. A fused optimizer counts on the device, for each parameter; reading the
    counts one by one would wait for the device as often as there are parameters.

    Args:
        pieces (`list[GradientPiece | None]`):
            The pieces of this process.

    Returns:
        `list[int]`: 0 for no piece, and where the optimizer has no state yet.
    """
    steps = [0 if piece is None else piece.step for piece in pieces]
    counts = [step.detach().reshape(()) for step in steps if isinstance(step, Tensor)]
    read = iter(torch.stack(counts).tolist() if counts else [])
    return [int(next(read)) if isinstance(step, Tensor) else int(step) for step in steps]


class GradientShards(ABC):
    """
    The gradients of this process, read and written where the optimizer will find them.

    Attributes:
        num_elements (`int`):
            Number of trainable parameters of the whole model.
        max_grad_norm (`float`):
            Threshold by which the mixed gradient will be clipped; 0 means none.
        device (`torch.device`):
            Where the pieces are.
        held (`bool`):
            Whether the optimizer waits for [`~GradientShards.step`] after the RL segment. Only DeepSpeed is told.
    """

    num_elements: int
    max_grad_norm: float
    device: torch.device
    held: bool = False

    @abstractmethod
    def pieces(self) -> Iterator[GradientPiece | None]:
        """Always as many and in the same order; `None` where there is no gradient, or nothing of it here."""

    @abstractmethod
    def snapshot(self) -> list[Tensor | None]:
        """Copy the pieces, in their own dtype, and reset them: the one gradient-sized buffer of a mixed step."""

    @abstractmethod
    def reset(self) -> None:
        """Empty the buffers for another segment."""

    @abstractmethod
    def sum_over_shards(self, tensor: Tensor) -> Tensor:
        """Sum of a tensor over the processes that hold different parts of the gradient."""

    @abstractmethod
    def backward_context(self, last: bool) -> AbstractContextManager:
        """Context of one backward pass of a segment; only the last one synchronises, none of them steps."""

    @abstractmethod
    def step(self, norm: float) -> None:
        """
        Called when the mixed gradient is written. Where the training loop does not step by itself, this does.

        Args:
            norm (`float`):
                Norm of the gradient that was written.
        """
