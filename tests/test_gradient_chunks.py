"""Small pieces of the gradient that share a chunk, as on a GPU, against one chunk per piece."""

import pytest
import torch
from accelerate import Accelerator

import toy
from trl_amft import two_segment_step
from trl_amft.gradient_chunks import gradient_chunks
from trl_amft.gradient_sketch import GradientSketch
from trl_amft.sharding import GradientPiece, ReplicatedGradients
from trl_amft.two_segment_step import TwoSegmentStep


def piece(offset: int, size: int, **overrides) -> GradientPiece:
    grad = torch.arange(offset, offset + size, dtype=torch.float32)
    settings = {"step": 1, "lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8} | overrides
    return GradientPiece(offset=offset, grad=grad, exp_avg=None, exp_avg_sq=None, **settings)


def elements(chunk) -> list[int]:
    return [int(value) for value in chunk.gradient()]


@pytest.mark.parametrize("together", [True, False])
def test_every_element_once_and_in_order(together):
    pieces = [piece(0, 3), piece(3, 25), None, piece(40, 4), piece(44, 2, lr=0.2), piece(46, 5, lr=0.2)]
    chunks = list(gradient_chunks(pieces, [1, 1, 0, 1, 1, 2], 10, together))
    expected = [*range(28), *range(40, 51)]
    assert [element for chunk in chunks for element in elements(chunk)] == expected
    assert max(chunk.gradient().numel() for chunk in chunks) == 10
    # The long one is cut into 10, 10 and 5, and what follows fits beside its rest; other rates and steps do not.
    sizes = [3, 10, 10, 9, 2, 5] if together else [3, 10, 10, 5, 4, 2, 5]
    assert [chunk.gradient().numel() for chunk in chunks] == sizes
    assert [(chunk.step, chunk.piece.lr) for chunk in chunks[-2:]] == [(1, 0.2), (2, 0.2)]


@pytest.mark.parametrize("other", [{"lr": 0.2}, {"betas": (0.8, 0.99)}, {"betas": (0.9, 0.9)}, {"eps": 1e-6}])
def test_what_the_optimizer_treats_otherwise_is_apart(other):
    pieces = [piece(0, 3), piece(3, 2), piece(5, 2, **other), piece(7, 1, **other)]
    assert [chunk.gradient().numel() for chunk in gradient_chunks(pieces, [1] * 4, 100, together=True)] == [5, 3]


def test_neighbours_reach_the_sketch_at_once():
    pieces = [piece(0, 3), piece(3, 2), piece(9, 4), None, piece(20, 1)]
    (chunk,) = gradient_chunks(pieces, [1] * 5, 100, together=True)
    calls = []

    class Form:
        def add_(self, sketch, offset, values):
            calls.append((offset, values.tolist()))

    chunk.add_to(torch.zeros(1), Form(), chunk.gradient())
    assert calls == [(0, [0, 1, 2, 3, 4]), (9, [9, 10, 11, 12]), (20, [20])]


@pytest.mark.parametrize("preconditioner", ["adamw", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_is_the_same(monkeypatch, preconditioner, dtype):
    monkeypatch.setattr(two_segment_step, "CPU_CHUNK_SIZE", 8000)
    apart, together = (one_step(shared, preconditioner, dtype) for shared in (False, True))
    assert together["chunks"] < apart["chunks"] / 2
    for name in ("utility", "sensitivity"):
        (sketch, norm), (expected, expected_norm) = together[name], apart[name]
        torch.testing.assert_close(sketch, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
        assert norm == pytest.approx(expected_norm, rel=1e-5)
    assert torch.equal(together["gradient"], apart["gradient"])


def one_step(together: bool, preconditioner: str, dtype: torch.dtype) -> dict:
    torch.manual_seed(0)
    model = toy.model()[0].to(dtype)
    parameters = list(model.parameters())
    half = len(parameters) // 2
    groups = [{"params": parameters[:half]}, {"params": parameters[half:], "lr": 3e-2, "betas": (0.8, 0.95)}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for parameter in parameters[1:]:
        parameter.grad = torch.randn_like(parameter)
    # One without a gradient in the first segment, one in neither.
    parameters[0].grad = parameters[5].grad = None
    shards = ReplicatedGradients(model, optimizer, Accelerator(cpu=True), max_grad_norm=1.0)
    algebra = TwoSegmentStep(shards, GradientSketch(shards.num_elements, width=1009), preconditioner)
    algebra._together = together
    chunks = list(algebra._chunks(list(shards.pieces()), [1] * len(parameters)))
    utility = algebra.sketch_gradient()
    algebra.store_rl_gradient()
    for index, parameter in enumerate(parameters):
        if index != 5:
            parameter.grad = torch.randn_like(parameter)
    sensitivity = algebra.combine(0.3, algebra.products(), 1e-2)
    gradient = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    return {"chunks": len(chunks), "utility": utility, "sensitivity": sensitivity, "gradient": gradient}
