"""
The gradient in chunks: parts of large pieces, and on a GPU small pieces together.

A chunk bounds the memory of the elementwise passes. On a GPU every call costs as much as some hundred thousand
elements, and a model has hundreds of small pieces, so that those which the optimizer treats alike share a chunk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .gradient_sketch import GradientSketch
from .losses import at_least_float32
from .sharding import GradientPiece


# Elements: large enough for a GPU, small enough to need no second gradient. On a CPU what a chunk needs stays in the
# cache and is not taken from the system anew each time.
CHUNK_SIZE, CPU_CHUNK_SIZE = 16_777_216, 262_144


@dataclass(frozen=True)
class Part:
    """
    Args:
        index (`int`):
            Number of the piece.
        piece ([`~trl_amft.sharding.GradientPiece`]):
            The piece.
        elements (`slice`):
            What of it lies in the chunk.
    """

    index: int
    piece: GradientPiece
    elements: slice

    @property
    def offset(self) -> int:
        """Index of its first element in the vector of all trainable parameters."""
        return self.piece.offset + self.elements.start

    @property
    def size(self) -> int:
        return self.elements.stop - self.elements.start


class GradientChunk:
    """
    Parts that are computed in one go.

    Args:
        parts (`list[Part]`):
            At least one; all of one learning rate, `betas`, `eps` and number of steps.
        step (`int`):
            Optimizer steps already taken.
    """

    def __init__(self, parts: list[Part], step: int):
        self.parts = parts
        self.step = step

    @property
    def piece(self) -> GradientPiece:
        """One whose learning rate, `betas` and `eps` are those of all."""
        return self.parts[0].piece

    def gradient(self) -> Tensor:
        """`torch.Tensor` of shape (n,), at least float32: the gradient, a view of it where nothing has to be moved."""
        return _together([part.piece.grad[part.elements] for part in self.parts])

    def copied(self, copies: Sequence[Tensor | None]) -> Tensor:
        """The same elements of copies of the pieces; zeros where there is none."""
        found = []
        for part in self.parts:
            copy, present = copies[part.index], part.piece.grad[part.elements]
            found.append(torch.zeros_like(present) if copy is None else copy[part.elements])
        return _together(found)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Adam's first and second moments before the step."""
        first, second = [], []
        for part in self.parts:
            assert part.piece.exp_avg is not None and part.piece.exp_avg_sq is not None, "a step was made"
            first.append(part.piece.exp_avg[part.elements])
            second.append(part.piece.exp_avg_sq[part.elements])
        return _together(first), _together(second)

    def write(self, values: Tensor) -> None:
        """Write a gradient to where the optimizer will find it."""
        views = [part.piece.grad[part.elements] for part in self.parts]
        torch._foreach_copy_(views, list(values.split([part.size for part in self.parts])))

    def add_to(self, sketch: Tensor, form: GradientSketch, values: Tensor) -> None:
        """Add values of this chunk to a sketch, neighbours at once."""
        start = stop = 0
        for part, following in zip(self.parts, [*self.parts[1:], None], strict=True):
            stop += part.size
            if following is None or following.offset != part.offset + part.size:
                form.add_(sketch, part.offset + part.size - (stop - start), values[start:stop])
                start = stop


def gradient_chunks(
    pieces: Sequence[GradientPiece | None], steps: Sequence[int], size: int, together: bool
) -> Iterator[GradientChunk]:
    """
    Args:
        pieces (`Sequence[GradientPiece | None]`):
            The gradient of this process.
        steps (`Sequence[int]`):
            Optimizer steps of each piece.
        size (`int`):
            Most elements of a chunk.
        together (`bool`):
            Whether pieces may share a chunk.

    Yields:
        [`GradientChunk`]: all elements of all pieces, in their order.
    """
    parts: list[Part] = []
    shared: tuple = ()
    for index, (piece, step) in enumerate(zip(pieces, steps, strict=True)):
        if piece is None:
            continue
        own = (step, piece.lr, piece.betas, piece.eps)
        for start in range(0, piece.grad.numel(), size):
            part = Part(index, piece, slice(start, min(start + size, piece.grad.numel())))
            full = sum(other.size for other in parts) + part.size > size
            if parts and (not together or own != shared or full):
                yield GradientChunk(parts, shared[0])
                parts = []
            parts.append(part)
            shared = own
    if parts:
        yield GradientChunk(parts, shared[0])


def _together(tensors: list[Tensor]) -> Tensor:
    return at_least_float32(tensors[0] if len(tensors) == 1 else torch.cat(tensors))
