"""
[`AMFTTrainer`]: GRPO's step followed by a supervised segment, mixed by a weight that is decided between the two.

Each optimizer step runs the RL micro-batches of GRPOTrainer unchanged, and as many demonstration micro-batches. Both
end in an ordinary synchronised gradient; the mixed gradient replaces them before clipping and the optimizer.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from trl.trainer.utils import get_config_model_id

from .amft_config import AMFTConfig
from .callbacks import MixingWeightCallback
from .demonstrations.paired import PairedDemonstrations
from .demonstrations.source import MapDemonstrations, StreamDemonstrations, read_demonstrations
from .demonstrations.source_rotation import SourceRotation, SourceWindows
from .demonstrations.supervised_segment import SupervisedSegment
from .gradient_moments import GradientMoments
from .gradient_sketch import GradientSketch
from .meta_validation import ValidationUtility
from .meta_window import MetaGradientWindow
from .mixing import MixingPolicy, MixingSignals
from .mixing.per_source import AMFTSourcesPolicy
from .rollouts.prompt_sampler import with_lead_in
from .rollouts.server import guard_server
from .rollouts.signals import RolloutSignals
from .rollouts.weighed_rollouts import WeighedRollouts
from .runtime import checkpoints, input_checks
from .runtime.model_card import PAPER, append_paper_status
from .runtime.self_check import filter_by_reward, run_self_check
from .segment_order import SegmentOrder
from .sharding import open_gradients
from .step_metrics import step_metrics
from .two_segment_step import TwoSegmentStep


class AMFTTrainer(WeighedRollouts):
    r"""
    GRPO with demonstrations and a mixing weight that is learned: L(θ; μ) = (1 − μ) L_GRPO + μ L_SFT.

    Takes the arguments of [`~trl.GRPOTrainer`] in the same order, an [`AMFTConfig`] for `args`, and two more by
    keyword. The method is AMFT (arXiv 2508.06944, withdrawn).

    Args:
        demonstration_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`], *optional*):
            Demonstrations with columns `prompt` and `completion`, or `messages`, standard or conversational. `None`
            uses the column `args.demonstration_column` of `train_dataset`.
        validation_dataset ([`~datasets.Dataset`], *optional*):
            Held-out prompts, with the columns that the reward functions read, for `meta_gradient="validation"`.

    Raises:
        `ValueError`: where arguments, data and optimizer do not fit together; one line each, before training.

    Example:

    ```python
    trainer = AMFTTrainer(
        "Qwen/Qwen2.5-0.5B", accuracy_reward, AMFTConfig("run"), prompts, demonstration_dataset=demonstrations
    )
    ```
    """

    _tag_names = ["trl", "amft", "grpo"]
    _name = "AMFT"
    _paper = PAPER
    staging_folder: str | None = None  # Where a checkpoint is being written, as long as it is.

    def __init__(
        self,
        model,
        reward_funcs=None,
        args: AMFTConfig | None = None,
        train_dataset=None,
        eval_dataset=None,
        processing_class=None,
        reward_processing_classes=None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers=(None, None),
        quantization_config=None,
        peft_config=None,
        tools=None,
        rollout_func=None,
        environment_factory=None,
        *,
        demonstration_dataset=None,
        validation_dataset=None,
    ):
        if args is None:
            name = model if isinstance(model, str) else get_config_model_id(model.config)
            args = AMFTConfig(f"{name.split('/')[-1]}-AMFT")
        sets = train_dataset, demonstration_dataset, validation_dataset
        input_checks.check_arguments(args, *sets, environment_factory)
        column = None
        if demonstration_dataset is None and input_checks.needs_demonstrations(args):
            column, demonstration_dataset = input_checks.demonstration_column(args, train_dataset), train_dataset
        super().__init__(
            model=model,
            reward_funcs=reward_funcs,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            reward_processing_classes=reward_processing_classes,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
            tools=tools,
            rollout_func=rollout_func,
            environment_factory=environment_factory,
        )
        input_checks.check_distributed(self.accelerator.state, args)
        input_checks.check_model(self.model, self._tokenizer, args)
        if input_checks.needs_demonstrations(args):  # To ask for the class of some puts hooks into the model.
            input_checks.check_optimizer(args, self.optimizer, self.get_optimizer_cls_and_kwargs(args, self.model)[0])
        self.run_marks = checkpoints.RunMarks()
        self.add_callback(self.run_marks)
        if not any(isinstance(callback, MixingWeightCallback) for callback in self.callback_handler.callbacks):
            self.add_callback(MixingWeightCallback(args))
        self.validation_dataset = validation_dataset
        self.demonstrations: MapDemonstrations | StreamDemonstrations | None = None
        if input_checks.needs_demonstrations(args):
            self.demonstrations = read_demonstrations(self, demonstration_dataset, column)
            if args.demonstration_min_reward is not None:
                filter_by_reward(self)
            self._supervised = SupervisedSegment(self, self.demonstrations)
        policy = self.mixing_policy
        if policy.paired:
            assert isinstance(self.demonstrations, MapDemonstrations) and column is not None  # check_arguments says so
            self._paired = PairedDemonstrations(self, self.demonstrations, column, policy.scores_demonstrations)
        if args.needs_validation:
            self.add_callback(ValidationUtility(self, validation_dataset))
        # What was seen of the gradients so far, in the form that the policy judges by.
        self.window: Any = MetaGradientWindow(args.meta_window, args.meta_trace_decay, args.meta_estimate_interval)
        if policy.needs_variances:
            self.window = GradientMoments(policy.options["decay"])
        self._rotation = SourceRotation(args, self.demonstrations) if policy.per_source else None
        if self._rotation is not None:
            self.window = SourceWindows(self._rotation.names, args)
        self._learns = policy.needs_meta_gradient
        self.has_evidence = policy.needs_meta_gradient or policy.needs_variances
        self.step_algebra: TwoSegmentStep | None = None
        self._signals, self._segments = RolloutSignals(self.accelerator), SegmentOrder(self)
        guard_server(self, self._segments.run_ahead)

    @property
    def mixing_callback(self) -> MixingWeightCallback:
        """The live controller. Resuming may have put a new object in place of the first."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, MixingWeightCallback))

    @property
    def mixing_weight(self) -> float:
        """μ of the last optimizer step, in [0, 1]."""
        return self.mixing_callback.mu

    @property
    def mixing_policy(self) -> MixingPolicy:
        """The policy of the live controller."""
        return self.mixing_callback.bound_policy

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """
        Train; see [`~transformers.Trainer.train`]. Tells about the demonstrations first. A run that is ended by its
        rewards or by the vLLM server is saved before the [`~trl_amft.runtime.checkpoints.ResumableError`].
        """
        # A run that was broken off in this object, or finished, leaves nothing to the next.
        self._micro_step, self._step, self._buffered_inputs, self.step_algebra = 0, 0, None, None
        self._last_loaded_step = -1
        self.window.clear()
        if self.is_deepspeed_enabled and resume_from_checkpoint:
            plugin = self.accelerator.state.deepspeed_plugin
            checkpoints.check_world_size(resume_from_checkpoint, self.args, plugin.deepspeed_config)
        if self.demonstrations is not None:
            run_self_check(self)
        with checkpoints.saved_on_failure(self):
            return super().train(resume_from_checkpoint, *args, **kwargs)

    def _get_train_sampler(self, dataset=None):
        return with_lead_in(super()._get_train_sampler(dataset), self.args, lambda: int(self.state.epoch or 0))

    def training_step(self, model, inputs, num_items_in_batch=None):
        known = self.mixing_callback.known_weight(self.state.global_step, self.args.sft_warmup_steps)
        first, last = self._micro_step == 0, self.accelerator.sync_gradients
        self._micro_step = 0 if last else self._micro_step + 1
        if first:
            self._begin_step(model, known)
        if known == 1.0:
            return self._supervised_step(model, last)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._rl_loss += loss
        if not last:
            return loss
        if known == 0.0:
            self.mixing_callback.mu = 0.0
            self._log_metrics({"amft/mu": 0.0})
            return loss
        # What was returned before is L_RL unscaled; the sum over the step becomes the mixed loss.
        sft_part = self._mix(model, known)
        return (1.0 - self.mixing_weight) * self._rl_loss + sft_part - (self._rl_loss - loss)

    def _begin_step(self, model: nn.Module, known: float | None) -> None:
        self.run_marks.begin_step(self)
        if self.step_algebra is None and input_checks.needs_demonstrations(self.args):
            assert self.optimizer is not None
            input_checks.check_optimizer(self.args, self.optimizer, type(self.optimizer))
            shards = open_gradients(model, self.optimizer, self.accelerator, self.args.max_grad_norm)
            sketch = GradientSketch(shards.num_elements, seed=self.args.seed, device=shards.device)
            self.step_algebra = TwoSegmentStep(shards, sketch, self.args.meta_preconditioner)
        if self.step_algebra is not None:
            self.step_algebra.shards.held = known not in (0.0, 1.0)
        self._signals.reset()
        self._rl_loss = torch.zeros((), device=self.accelerator.device)
        # The rollouts are of the present parameters only in the first optimizer step that uses them.
        self._fresh = self._step % self.args.generation_steps == 0
        callback, count = self.mixing_callback, self.current_gradient_accumulation_steps
        if self._rotation is not None and known is None:
            self._rotation.draw(self, self._supervised, count)
        elif known == 1.0 or (known != 0.0 and self._paired is None):
            callback.demonstrations_consumed = self._supervised.draw(count, callback.demonstrations_consumed)
        self._segments.begin(model, known)

    def _supervised_step(self, model: nn.Module, last: bool) -> Tensor:
        """One micro-batch of a step of weight 1: no rollout, no prompt."""
        model.train()
        # As transformers does in its own step, for optimizers without a schedule.
        if callable(train := getattr(self.optimizer, "train", None)):
            train()
        warming_up = self.state.global_step < self.args.sft_warmup_steps
        loss = self._supervised.backward(model, None if warming_up else self.mixing_policy)
        if not warming_up:
            # A prompt batch was drawn in vain; the next RL step must not meet rollouts from before.
            self._step += 1
            self._buffered_inputs = None
        if last:
            self.mixing_callback.mu = 1.0
            self._log_metrics({"amft/mu": 1.0, **self._supervised.metrics()})
        return loss

    def _mix(self, model: nn.Module, known: float | None) -> Tensor:
        """Everything between the RL gradient and the optimizer. Returns this process's share of μ L_SFT."""
        algebra, callback, step = self.step_algebra, self.mixing_callback, self.state.global_step
        policy, rollouts = self.mixing_policy, self._signals.reduce()
        assert algebra is not None
        estimate, callback.pending = callback.pending, None
        if self._learns and self.args.meta_gradient == "lagged" and self._fresh and rollouts.has_signal:
            estimate = self.window.add_utility(step, *algebra.sketch_gradient())
        rl_sketch = algebra.sketch_gradient()[0] if policy.needs_variances else None
        sft_loss = self._segments.finish(model)
        products = algebra.products()
        learning_rate = self._get_learning_rate()
        signals = MixingSignals(
            step=step,
            entropy=rollouts.entropy,
            meta_gradient=estimate,
            learning_rate=learning_rate,
            rl_grad_norm=products.rl_norm,
            sft_grad_norm=products.sft_norm,
            variances=None if rl_sketch is None else self.window.add(rl_sketch, algebra.sketch_gradient()[0]),
            chosen_share=self._paired.share if self._paired else 0.0,
            rollout_tokens=rollouts.tokens,
            demonstration_tokens=self._supervised.tokens,
        )
        mu = sft_weight = callback.decide(signals, known, self.accelerator)
        rate = learning_rate if self._learns and self._supervised.tokens > 0 else None
        if self._rotation is not None and isinstance(policy, AMFTSourcesPolicy):
            sft_weight = self._rotation.mix(algebra, policy, self.window, step, products, rate)
        elif (sensitivity := algebra.combine(mu, products, rate)) is not None:
            self.window.add_sensitivity(step, *sensitivity)
        rl_loss = self.accelerator.reduce(self._rl_loss.clone(), reduction="mean").item()
        metrics = step_metrics(mu, sft_weight, rl_loss, products, estimate, learning_rate)
        own = {f"amft/{name}": value for name, value in policy.metrics().items()}
        self._log_metrics({**metrics, **own, **self._supervised.metrics()})
        return sft_weight * sft_loss

    def _log_metrics(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._metrics["train"][name].append(value)

    def _get_output_dir(self, trial):
        return self.staging_folder or super()._get_output_dir(trial)

    def _save_checkpoint(self, model, trial):
        checkpoints.save_whole(self, partial(super()._save_checkpoint, model, trial), self._get_output_dir(trial))

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        checkpoints.save_evidence(self, output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        checkpoints.load_evidence(self, checkpoint)

    def create_model_card(self, model_name=None, dataset_name=None, tags=None):  # type: ignore[override]  # as TRL's
        super().create_model_card(model_name=model_name, dataset_name=dataset_name, tags=tags)
        if self.is_world_process_zero():
            append_paper_status(self.args.output_dir or ".")
