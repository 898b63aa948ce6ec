"""
Log-probabilities of demonstrations at temperature 1 without logits of the size tokens × vocabulary.

TRL's fused head projects hidden states in tiles and makes each tile again in the backward pass. It divides by the
sampling temperature, which was given when it was put on the model. Here the same head is put on once more, at
temperature 1 and under another keyword, so that the one that rollouts are scored with stays as it is.
"""

import functools
import logging
import types
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from trl.trainer.utils import add_fused_lm_head


logger = logging.getLogger(__name__)

# Width of TRL's tiles. A vocabulary that fits into one tile gains nothing.
TILE = 32_768

# Tokens of the comparison at the start of training.
PROBE = 8


def add_supervised_head(model: Any, cast_lm_head_to_fp32: bool, entropy: bool) -> bool:
    """
    Let `model(..., labels=labels, supervised_head=True)` return log-probabilities at temperature 1, as TRL's
    `FusedCausalLMOutput` has them.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Has TRL's fused head already.
        cast_lm_head_to_fp32 (`bool`):
            As [`~trl.GRPOConfig`] has it.
        entropy (`bool`):
            Whether entropies are wanted.

    Returns:
        `bool`: `False`, and nothing is done, where full logits are no larger than a tile or the output matrix is not
        a plain one in at most float32 (an adapter on it, other precisions, prompts that are learned).
    """
    if is_peft_model(model):
        if model.active_peft_config.is_prompt_learning:
            return False
        model = model.get_base_model()
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or not head.weight.is_floating_point() or head.weight.element_size() > 4:
        return False
    if head.out_features <= TILE:
        return False
    as_rollouts = model.forward
    outputs = ("log_probs", "is_top1", "entropy") if entropy else ("log_probs", "is_top1")
    add_fused_lm_head(model, cast_lm_head_to_fp32=cast_lm_head_to_fp32, outputs=outputs)
    as_demonstrations = model.forward

    @functools.wraps(type(model).forward)
    def forward(self, *args, supervised_head=False, **kwargs):
        if supervised_head:
            return as_demonstrations(*args, fused_lm_head=True, **kwargs)
        return as_rollouts(*args, **kwargs)

    model.forward = types.MethodType(forward, model)
    return True


@torch.no_grad()
def head_is_that_of_the_model(model: nn.Module, accelerator: Accelerator) -> bool:
    """
    Compare the tiles with the model's own logits on a few tokens; there may be families whose logits are more than a
    matrix product, and TRL's head knows scales and caps by their names.

    Args:
        model (`torch.nn.Module`):
            The model as the training loop calls it, with [`add_supervised_head`].
        accelerator ([`~accelerate.Accelerator`]):
            Every process must come to the same answer.

    Returns:
        `bool`: whether they agree on every process. A warning says where they do not.
    """
    ids = torch.arange(1, PROBE + 1, device=accelerator.device).unsqueeze(0)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    was_training = model.training
    model.eval()
    logits: Tensor = model(**inputs).logits[:, :-1].float()
    tiles: Tensor = model(**inputs, labels=ids, supervised_head=True).log_probs
    model.train(was_training)
    own = logits.log_softmax(-1).gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    difference = (own - tiles.float()).abs().max()
    # Four roundings of the largest logit in bfloat16.
    allowed = 2.0**-6 * logits.abs().max().clamp(min=1.0)
    differs = accelerator.reduce((~(difference <= allowed)).float(), reduction="sum").item() > 0
    if differs and accelerator.is_main_process:
        logger.warning(
            "The logits of %s are not those of TRL's fused head (log-probabilities differ by %.3g): demonstrations "
            "are computed with full logits; GRPO's loss is not.",
            type(accelerator.unwrap_model(model)).__name__,
            difference.item(),
        )
    return not differs
