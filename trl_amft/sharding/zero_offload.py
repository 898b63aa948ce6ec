"""
DeepSpeed ZeRO with the optimizer on the CPU: the reduced gradients lie beside it, one flat float32 buffer per group.

DeepSpeed takes the norms by which it clips while it copies a gradient to the CPU, so that a gradient that is written
later has to bring its norms along.
"""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from .zero import FlatGradients, PartitionedGradients


class OffloadedFlatGradients(FlatGradients):
    """ZeRO-1 and 2 with `offload_optimizer`; see [`~trl_amft.sharding.zero.FlatGradients`]."""

    def __init__(self, engine: Any, accelerator: Accelerator):
        super().__init__(engine, accelerator)
        self.device = torch.device("cpu")

    def _flat(self, index: int) -> Tensor:
        # Copies from the GPU into pinned memory may still be under way.
        self._zero._wait_for_offload_copies()
        return self._zero.single_partition_of_fp32_groups[index].grad.view(-1)

    def _buffers(self, index: int) -> dict[int, Tensor]:
        return {target: self._flat(index)[target:] for _, _, target, _ in self._table(index)}

    def reset(self) -> None:
        super().reset()
        for index in range(len(self._base.param_groups)):
            self._flat(index).zero_()

    def step(self, norm: float) -> None:
        for index in range(len(self._base.param_groups)):
            for parameter, _, target, count in self._table(index):
                part = self._flat(index)[target : target + count]
                self._zero.norm_for_param_grads[self._zero.get_param_id(parameter)] = part.double().norm()
        super().step(norm)


class OffloadedPartitionedGradients(PartitionedGradients):
    """ZeRO-3 with `offload_optimizer`; see [`~trl_amft.sharding.zero.PartitionedGradients`]."""

    def __init__(self, engine: Any, accelerator: Accelerator):
        super().__init__(engine, accelerator)
        self.device = torch.device("cpu")

    def _gradients(self, index: int) -> list[Tensor]:
        flat = self._zero.fp32_partitioned_groups_flat[index].grad
        return list(flat.split([parameter.partition_numel() for parameter in self._zero.fp16_groups[index]]))

    def reset(self) -> None:
        super().reset()
        for index in range(len(self._zero.fp16_groups)):
            self._zero.fp32_partitioned_groups_flat[index].grad.zero_()

    def step(self, norm: float) -> None:
        for index, parameters in enumerate(self._zero.fp16_groups):
            for parameter, part in zip(parameters, self._gradients(index), strict=True):
                self._zero.norm_for_param_grads[self._zero.get_param_id(parameter)] = part.double().norm()
        super().step(norm)
