"""Scalar products of sketches: unbiased, with a cosine error of about 1/√k, whatever the sharding."""

import math
import random

import pytest
import torch

from trl_amft.gradient_sketch import GradientSketch


WIDTH = 1009
SIZE = 200 * WIDTH + 17


def sketched(vector: torch.Tensor, seed: int = 0, splits: tuple[int, ...] = ()) -> torch.Tensor:
    sketch = GradientSketch(vector.numel(), seed=seed, width=WIDTH)
    result = sketch.new()
    bounds = [0, *splits, vector.numel()]
    for start, stop in zip(bounds, bounds[1:], strict=False):
        sketch.add_(result, start, vector[start:stop])
    return result


def test_short_vectors_are_kept_as_they_are():
    vector = torch.randn(50, generator=torch.Generator().manual_seed(0))
    sketch = GradientSketch(50, width=WIDTH)
    result = sketch.new()
    sketch.add_(result, 20, vector[20:])
    sketch.add_(result, 0, vector[:20])
    assert torch.equal(result, vector)


def test_sketch_does_not_depend_on_the_sharding():
    vector = torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    whole = sketched(vector)
    for splits in [(3,), (WIDTH,), (WIDTH - 1, 5 * WIDTH + 2, SIZE - 1)]:
        torch.testing.assert_close(sketched(vector, splits=splits), whole, rtol=1e-4, atol=1e-4)


def test_each_element_has_the_sign_of_its_row_and_bucket():
    """Element by element, as the module says it: i mod k, and the top bit of a 32-bit product."""
    size, offset = 6 * WIDTH, 2 * WIDTH - 5
    sketch = GradientSketch(9 * WIDTH, seed=3, width=WIDTH)
    bits = torch.randint(-(2**31), 2**31, (WIDTH,), generator=torch.Generator().manual_seed(3)).tolist()
    vector = torch.randn(size, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(WIDTH, dtype=torch.float64)
    for index, value in enumerate(vector.tolist()):
        row, bucket = divmod(offset + index, WIDTH)
        multiplier = random.Random(3 * 1_000_003 + row).getrandbits(31) | 1
        expected[bucket] += -value if bits[bucket] * multiplier >> 31 & 1 else value
    found = sketch.new()
    sketch.add_(found, offset, vector)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("structure", ["noise", "outlier columns"])
def test_products_are_unbiased_with_the_expected_spread(structure):
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(SIZE, generator=generator) for _ in range(2))
    b = b + 0.05 * a
    if structure == "outlier columns":
        # Every 64th element is large, as the columns of some weight matrices are.
        a[::64] *= 20.0
        b[::64] *= 20.0
    scale = (a.norm() * b.norm()).item()
    true = a.dot(b).item() / scale
    errors = torch.tensor(
        [sketched(a, seed).dot(sketched(b, seed)).item() / scale - true for seed in range(60)], dtype=torch.float64
    )
    spread = errors.std().item()
    assert 0.5 / math.sqrt(WIDTH) < spread < 2.0 / math.sqrt(WIDTH)
    assert abs(errors.mean().item()) < 4 * spread / math.sqrt(60)


def test_signs_are_balanced_and_differ_between_rows():
    sketch = GradientSketch(SIZE, width=WIDTH)
    signs = []
    for row in range(50):
        result = sketch.new()
        sketch.add_(result, row * WIDTH, torch.ones(WIDTH))
        signs.append(result)
    signs = torch.stack(signs)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    agreement = (signs @ signs.T / WIDTH)[~torch.eye(50, dtype=torch.bool)]
    assert agreement.abs().max() < 6 / math.sqrt(WIDTH)
    assert abs(signs.mean().item()) < 5 / math.sqrt(signs.numel())
