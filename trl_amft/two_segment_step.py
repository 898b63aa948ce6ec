"""
The algebra of one optimizer step between its two backward segments and the optimizer.

After the first segment, RL or SFT, its gradient is copied aside; after the second both are there, and one pass over
chunks writes g = (1 − μ) g_RL + μ g_SFT where the optimizer finds it and sketches dθ'/dμ on the way, so that the
sensitivity is never stored at full size.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .gradient_chunks import CHUNK_SIZE, CPU_CHUNK_SIZE, GradientChunk, gradient_chunks
from .gradient_sketch import GradientSketch
from .meta_gradient import Clipping, adamw_slope, clipping
from .sharding import GradientPiece, GradientShards, steps_taken


T = TypeVar("T")


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

    def of(self, first: tuple[float, float], second: tuple[float, float]) -> float:
        """⟨a g_RL + b g_SFT, a' g_RL + b' g_SFT⟩ for (a, b) and (a', b')."""
        (rl, sft), (other_rl, other_sft) = first, second
        crossed = rl * other_sft + sft * other_rl
        return rl * other_rl * self.rl_square + crossed * self.inner + sft * other_sft * self.sft_square


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
        self._stored: list[Tensor | None] = []
        self._rl_is_stored = True
        on_cpu = shards.device.type == "cpu"
        self._chunk_size = CPU_CHUNK_SIZE if on_cpu else CHUNK_SIZE
        self._together = not on_cpu

    def sketch_gradient(self) -> tuple[Tensor, float]:
        """
        Sketch of what is in the gradient buffers.

        Returns:
            `tuple[torch.Tensor, float]`: the sketch, of shape (k,), and the norm of the gradient.
        """
        sketch = self.sketch.new()
        squares = []
        pieces = list(self.shards.pieces())
        for chunk in self._chunks(pieces, [0] * len(pieces)):
            gradient = chunk.gradient()
            chunk.add_to(sketch, self.sketch, gradient)
            squares.append(gradient.dot(gradient))
        square = self._total(squares)
        return self.shards.sum_over_shards(sketch), math.sqrt(square)

    def store_rl_gradient(self) -> None:
        """Copy g_RL aside and empty the buffers for the SFT segment."""
        self._stored, self._rl_is_stored = self.shards.snapshot(), True

    def store_sft_gradient(self) -> None:
        """Copy g_SFT aside and empty the buffers for the RL segment, where the SFT segment comes first."""
        self._stored, self._rl_is_stored = self.shards.snapshot(), False

    def products(self) -> SegmentProducts:
        """Scalar products once both gradients are there."""
        squares, sft_squares, inners = [], [], []
        pieces = self._both()
        for chunk in self._chunks(pieces, [0] * len(pieces)):
            rl, sft = self._in_order(chunk.copied(self._stored), chunk.gradient())
            squares.append(rl.dot(rl))
            sft_squares.append(sft.dot(sft))
            inners.append(rl.dot(sft))
        totals = self._totals([squares, sft_squares, inners])
        return SegmentProducts(*totals)

    def combine(
        self, mu: float, products: SegmentProducts, learning_rate: float | None
    ) -> tuple[Tensor, float] | None:
        """
        Write (1 − μ) g_RL + μ g_SFT into the buffers; see [`~TwoSegmentStep.mix`].

        Args:
            mu (`float`):
                Mixing weight of this step.
            products ([`SegmentProducts`]):
                From [`~TwoSegmentStep.products`].
            learning_rate (`float`, *optional*):
                As there.

        Returns:
            `tuple[torch.Tensor, float]`, *optional*: sketch of dθ'/dμ divided by the learning rate, and its norm.
        """
        found = self.mix((1.0 - mu, mu), [(-1.0, 1.0)], products, learning_rate)
        return None if found is None else found[0]

    def mix(
        self,
        weights: tuple[float, float],
        directions: list[tuple[float, float]],
        products: SegmentProducts,
        learning_rate: float | None,
    ) -> list[tuple[Tensor, float]] | None:
        """
        Write the mixed gradient into the buffers, drop the copy of the first gradient and let the optimizer step.

        Args:
            weights (`tuple[float, float]`):
                (a, b) of g = a g_RL + b g_SFT.
            directions (`list[tuple[float, float]]`):
                dg/dw for each weight w whose effect is asked for, as coefficients of g_RL and g_SFT.
            products ([`SegmentProducts`]):
                From [`~TwoSegmentStep.products`].
            learning_rate (`float`, *optional*):
                The rate by which dθ'/dw is divided, one for all parameters: groups with another rate keep theirs in
                proportion. `None` where dθ'/dw is not wanted.

        Returns:
            `list[tuple[torch.Tensor, float]]`, *optional*: per direction the sketch of dθ'/dw divided by the learning
            rate, and its norm; `None` if it is not wanted or void (first optimizer step, learning rate 0, no finite
            norm).
        """
        norm = math.sqrt(max(products.of(weights, weights), 0.0))
        clips = [clipping(norm, products.of(weights, d), self.shards.max_grad_norm) for d in directions]
        sketches = torch.stack([self.sketch.new() for _ in directions]) if learning_rate is not None else None
        squares: list[list[Tensor]] = [[] for _ in directions]
        rate = learning_rate if learning_rate and math.isfinite(norm) else None
        valid = self._write(weights, directions, clips, rate, sketches, squares)
        self._stored = []
        self.shards.step(norm)
        if sketches is None:
            return None
        # Every process reaches all sums, whatever it found.
        voids, *totals = self._totals(squares, 0.0 if valid else 1.0)
        sketches = self.shards.sum_over_shards(sketches)
        if voids > 0.0 or not all(map(math.isfinite, totals)):
            return None
        return [(sketch, math.sqrt(total)) for sketch, total in zip(sketches, totals, strict=True)]

    def _write(
        self,
        weights: tuple[float, float],
        directions: list[tuple[float, float]],
        clips: list[Clipping],
        learning_rate: float | None,
        sketches: Tensor | None,
        squares: list[list[Tensor]],
    ) -> bool:
        """
        The mixed gradient into the buffers, and dθ'/dw by `learning_rate` onto `sketches`, squares of its norm into
        `squares`. What it needs is gone when the optimizer steps.

        Returns:
            `bool`: whether there is a dθ'/dw.
        """
        pieces = self._both()
        counted = learning_rate is not None and self.preconditioner == "adamw"
        steps = steps_taken(pieces) if counted else [1] * len(pieces)
        begun = all(step >= 1 for piece, step in zip(pieces, steps, strict=True) if piece is not None)
        valid = learning_rate is not None and begun
        own, other = self._in_order(*weights)
        for chunk in self._chunks(pieces, steps):
            stored, present = chunk.copied(self._stored), chunk.gradient()
            rl, sft = self._in_order(stored, present)
            derivatives = [torch.mul(rl, d[0]).add_(sft, alpha=d[1]) for d in directions] if valid else []
            # The copy is not needed any more.
            mixed = stored.mul_(own).add_(present, alpha=other)
            chunk.write(mixed)
            if learning_rate is None or sketches is None or not valid:
                continue
            rate = chunk.piece.lr / learning_rate
            if self.preconditioner == "sgd":
                # As printed: without clipping.
                derivatives = [derivative.mul_(-rate) for derivative in derivatives]
            else:
                clipped = mixed.mul_(clips[0].scale)
                slope = self._slope(chunk, clipped, rate)
                for derivative, clip in zip(derivatives, clips, strict=True):
                    derivative.mul_(clip.scale).sub_(clipped, alpha=clip.shrink / clip.scale).mul_(slope)
            for sketch, square, derivative in zip(sketches, squares, derivatives, strict=True):
                chunk.add_to(sketch, self.sketch, derivative)
                square.append(derivative.dot(derivative))
        return valid

    @staticmethod
    def _slope(chunk: GradientChunk, clipped: Tensor, rate: float) -> Tensor:
        """dθ'/dĝ on one chunk at learning rate `rate`, elementwise."""
        exp_avg, exp_avg_sq = chunk.moments()
        return adamw_slope(
            grad=clipped,
            exp_avg=exp_avg,
            exp_avg_sq=exp_avg_sq,
            step=chunk.step,
            lr=rate,
            betas=chunk.piece.betas,
            eps=chunk.piece.eps,
        )

    def _both(self) -> list[GradientPiece | None]:
        """The pieces once there is a copy of each."""
        pieces = list(self.shards.pieces())
        assert len(pieces) == len(self._stored), f"{len(pieces)} pieces of the gradient, {len(self._stored)} copies"
        return pieces

    def _chunks(self, pieces: list[GradientPiece | None], steps: list[int]) -> Iterator[GradientChunk]:
        return gradient_chunks(pieces, steps, self._chunk_size, self._together)

    def _in_order(self, first: T, second: T) -> tuple[T, T]:
        """What belongs to (stored, present) as (RL, SFT), and the other way round."""
        return (first, second) if self._rl_is_stored else (second, first)

    def _total(self, parts: list[Tensor]) -> float:
        return self._totals([parts])[0]

    def _totals(self, lists: list[list[Tensor]], *host: float) -> list[float]:
        """Sums over shards of numbers, and of lists of chunks' scalars, in float64; with one transfer to the host."""
        parts = [part for chunks in lists for part in chunks]
        values = torch.stack(parts).cpu().double() if parts else torch.zeros(0, dtype=torch.float64)
        sums = [chunks.sum() for chunks in values.split([len(chunks) for chunks in lists])]
        own = torch.stack([torch.tensor(number, dtype=torch.float64) for number in host] + sums)
        return self.shards.sum_over_shards(own).tolist()
