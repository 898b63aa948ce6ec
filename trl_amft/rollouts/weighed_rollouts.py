"""GRPO's own segment of a step: rollouts are looked at, and the mixing policy weighs their advantages."""

from functools import partial
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from trl import GRPOTrainer

from ..amft_config import AMFTConfig
from ..demonstrations.paired import (
    CHOSEN,
    DEMONSTRATION_REWARD,
    GROUP_MEAN,
    GROUP_SIZE,
    REWARD,
    PairedDemonstrations,
)
from ..mixing import MixingPolicy, RolloutBatch
from .advantage_baseline import baseline_column, take_baseline
from .reward_errors import guarded_rewards
from .signals import GROUP_VARIES, RolloutSignals, group_varies


class WeighedRollouts(GRPOTrainer):
    """
    The part of [`AMFTTrainer`] that lies inside GRPO's own segment. TRL's loss is untouched: a policy only changes the
    advantages that it reads.

    A policy that reads entropies needs them before the advantages are used. TRL computes them in the same forward
    pass, between reading the micro-batch and reading its advantages, so they are weighed at that point.
    """

    args: AMFTConfig
    # Or an adapter around one.
    model: PreTrainedModel
    num_generations: int
    processing_class: PreTrainedTokenizerBase | ProcessorMixin
    _signals: RolloutSignals
    _paired: PairedDemonstrations | None = None
    # Inputs of the loss that is being computed, as long as their advantages wait for the entropies.
    _waiting: dict[str, Any] | None = None

    @property
    def mixing_policy(self) -> MixingPolicy:
        """The policy that decides the weights."""
        raise NotImplementedError

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        policy = self.mixing_policy
        # A copy, because rollouts that are reused must not be weighed twice.
        weighed = dict(inputs)
        if policy.reads_entropy:
            self._waiting = weighed
        else:
            weighed["advantages"] = policy.advantages(self._rollout_batch(weighed))
        loss = super().compute_loss(model, weighed, return_outputs, num_items_in_batch)
        self._signals.observe(inputs, entropy=self._metrics["train"]["entropy"][-1])
        if self._paired is not None:
            self._paired.observe(inputs)
        return loss

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        result = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if self._waiting is not None:
            inputs, self._waiting = self._waiting, None
            inputs["advantages"] = self.mixing_policy.advantages(self._rollout_batch(inputs, result[1].detach()))
        return result

    def _rollout_batch(self, inputs: dict[str, Any], entropies: Tensor | None = None) -> RolloutBatch:
        mask = inputs["completion_mask"]
        if "tool_mask" in inputs:
            mask = mask * inputs["tool_mask"]
        return RolloutBatch(
            advantages=inputs["advantages"],
            mask=mask,
            entropies=entropies,
            chosen=inputs.get(CHOSEN),
            chosen_share=0.0 if self._paired is None else self._paired.share,
            rewards=inputs.get(REWARD),
            group_means=inputs.get(GROUP_MEAN),
            demonstration_rewards=inputs.get(DEMONSTRATION_REWARD),
            group_sizes=inputs.get(GROUP_SIZE),
        )

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        if self.model.training:
            own = len(inputs)
            summed = self.multi_objective_aggregation == "sum_then_normalize"
            varies = group_varies(self._rewards, self.reward_weights, self.num_generations, summed)
            output[GROUP_VARIES] = varies[self.accelerator.process_index * own :][:own]
            if (column := baseline_column(self.args)) is not None:
                take_baseline(self, column, inputs, self._rewards, output)
            if self._paired is not None:
                self._paired.attach(self.mixing_policy, inputs, self._rewards, varies, output)
        return output

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        compute = partial(super()._calculate_rewards, inputs, prompts, completions, completion_ids_list)
        self._rewards = guarded_rewards(self, compute)
        return self._rewards
