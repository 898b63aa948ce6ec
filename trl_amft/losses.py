"""L_SFT: negative log-likelihood of demonstration tokens at temperature 1; and the plain policy gradient."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


IGNORE_INDEX = -100


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in its own dtype where that is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class SFTLoss(NamedTuple):
    """
    Args:
        nll (`torch.Tensor` of shape ()):
            Negative log-likelihood of the labelled tokens in nats, summed.
        correct (`torch.Tensor` of shape ()):
            Number of labelled tokens that were the most likely one.
    """

    nll: Tensor
    correct: Tensor


def sft_loss(logits: Tensor, labels: Tensor) -> SFTLoss:
    """
    Summed token loss of a batch of demonstrations. Sums, not means: rows, micro-batches and ranks without a label
    weigh nothing, and the one division is by the global count.

    Args:
        logits (`torch.Tensor` of shape (batch_size, seq_len, vocab_size)):
            Logits of the model, not divided by any temperature.
        labels (`torch.Tensor` of shape (batch_size, seq_len)):
            Token ids; −100 at prompt and padding positions.

    Returns:
        [`SFTLoss`]: `nll` carries the graph also when no token is labelled.
    """
    targets = labels[:, 1:]
    predictions = logits[:, :-1]
    nll = F.cross_entropy(
        at_least_float32(predictions.flatten(0, 1)), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    mask = targets != IGNORE_INDEX
    correct = ((predictions.detach().argmax(-1) == targets) & mask).sum()
    return SFTLoss(nll=nll, correct=correct)


def policy_gradient_loss(logits: Tensor, completion_ids: Tensor, mask: Tensor, advantages: Tensor) -> Tensor:
    r"""
    REINFORCE: −Σ_i A_i Σ_t log π(y_it | ·), whose gradient is minus that of the expected reward, up to the count.

    Args:
        logits (`torch.Tensor` of shape (batch_size, completion_len, vocab_size)):
            Logits that predict the completion tokens, divided by the sampling temperature.
        completion_ids (`torch.Tensor` of shape (batch_size, completion_len)):
            Sampled tokens.
        mask (`torch.Tensor` of shape (batch_size, completion_len)):
            1 where a token was sampled by the policy.
        advantages (`torch.Tensor` of shape (batch_size,)):
            Reward minus baseline.

    Returns:
        `torch.Tensor` of shape ()
    """
    log_probs = torch.gather(at_least_float32(logits).log_softmax(-1), 2, completion_ids.unsqueeze(2)).squeeze(2)
    return -(advantages * (log_probs * mask).sum(1)).sum()
