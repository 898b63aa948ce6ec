"""
The validation form of the utility's gradient: rollouts on held-out prompts with the parameters after the step.

∇U is the policy gradient of the plain reward: leave-one-out group baseline, no scaling by a standard deviation, no
KL, no clipping. The training run must not notice: random state, metrics, logs and counters are as before.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import TrainerCallback

from .losses import policy_gradient_loss
from .rollouts.signals import GROUP_VARIES
from .runtime.input_checks import check_validation
from .runtime.random_state import random_state, set_random_state


if TYPE_CHECKING:
    from .amft_trainer import AMFTTrainer


class ValidationUtility(TrainerCallback):
    """
    After every `meta_interval`-th mixed step, judges the sensitivities on held-out prompts.

    Args:
        trainer ([`AMFTTrainer`]):
            The trainer, whose rollouts and rewards are used.
        dataset ([`~datasets.Dataset`]):
            Held-out prompts with the columns that the reward functions read.
    """

    def __init__(self, trainer: "AMFTTrainer", dataset: Dataset):
        args = trainer.args
        step_prompts = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.num_prompts = args.meta_batch_size or max(step_prompts // trainer.num_generations, 1)
        check_validation(trainer, self.num_prompts)
        self.trainer = trainer
        self.dataset = dataset

    def on_step_end(self, args, state, control, **kwargs):
        done = state.global_step - args.sft_warmup_steps
        if done <= 0 or done % args.meta_interval:
            return
        trainer = self.trainer
        with undisturbed(trainer, seed=args.seed * 1_000_003 + state.global_step):
            has_signal = self._backward(done // args.meta_interval - 1)
        assert trainer.step_algebra is not None, "a step was made"
        sketch, norm = trainer.step_algebra.sketch_gradient()
        trainer.step_algebra.shards.reset()
        if has_signal:
            trainer.mixing_callback.pending = trainer.window.add_utility(state.global_step, sketch, norm)

    def _backward(self, index: int) -> bool:
        """Put the gradient of −U into the empty gradient buffers; whether there is any."""
        trainer, args, algebra = self.trainer, self.trainer.args, self.trainer.step_algebra
        assert algebra is not None, "a step was made"
        inputs = trainer._generate_and_score_completions(self._rows(index))
        leave_one_out = trainer.num_generations / (trainer.num_generations - 1)
        advantages = inputs["advantages"] * leave_one_out
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        moves = inputs[GROUP_VARIES] & (mask.sum(dim=1) > 0)
        if (ratio := inputs.get("importance_sampling_ratio")) is not None:
            # As the loss does: from the inference engine's distribution to the model's.
            mask = mask * ratio
        signal = trainer.accelerator.reduce(moves.any().float(), reduction="sum").item()
        # Gradients are averaged over processes, so each divides by its own number of completions.
        advantages = advantages / advantages.numel()
        input_ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention_mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        length = inputs["completion_ids"].size(1)
        parts = range(0, input_ids.size(0), args.per_device_train_batch_size)
        for start in parts:
            part = slice(start, start + args.per_device_train_batch_size)
            last = start == parts[-1]
            with algebra.shards.backward_context(last), trainer.compute_loss_context_manager():
                # As the loss does, without the logits of all tokens at once.
                log_probs = trainer._get_per_token_logps_and_entropies(
                    trainer.model_wrapped, input_ids[part], attention_mask[part], length
                )[0]
                trainer.accelerator.backward(policy_gradient_loss(log_probs, mask[part], advantages[part]))
        return signal > 0

    def _rows(self, index: int) -> list[dict[str, Any]]:
        """This process's rows of evaluation `index`: each prompt once per generation, groups kept together."""
        trainer = self.trainer
        generations = trainer.num_generations
        rows = [
            self.dataset[(index * self.num_prompts + prompt) % len(self.dataset)]
            for prompt in range(self.num_prompts)
            for _ in range(generations)
        ]
        own = len(rows) // trainer.accelerator.num_processes
        rank = trainer.accelerator.process_index
        return rows[rank * own : (rank + 1) * own]


@contextmanager
def undisturbed(trainer: "AMFTTrainer", seed: int) -> Iterator[None]:
    """
    Run rollouts beside training without a trace in it.

    Args:
        trainer ([`AMFTTrainer`]):
            The trainer whose random state, metrics, logs and counters are put aside.
        seed (`int`):
            Seed inside, made distinct per process.
    """
    kept = {name: getattr(trainer, name) for name in ("_metrics", "_logs", "_pending_extra_logs", "_pending_metrics")}
    scaling = trainer.scale_rewards, trainer.multi_objective_aggregation
    tokens = trainer.state.num_input_tokens_seen
    generators = random_state()
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    trainer._logs = {
        name: defaultdict(deque) if isinstance(log, dict) else deque() for name, log in kept["_logs"].items()
    }
    trainer._pending_extra_logs, trainer._pending_metrics = defaultdict(list), defaultdict(list)
    trainer.scale_rewards, trainer.multi_objective_aggregation = "none", "sum_then_normalize"
    try:
        torch.manual_seed(seed + trainer.accelerator.process_index)
        yield
    finally:
        for name, value in kept.items():
            setattr(trainer, name, value)
        trainer.scale_rewards, trainer.multi_objective_aggregation = scaling
        trainer.state.num_input_tokens_seen = tokens
        set_random_state(generators)
