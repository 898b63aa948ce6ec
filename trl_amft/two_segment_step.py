"""
The algebra of one optimizer step between its two backward segments and the optimizer.

After the RL segment the gradient is copied aside; after the SFT segment both are there, and one pass over chunks
writes g = (1 − μ) g_RL + μ g_SFT where the optimizer finds it and sketches dθ'/dμ on the way, so that the sensitivity
is never stored at full size.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .gradient_sketch import GradientSketch
from .losses import at_least_float32
from .meta_gradient import adamw_derivative, clipping
from .sharding import CHUNK_SIZE, GradientPiece, GradientShards


@dataclass(frozen=True)
class SegmentProducts:
    """
    Scalar products of the two gradients of a step, over all parameters and processes.

    Args:
        rl_square (`float`):
            ‖g_RL‖².
        sft_square (`float`):
            ‖g_SFT‖².
        inner (`float`):
            ⟨g_RL, g_SFT⟩.
    """

    rl_square: float
    sft_square: float
    inner: float

    @property
    def rl_norm(self) -> float:
        return math.sqrt(self.rl_square)

    @property
    def sft_norm(self) -> float:
        return math.sqrt(self.sft_square)

    @property
    def cosine(self) -> float:
        scale = self.rl_norm * self.sft_norm
        return self.inner / scale if scale > 0.0 else 0.0

    def mixed_norm(self, mu: float) -> float:
        """‖(1 − μ) g_RL + μ g_SFT‖."""
        square = (1 - mu) ** 2 * self.rl_square + 2 * mu * (1 - mu) * self.inner + mu**2 * self.sft_square
        return math.sqrt(max(square, 0.0))

    def inner_with_difference(self, mu: float) -> float:
        """⟨g, d⟩ with d = g_SFT − g_RL."""
        return (1 - mu) * (self.inner - self.rl_square) + mu * (self.sft_square - self.inner)


class TwoSegmentStep:
    """
    Combines the two gradients of each optimizer step.

    Args:
        shards ([`~trl_amft.sharding.GradientShards`]):
            Access to the gradients.
        sketch ([`~trl_amft.gradient_sketch.GradientSketch`]):
            How the sensitivity is kept.
        preconditioner (`str`):
            `"adamw"` or `"sgd"`.
    """

    def __init__(self, shards: GradientShards, sketch: GradientSketch, preconditioner: str):
        self.shards = shards
        self.sketch = sketch
        self.preconditioner = preconditioner
        self._rl_grads: list[Tensor | None] = []

    def sketch_gradient(self) -> tuple[Tensor, float]:
        """
        Sketch of what is in the gradient buffers.

        Returns:
            `tuple[torch.Tensor, float]`: the sketch, of shape (k,), and the norm of the gradient.
        """
        sketch = self.sketch.new()
        squares = []
        for piece in filter(None, self.shards.pieces()):
            for start in range(0, piece.grad.numel(), CHUNK_SIZE):
                chunk = at_least_float32(piece.grad[start : start + CHUNK_SIZE])
                self.sketch.add_(sketch, piece.offset + start, chunk)
                squares.append(chunk.dot(chunk))
        square = self._total(squares)
        return self.shards.sum_over_shards(sketch), math.sqrt(square)

    def store_rl_gradient(self) -> None:
        """Copy g_RL aside and empty the buffers for the SFT segment."""
        self._rl_grads = self.shards.snapshot()

    def products(self) -> SegmentProducts:
        """Scalar products once both gradients are there."""
        squares, sft_squares, inners = [], [], []
        for _, (_, rl, sft) in self._pieces_and_chunks():
            squares.append(rl.dot(rl))
            sft_squares.append(sft.dot(sft))
            inners.append(rl.dot(sft))
        totals = self._totals([squares, sft_squares, inners])
        return SegmentProducts(*totals)

    def combine(
        self, mu: float, products: SegmentProducts, learning_rate: float | None
    ) -> tuple[Tensor, float] | None:
        """
        Write the mixed gradient into the buffers, drop the copy of g_RL and let the optimizer step.

        Args:
            mu (`float`):
                Mixing weight of this step.
            products ([`SegmentProducts`]):
                From [`~TwoSegmentStep.products`].
            learning_rate (`float`, *optional*):
                The rate by which dθ'/dμ is divided, one for all parameters: groups with another rate keep theirs in
                proportion. `None` where dθ'/dμ is not wanted.

        Returns:
            `tuple[torch.Tensor, float]`, *optional*: sketch of dθ'/dμ divided by the learning rate, and its norm;
            `None` if it is not wanted or void (first optimizer step, learning rate 0, no finite norm).
        """
        norm = products.mixed_norm(mu)
        clip = clipping(norm, products.inner_with_difference(mu), self.shards.max_grad_norm)
        sketch = None if learning_rate is None else self.sketch.new()
        squares, valid = [], math.isfinite(norm) and learning_rate != 0.0
        for piece, (start, rl, sft) in self._pieces_and_chunks():
            mixed = torch.lerp(rl, sft, mu)
            piece.grad[start : start + mixed.numel()].copy_(mixed)
            if sketch is None or not valid:
                continue
            rate = piece.lr / learning_rate
            derivative = self._derivative(piece, start, mixed, sft.sub_(rl), clip.scale, clip.shrink, rate)
            if derivative is None:
                valid = False
                continue
            self.sketch.add_(sketch, piece.offset + start, derivative)
            squares.append(derivative.dot(derivative))
        self._rl_grads = []
        self.shards.step(norm)
        if sketch is None:
            return None
        # Every process reaches both sums, whatever it found.
        voids = self._total([torch.tensor(0.0 if valid else 1.0, device=sketch.device)])
        square = self._total(squares)
        sketch = self.shards.sum_over_shards(sketch)
        return (sketch, math.sqrt(square)) if voids == 0.0 and math.isfinite(square) else None

    def _derivative(
        self,
        piece: GradientPiece,
        start: int,
        mixed: Tensor,
        difference: Tensor,
        scale: float,
        shrink: float,
        rate: float,
    ) -> Tensor | None:
        """dθ'/dμ on one chunk at learning rate `rate`; `None` where it is void."""
        if self.preconditioner == "sgd":
            return difference.mul_(-rate)
        if piece.exp_avg is None or piece.exp_avg_sq is None or piece.step < 1:
            return None
        part = slice(start, start + mixed.numel())
        return adamw_derivative(
            grad=scale * mixed,
            grad_derivative=difference.mul_(scale).sub_(mixed, alpha=shrink),
            exp_avg=at_least_float32(piece.exp_avg[part]),
            exp_avg_sq=at_least_float32(piece.exp_avg_sq[part]),
            step=piece.step,
            lr=rate,
            betas=piece.betas,
            eps=piece.eps,
        )

    def _pieces_and_chunks(self) -> Iterator[tuple[GradientPiece, tuple[int, Tensor, Tensor]]]:
        for piece, rl_grad in zip(self.shards.pieces(), self._rl_grads, strict=True):
            if piece is None:
                continue
            for start in range(0, piece.grad.numel(), CHUNK_SIZE):
                part = slice(start, start + CHUNK_SIZE)
                sft = piece.grad[part].to(torch.promote_types(piece.grad.dtype, torch.float32), copy=True)
                rl = at_least_float32(rl_grad[part]) if rl_grad is not None else torch.zeros_like(sft)
                yield piece, (start, rl, sft)

    def _total(self, parts: list[Tensor]) -> float:
        return self._totals([parts])[0]

    def _totals(self, lists: list[list[Tensor]]) -> list[float]:
        """Sums over chunks and shards in float64, with one transfer to the host."""
        parts = [part for chunks in lists for part in chunks]
        values = torch.stack(parts).cpu().double() if parts else torch.zeros(0, dtype=torch.float64)
        sums = [chunks.sum() for chunks in values.split([len(chunks) for chunks in lists])]
        return self.shards.sum_over_shards(torch.stack(sums)).tolist()
