"""L_SFT: negative log-likelihood of demonstration tokens at temperature 1; and the plain policy gradient."""

from collections.abc import Callable
from functools import partial
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
        loss (`torch.Tensor` of shape ()):
            Weighted negative log-likelihood of the labelled tokens in nats, summed; the one that carries the graph.
        nll (`torch.Tensor` of shape ()):
            The same with the weights of rows only, detached.
        correct (`torch.Tensor` of shape ()):
            Number of labelled tokens that were the most likely one, with the weights of rows, detached.
        weight (`torch.Tensor` of shape ()):
            Sum of the token weights, with the weights of rows, detached.
    """

    loss: Tensor
    nll: Tensor
    correct: Tensor
    weight: Tensor


# Token weights, (batch_size, seq_len − 1), from detached log-probabilities of the labelled tokens, the mask of these,
# and a function that gives the entropies of the predictions.
TokenWeights = Callable[[Tensor, Tensor, Callable[[], Tensor]], Tensor | None]


def sft_loss(
    logits: Tensor, labels: Tensor, row_weights: Tensor | None = None, token_weights: TokenWeights | None = None
) -> SFTLoss:
    """
    Summed token loss of a batch of demonstrations. Sums, not means: rows, micro-batches and ranks without a label
    weigh nothing, and the one division is by the global count.

    Args:
        logits (`torch.Tensor` of shape (batch_size, seq_len, vocab_size)):
            Logits of the model, not divided by any temperature.
        labels (`torch.Tensor` of shape (batch_size, seq_len)):
            Token ids; −100 at prompt and padding positions.
        row_weights (`torch.Tensor` of shape (batch_size,), *optional*):
            How much each row counts. All count 1 if not given.
        token_weights (`TokenWeights`, *optional*):
            Gives further factors, which are constants of the loss. 1 if not given.

    Returns:
        [`SFTLoss`]: `loss` carries the graph also when no token is labelled.
    """
    targets = labels[:, 1:]
    predictions = logits[:, :-1]
    nll = F.cross_entropy(
        at_least_float32(predictions.flatten(0, 1)), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
    ).view(targets.shape)
    correct = predictions.detach().argmax(-1) == targets
    entropies = partial(token_entropies, predictions)
    return token_loss(-nll, correct, targets != IGNORE_INDEX, entropies, row_weights, token_weights)


def token_loss(
    log_probs: Tensor,
    correct: Tensor,
    mask: Tensor,
    entropies: Callable[[], Tensor],
    row_weights: Tensor | None = None,
    token_weights: TokenWeights | None = None,
) -> SFTLoss:
    """
    [`sft_loss`] from log-probabilities. All tensors are of shape (batch_size, seq_len − 1).

    Args:
        log_probs (`torch.Tensor`):
            Log-probabilities of the labelled tokens in nats; any finite value elsewhere.
        correct (`torch.Tensor`):
            Whether each was the most likely one.
        mask (`torch.Tensor`):
            Which are labelled.
        entropies (`Callable[[], torch.Tensor]`):
            Gives the entropies of the predictions.
        row_weights (`torch.Tensor` of shape (batch_size,), *optional*):
            As in [`sft_loss`].
        token_weights (`TokenWeights`, *optional*):
            As there.

    Returns:
        [`SFTLoss`]
    """
    rows = mask.to(log_probs.dtype)
    if row_weights is not None:
        rows = rows * row_weights.unsqueeze(1)
    weights = None
    if token_weights is not None:
        weights = token_weights(log_probs.detach(), mask, entropies)
    # Detached once more, here: a weight that depends on the model must not become a part of its gradient.
    weights = rows if weights is None else rows * weights.detach()
    return SFTLoss(
        loss=-(log_probs * weights).sum(),
        nll=-(log_probs.detach() * rows).sum(),
        correct=(correct * rows).sum(),
        weight=weights.sum(),
    )


def token_entropies(logits: Tensor) -> Tensor:
    """
    Entropy of the predicted distributions in nats.

    Args:
        logits (`torch.Tensor` of shape (batch_size, seq_len, vocab_size)):
            Logits.

    Returns:
        `torch.Tensor` of shape (batch_size, seq_len): detached.
    """
    entropies = []
    # Row by row, because the logits of a whole batch may be most of the memory.
    for row in logits.detach():
        log_probs = at_least_float32(row).log_softmax(-1)
        entropies.append(-(log_probs.exp() * log_probs).sum(-1))
    return torch.stack(entropies)


def policy_gradient_loss(log_probs: Tensor, mask: Tensor, advantages: Tensor) -> Tensor:
    r"""
    REINFORCE: −Σ_i A_i Σ_t log π(y_it | ·), whose gradient is minus that of the expected reward, up to the count.

    Args:
        log_probs (`torch.Tensor` of shape (batch_size, completion_len)):
            Log-probabilities of the sampled tokens at the sampling temperature.
        mask (`torch.Tensor` of shape (batch_size, completion_len)):
            1 where a token was sampled by the policy, or its importance weight; 0 elsewhere.
        advantages (`torch.Tensor` of shape (batch_size,)):
            Reward minus baseline.

    Returns:
        `torch.Tensor` of shape ()
    """
    return -(advantages * (log_probs * mask).sum(1)).sum()
