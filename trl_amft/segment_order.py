"""
Which of the two segments of a step comes first.

Usually the RL segment. While a vLLM server makes the rollouts of a step, the devices that train have nothing else to
do, so the SFT segment runs then. Both use the parameters before the step: their order changes rounding and the draws
of dropout only.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn


if TYPE_CHECKING:
    from .amft_trainer import AMFTTrainer


class SegmentOrder:
    """
    Runs the SFT segment of each mixed step once, before or after its RL segment.

    Args:
        trainer ([`AMFTTrainer`]):
            The trainer whose segments they are.
    """

    def __init__(self, trainer: "AMFTTrainer"):
        self._trainer = trainer
        # The model for as long as the segment may still run ahead.
        self._model: nn.Module | None = None
        self._share: Tensor | None = None

    def begin(self, model: nn.Module, known: float | None) -> None:
        """
        Called at the beginning of a step. Its SFT segment may run ahead if rollouts are made now and not in the middle
        of the step, unless they decide what is imitated, or variances are taken of the gradients in their usual order.

        Args:
            model (`torch.nn.Module`):
                The model as the training loop calls it.
            known (`float`, *optional*):
                The weight of the step, if it is known already. With 0 or 1 there is one segment only.
        """
        trainer, self._share = self._trainer, None
        generates = trainer._step % trainer.args.generation_steps == 0 or trainer._buffered_inputs is None
        allowed = known not in (0.0, 1.0) and trainer._paired is None and not trainer.mixing_policy.needs_variances
        self._model = model if generates and allowed else None

    def run_ahead(self) -> None:
        """Run the SFT segment now if it may and has not, and put its gradient aside. All processes do so together."""
        model, self._model = self._model, None
        algebra = self._trainer.step_algebra
        # Rollouts of an evaluation do not belong to a step.
        if model is None or algebra is None or not self._trainer.model.training:
            return
        self._share = self._run(model)
        algebra.store_sft_gradient()

    def finish(self, model: nn.Module) -> Tensor:
        """
        Called after the RL segment: both gradients are there when it returns.

        Args:
            model (`torch.nn.Module`):
                The model as the training loop calls it.

        Returns:
            `torch.Tensor` of shape (): this process's share of L_SFT.
        """
        trainer, share = self._trainer, self._share
        self._share = self._model = None
        if share is not None:
            return share
        assert trainer.step_algebra is not None, "the step has begun"
        trainer.step_algebra.store_rl_gradient()
        if trainer._paired is not None:
            trainer._supervised.load(trainer._paired.micro_batches(trainer.current_gradient_accumulation_steps))
        return self._run(model)

    def _run(self, model: nn.Module) -> Tensor:
        trainer, algebra = self._trainer, self._trainer.step_algebra
        assert algebra is not None, "the step has begun"
        return trainer._supervised.backward_all(model, algebra.shards.backward_context, trainer.mixing_policy)
