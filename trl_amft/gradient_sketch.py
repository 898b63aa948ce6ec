"""
A count sketch: a gradient of D elements kept as k ≪ D numbers whose scalar products are unbiased.

The history that the windowed meta-gradient needs would cost tens of gradient-sized buffers. Element i goes into bucket
i mod k, k prime, with a pseudo-random sign that depends on i alone, so that the sketch of a vector is the sum of the
sketches of its shards, whatever the world size. The cosine of two vectors is kept to about 1/√k. Vectors of at most k
elements are kept as they are.
"""

import random

import torch
from torch import Tensor


# The largest prime below 2^20. A power of two would align the columns of weight matrices with one another.
SKETCH_WIDTH = 1_048_573

TOP_BIT = -(2**31)


class GradientSketch:
    """
    Maps slices of a vector, given by their global offset, into a sketch.

    Args:
        num_elements (`int`):
            D, the number of trainable parameters of the whole model.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the signs.
        width (`int`, *optional*, defaults to `1_048_573`):
            k, the number of buckets. Prime. If D ≤ k nothing is compressed.
        device (`torch.device`, *optional*):
            Where sketches live.
    """

    def __init__(
        self, num_elements: int, seed: int = 0, width: int = SKETCH_WIDTH, device: torch.device | str | None = None
    ):
        self.exact = num_elements <= width
        self.width = num_elements if self.exact else width
        self.seed = seed
        self.device = device
        if not self.exact:
            generator = torch.Generator().manual_seed(seed)
            bits = torch.randint(-(2**31), 2**31, (self.width,), generator=generator, dtype=torch.int64)
            self._bucket_bits = bits.to(torch.int32).to(device)
            rows = range(-(-num_elements // self.width))
            multipliers = torch.tensor([self._row_multiplier(row) for row in rows], dtype=torch.int32)
            self._row_multipliers = multipliers.unsqueeze(1).to(device)

    def new(self) -> Tensor:
        """An empty sketch: `torch.Tensor` of shape (k,), float32."""
        return torch.zeros(self.width, dtype=torch.float32, device=self.device)

    def add_(self, sketch: Tensor, offset: int, values: Tensor) -> None:
        """
        Add a slice of a vector to a sketch, in place.

        Args:
            sketch (`torch.Tensor` of shape (k,)):
                The sketch.
            offset (`int`):
                Global index of the first element of the slice.
            values (`torch.Tensor` of shape (n,)):
                The slice.
        """
        if self.exact:
            sketch[offset : offset + values.numel()].add_(values)
            return
        start = 0
        while start < values.numel():
            row, bucket = divmod(offset + start, self.width)
            left = values.numel() - start
            # Whole rows in one go: on a GPU every call costs as much as thousands of elements.
            rows = left // self.width if bucket == 0 and left >= self.width else 1
            buckets = slice(bucket, min(bucket + left, self.width))
            bits = self._bucket_bits[buckets]
            stop = start + rows * bits.numel()
            part = values[start:stop].to(sketch.dtype).view(rows, -1)
            # The top bit is the sign of a float32 too.
            signs = (bits * self._row_multipliers[row : row + rows]).bitwise_and_(TOP_BIT)
            signed = signs.bitwise_xor_(part.view(torch.int32)).view(torch.float32)
            sketch[buckets].add_(signed.sum(0) if rows > 1 else signed[0])
            start = stop

    def _row_multiplier(self, row: int) -> int:
        # Multiply-shift hashing: an odd multiplier per row of buckets, the top bit of the 32-bit product is the sign.
        multiplier = random.Random(self.seed * 1_000_003 + row).getrandbits(31) | 1
        return multiplier
