"""Demonstrations by their source: whose turn it is, and what was seen of each source's weight so far."""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..meta_window import MetaGradient, MetaGradientWindow
from ..mixing.per_source import AMFTSourcesPolicy
from ..two_segment_step import SegmentProducts, TwoSegmentStep
from .source import MapDemonstrations
from .supervised_segment import SupervisedSegment


if TYPE_CHECKING:
    from ..amft_config import AMFTConfig
    from ..amft_trainer import AMFTTrainer


SOURCE = "demonstration_source"


class SourceRotation:
    """
    The sources in turn, one per optimizer step after the warm-up. The position within a source follows from the step,
    so a checkpoint needs nothing.

    Args:
        args ([`AMFTConfig`]):
            Gives the steps of the warm-up.
        demonstrations ([`~trl_amft.demonstrations.source.MapDemonstrations`]):
            All of them, with a column `demonstration_source`.
    """

    def __init__(self, args: "AMFTConfig", demonstrations):
        assert isinstance(demonstrations, MapDemonstrations), "check_arguments says so"
        self._warm_up = args.sft_warmup_steps
        values = demonstrations.rows[SOURCE]
        self.names = sorted({str(value) for value in values})
        self._parts = []
        for name in self.names:
            part = copy.copy(demonstrations)
            part.rows = demonstrations.rows.select([n for n, value in enumerate(values) if str(value) == name])
            part._order = (-1, [])
            self._parts.append(part)

    def turn(self, step: int) -> int:
        """Number of the source whose turn optimizer step `step` is."""
        return (step - self._warm_up) % len(self.names)

    def draw(self, trainer: "AMFTTrainer", segment: SupervisedSegment, micro_batches: int) -> None:
        """
        Draw the demonstrations of a step from the source whose turn it is.

        Args:
            trainer ([`AMFTTrainer`]):
                Tells the step and the sizes; its policy is told the sources.
            segment ([`~trl_amft.demonstrations.supervised_segment.SupervisedSegment`]):
                Takes them.
            micro_batches (`int`):
                Micro-batches of the step.
        """
        policy = trainer.mixing_policy
        assert isinstance(policy, AMFTSourcesPolicy), "no other policy weighs sources"
        policy.begin(self.names)
        step, args = trainer.state.global_step, trainer.args
        # Of a whole step: the last one of an epoch may have fewer micro-batches, and must not move the others back.
        rows = args.per_device_demonstration_batch_size * trainer.accelerator.num_processes
        rows *= args.gradient_accumulation_steps
        part = self._parts[self.turn(step)]
        part.consumed = (step - self._warm_up) // len(self.names) * rows
        segment.draw_from(part, micro_batches)

    def mix(
        self,
        algebra: TwoSegmentStep,
        policy: AMFTSourcesPolicy,
        windows: "SourceWindows",
        step: int,
        products: SegmentProducts,
        learning_rate: float | None,
    ) -> float:
        """
        Write the gradient of a step and remember its sensitivities.

        Args:
            algebra ([`~trl_amft.two_segment_step.TwoSegmentStep`]):
                Holds both gradients.
            policy ([`~trl_amft.mixing.per_source.AMFTSourcesPolicy`]):
                Has decided the weights.
            windows ([`SourceWindows`]):
                Where sensitivities are kept.
            step (`int`):
                Optimizer steps done.
            products ([`~trl_amft.two_segment_step.SegmentProducts`]):
                Of the two gradients.
            learning_rate (`float`, *optional*):
                `None` where the step has no demonstration token and so no evidence.

        Returns:
            `float`: the coefficient of g_SFT.
        """
        turn = self.turn(step)
        weights, directions = policy.mixture(turn)
        sensitivities = algebra.mix(weights, directions, products, learning_rate)
        if sensitivities is not None:
            windows.add_sensitivities(step, turn, sensitivities)
        return weights[1]


class SourceWindows:
    """
    One [`~trl_amft.meta_window.MetaGradientWindow`] per source, each with 2W − 1 sketches of its own.

    Args:
        names (`list[str]`):
            The sources in the order of their turns.
        args ([`AMFTConfig`]):
            Gives their length.
    """

    def __init__(self, names: list[str], args: "AMFTConfig"):
        settings = args.meta_window, args.meta_trace_decay, args.meta_estimate_interval
        self.windows = {name: MetaGradientWindow(*settings) for name in names}

    def clear(self) -> None:
        """Forget everything."""
        for window in self.windows.values():
            window.clear()

    def add_utility(self, step: int, sketch: Tensor, norm: float) -> dict[str, MetaGradient]:
        """The estimate of every source that has one; arguments as for a single window."""
        found = {name: window.add_utility(step, sketch, norm) for name, window in self.windows.items()}
        return {name: estimate for name, estimate in found.items() if estimate is not None}

    def add_sensitivities(self, step: int, turn: int, sensitivities: list[tuple[Tensor, float]]) -> None:
        """
        Remember dθ'/dμ_s of a step for all sources.

        Args:
            step (`int`):
                The optimizer step.
            turn (`int`):
                Number of the source that had its turn.
            sensitivities (`list[tuple[torch.Tensor, float]]`):
                Sketch and norm of the one that had its turn, and of the others, if there are any.
        """
        for number, window in enumerate(self.windows.values()):
            window.add_sensitivity(step, *sensitivities[0 if number == turn else 1])

    def state_dict(self) -> dict[str, Tensor]:
        """Everything as tensors, for a checkpoint."""
        return {
            f"{name}/{key}": tensor
            for name, window in self.windows.items()
            for key, tensor in window.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device | str | None = None) -> None:
        """
        Restore from [`~SourceWindows.state_dict`].

        Raises:
            `ValueError`: if the sources were others.
        """
        found = {name.rsplit("/", 1)[0] for name in state}
        if found != set(self.windows):
            raise ValueError(f"the checkpoint has evidence for the sources {sorted(found)}, not {list(self.windows)}")
        for name, window in self.windows.items():
            own = {key.rsplit("/", 1)[1]: tensor for key, tensor in state.items() if key.rsplit("/", 1)[0] == name}
            window.load_state_dict(own, device)
