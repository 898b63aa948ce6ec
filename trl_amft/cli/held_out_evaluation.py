"""Held-out accuracy: at the three points of a run that are compared, and of a part of the problems in between."""

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import Trainer, TrainerCallback
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import get_callable_name, is_async_callable

from ..compat import as_mapping
from ..evaluation.held_out import evaluate_held_out
from ..evaluation.scoring import call_reward


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


class HeldOutEvaluation(TrainerCallback):
    """
    Evaluates on all held-out problems before training, after the warm-up and at the end, and on a part of them
    whenever the trainer evaluates. The results are written into the trainer's log, where a checkpoint keeps them: as
    `held_out/…`, and `held_out_part/…` with one completion of each problem.

    `held_out/seconds` is the time since training began or was resumed, without these evaluations.

    Rewards get the trainer's state; what they log is dropped. One that fails ends the run as in its rollouts, with a
    [`~trl_amft.rollouts.reward_errors.RewardError`].

    Args:
        trainer ([`AMFTTrainer`]):
            The trainer whose model is evaluated.
        dataset (`Dataset`):
            Held-out problems.
        reward_funcs (`list[Callable]`):
            Rewards that make up the accuracy.
        num_samples (`int`):
            Completions per problem.
        part (`Dataset`, *optional*):
            Problems that are evaluated in between. None if not given.
    """

    def __init__(
        self,
        trainer: "AMFTTrainer",
        dataset: Dataset,
        reward_funcs: list[Callable],
        num_samples: int,
        part: Dataset | None = None,
    ):
        self.trainer = trainer
        self.dataset = dataset
        self.reward_funcs = reward_funcs
        self.num_samples = num_samples
        self.part = part
        self._training_since = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self._training_since = time.monotonic()
        # A resumed run has this row in its log already, unless it was this evaluation that failed.
        done = any("held_out/accuracy" in row and row["step"] == state.global_step for row in state.log_history)
        if state.global_step in (0, args.sft_warmup_steps, state.max_steps) and not done:
            self._evaluate("held_out", self.dataset, self.num_samples)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == args.sft_warmup_steps and state.global_step < state.max_steps:
            self._evaluate("held_out", self.dataset, self.num_samples)

    def on_train_end(self, args, state, control, **kwargs):
        # A run that was stopped early has no time for it, and is not at its end.
        if state.global_step == state.max_steps:
            self._evaluate("held_out", self.dataset, self.num_samples)

    def on_evaluate(self, args, state, control, **kwargs):
        if self.part is not None:
            self._evaluate("held_out_part", self.part, 1)

    def _evaluate(self, name: str, dataset: Dataset, num_samples: int) -> None:
        trainer, args = self.trainer, self.trainer.args
        started = time.monotonic()
        failures: list[tuple[str, Exception]] = []
        reward_funcs = [self._guarded(reward, failures) for reward in self.reward_funcs]
        with (
            unwrap_model_for_generation(
                trainer.model_wrapped,
                trainer.accelerator,
                gather_deepspeed3_params=args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=as_mapping(args.gradient_checkpointing_kwargs) or None,
            ) as model,
            torch.no_grad(),
        ):
            result = evaluate_held_out(
                model,
                trainer.processing_class,
                dataset,
                reward_funcs,
                num_samples=num_samples,
                max_completion_length=args.max_completion_length,
                temperature=args.temperature,
                eos_token_ids=trainer.eos_token_ids,
                chat_template_kwargs=as_mapping(trainer.chat_template_kwargs),
                batch_size=args.per_device_eval_batch_size,
            )
        self._tell(failures)
        row = {f"{name}/{key}": value for key, value in dataclasses.asdict(result).items()}
        row[f"{name}/seconds"] = started - self._training_since
        # GRPOTrainer.log would empty the averages of the logging interval that is under way, and every log withdraws
        # the one that is already due at this step.
        due = trainer.control.should_log
        Trainer.log(trainer, row)
        trainer.control.should_log = due
        # What evaluating took is not training time.
        self._training_since += time.monotonic() - started

    def _guarded(self, reward: Callable, failures: list[tuple[str, Exception]]) -> Callable:
        """
        The same reward, except that a failure is noted. Other processes may need this one to generate, so it goes on
        without asking again, and all of them are told at the end.
        """
        trainer = self.trainer
        loop = trainer.async_loop if is_async_callable(reward) else None

        def guarded(prompts, **given):
            nothing = [None] * len(prompts)
            if failures:
                return nothing
            try:
                scores = call_reward(reward, given | {"prompts": prompts, "trainer_state": trainer.state}, loop)
                values = [None if score is None else float(score) for score in scores]
                if len(values) != len(prompts):
                    raise ValueError(f"it returned {len(values)} rewards, but {len(prompts)} were expected")
                return values
            # Rewards are anybody's code.
            except Exception as error:
                failures.append((get_callable_name(reward), error))
            if trainer.accelerator.num_processes == 1:
                self._tell(failures)
            return nothing

        return guarded

    def _tell(self, failures: list[tuple[str, Exception]]) -> None:
        """Raise on every process what failed on any."""
        # Brings the trainer, and with it vLLM.
        from ..rollouts.reward_errors import RewardError, failure_line

        lines = gather_object(
            [
                f"the reward function {name!r} failed in a held-out evaluation "
                f"({failure_line(self.trainer.accelerator, error)})"
                for name, error in failures
            ]
        )
        if lines:
            raise RewardError(lines[0]) from (failures[0][1] if failures else None)
