"""
Gradients under DeepSpeed ZeRO: each process holds shards, laid out by the engine's own tables.

ZeRO-1 and 2 concatenate parameters into flat groups and cut each group into equal parts, one per process. ZeRO-3 cuts
every parameter. Both pad. A shard is addressed by the place of its elements in the vector of all trainable parameters,
so that sketches do not depend on how the vector was cut.

DeepSpeed reduces a segment in the backward pass that it is told is the last one, and steps when told to. Two such
backward passes without a reset between them would overwrite (ZeRO-1 and 2) or add up (ZeRO-3).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils.deepspeed import DeepSpeedEngineWrapper
from torch import Tensor, nn

from .interface import ADAM_STATE, GradientPiece, GradientShards


# Relative difference between the own norm of the mixed gradient and DeepSpeed's that counts as rounding.
NORM_TOLERANCE = 1e-3


class HeldEngine(DeepSpeedEngineWrapper):
    """
    accelerate's wrapper of a DeepSpeed engine, except that the optimizer can be made to wait.

    Args:
        engine (`deepspeed.DeepSpeedEngine`):
            The engine.
    """

    def __init__(self, engine: Any):
        super().__init__(engine)
        self.held = False
        # Inside a segment of our own: whether its last backward pass runs. `None` leaves it to the training loop.
        self.last: bool | None = None

    def backward(self, loss, sync_gradients=True, **kwargs):
        last = sync_gradients if self.last is None else self.last
        self.engine.set_gradient_accumulation_boundary(is_boundary=last)
        # Losses are divided already, as transformers does it.
        self.engine.backward(loss, **{**kwargs, "scale_wrt_gas": False})
        if last and self.last is None and not self.held:
            self.engine.step()


class ZeroGradients(GradientShards):
    """
    The shards of this process.

    Args:
        engine (`deepspeed.DeepSpeedEngine`):
            The model as the training loop calls it.
        accelerator ([`~accelerate.Accelerator`]):
            Its engine wrapper is replaced by a [`HeldEngine`].
    """

    def __init__(self, engine: Any, accelerator: Accelerator):
        self._engine = engine
        self._zero: Any = engine.optimizer
        self._base = self._zero.optimizer
        self._device = accelerator.device
        self.device = accelerator.device
        self.max_grad_norm = engine.gradient_clipping()
        self._parameters = [p for p in engine.module.parameters() if p.requires_grad]
        numels = [getattr(p, "ds_numel", p.numel()) for p in self._parameters]
        self.num_elements = sum(numels)
        starts = accumulate(numels, initial=0)
        self._start_of = {id(p): start for p, start in zip(self._parameters, starts, strict=False)}
        self._held_engine = HeldEngine(engine)
        accelerator.deepspeed_engine_wrapped = self._held_engine

    @property
    def held(self) -> bool:
        return self._held_engine.held

    @held.setter
    def held(self, value: bool) -> None:
        self._held_engine.held = value

    def _piece(self, offset: int, grad: Tensor, flat: Tensor, part: slice, group: dict) -> GradientPiece:
        """A shard whose optimizer state is `part` of that of the flat parameter `flat`."""
        state = self._base.state.get(flat, {})
        known = all(name in state for name in ADAM_STATE)
        return GradientPiece(
            offset=offset,
            grad=grad,
            exp_avg=state["exp_avg"].view(-1)[part] if known else None,
            exp_avg_sq=state["exp_avg_sq"].view(-1)[part] if known else None,
            step=state["step"] if known else 0,
            lr=float(group["lr"]),
            betas=group.get("betas", (0.0, 0.0)),
            eps=group.get("eps", 0.0),
        )

    def snapshot(self) -> list[Tensor | None]:
        copies = [piece.grad.clone() if piece is not None else None for piece in self.pieces()]
        self.reset()
        return copies

    def sum_over_shards(self, tensor: Tensor) -> Tensor:
        total = tensor.to(self._device)
        torch.distributed.all_reduce(total)
        return total

    @contextmanager
    def backward_context(self, last: bool) -> Iterator[None]:
        self._held_engine.last = last
        try:
            yield
        finally:
            self._held_engine.last = None

    def step(self, norm: float) -> None:
        """
        The optimizer's step, held back until now.

        Args:
            norm (`float`):
                Norm of the gradient that was written.

        Raises:
            `RuntimeError`: if DeepSpeed saw another gradient.
        """
        self._engine.step()
        found = float(self._engine.get_global_grad_norm())
        if math.isfinite(norm) and not abs(found - norm) <= NORM_TOLERANCE * norm + 1e-12:
            raise RuntimeError(
                f"DeepSpeed stepped with a gradient of norm {found:.6g}, the mixed gradient has norm {norm:.6g}: this "
                "DeepSpeed configuration keeps gradients elsewhere; remove unusual options of zero_optimization"
            )


class FlatGradients(ZeroGradients):
    """ZeRO-1 and 2: parts of the flat parameter groups."""

    def pieces(self) -> Iterator[GradientPiece | None]:
        for index, group in enumerate(self._base.param_groups):
            buffers = self._buffers(index)
            for parameter, source, target, count in self._table(index):
                yield self._piece(
                    offset=self._start_of[id(parameter)] + source,
                    grad=buffers[target][:count],
                    flat=self._zero.single_partition_of_fp32_groups[index],
                    part=slice(target, target + count),
                    group=group,
                )

    def _table(self, index: int) -> Iterator[tuple[nn.Parameter, int, int, int]]:
        """Of a group: each parameter, its first element here, where that lies in the shard, and how many follow."""
        zero = self._zero
        rank = torch.distributed.get_rank(group=zero.real_dp_process_group[index])
        for parameter in zero.params_in_partition[index]:
            key = zero.get_param_id(parameter)
            source = int(zero.grad_start_offset[index][rank][key])
            target = int(zero.grad_partition_insertion_offset[index][rank][key])
            yield parameter, source, target, min(parameter.numel() - source, int(zero.partition_size[index]) - target)

    def _buffers(self, index: int) -> dict[int, Tensor]:
        """The gradients of a group, by the place in the shard where each begins."""
        buffers, place = {}, 0
        gradients = self._zero.averaged_gradients[index]
        for position, gradient in enumerate(gradients):
            if not gradient.is_contiguous():
                gradient = gradients[position] = gradient.contiguous()
            buffers[place] = gradient.view(-1)
            place += gradient.numel()
        return buffers

    def reset(self) -> None:
        for index in self._zero.averaged_gradients:
            self._zero.averaged_gradients[index] = None
            self._zero.all_grad_tensors[index] = None
        self._zero.micro_step_id = -1
        self._zero.zero_grad()


class PartitionedGradients(ZeroGradients):
    """ZeRO-3: a part of every parameter."""

    def pieces(self) -> Iterator[GradientPiece | None]:
        zero = self._zero
        for index, parameters in enumerate(zero.fp16_groups):
            group = self._base.param_groups[zero.sub_group_to_group_id[index]]
            place = 0
            for parameter, gradient in zip(parameters, self._gradients(index), strict=True):
                size = gradient.numel()
                source = size * torch.distributed.get_rank(group=parameter.ds_process_group)
                count = min(size, parameter.ds_numel - source)
                if count > 0:
                    yield self._piece(
                        offset=self._start_of[id(parameter)] + source,
                        grad=gradient.view(-1)[:count],
                        flat=zero.fp32_partitioned_groups_flat[index],
                        part=slice(place, place + count),
                        group=group,
                    )
                else:
                    yield None
                place += size

    def _gradients(self, index: int) -> list[Tensor]:
        """The padded shards of a sub-group, one per parameter."""
        return self._zero.averaged_gradients[index]

    def reset(self) -> None:
        # The next backward pass overwrites, but only where it has a gradient.
        for gradients in self._zero.averaged_gradients.values():
            for gradient in gradients:
                gradient.zero_()
        self._zero.zero_grad()


def zero_gradients(engine: Any, accelerator: Accelerator) -> ZeroGradients:
    """
    The form that fits the engine's stage.

    Raises:
        `ValueError`: for precisions that keep gradients in another form.
    """
    if engine.fp16_enabled():
        raise ValueError("fp16 under DeepSpeed is not supported: gradients would carry the loss scale; use bf16")
    if not hasattr(engine.optimizer, "averaged_gradients"):
        raise ValueError(
            f"DeepSpeed's {type(engine.optimizer).__name__} is not supported: set zero_optimization.stage to 2, or "
            "remove data_types.grad_accum_dtype"
        )
    from .zero_offload import OffloadedFlatGradients, OffloadedPartitionedGradients

    forms: tuple[type[ZeroGradients], type[ZeroGradients]]
    if engine.zero_optimization_stage() == 3:
        offloaded, forms = engine.optimizer.offload_optimizer, (PartitionedGradients, OffloadedPartitionedGradients)
    else:
        offloaded, forms = engine.optimizer.cpu_offload, (FlatGradients, OffloadedFlatGradients)
    return forms[bool(offloaded)](engine, accelerator)
