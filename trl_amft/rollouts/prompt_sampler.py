"""The order of prompts: TRL's, with a lead-in for warm-up steps that use none, and the same after resuming."""

from collections.abc import Callable, Iterator
from itertools import islice, repeat
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler


if TYPE_CHECKING:
    from ..amft_config import AMFTConfig


def warm_up_draws(steps: int, accumulated: int, per_epoch: int) -> int:
    """
    Batches that the training loop draws for the steps of a warm-up.

    Args:
        steps (`int`):
            Optimizer steps.
        accumulated (`int`):
            Micro-batches per step, ≥ 1. The last step of an epoch takes what is left of it.
        per_epoch (`int`):
            Micro-batches of an epoch.

    Returns:
        `int`
    """
    epochs, rest = divmod(steps, max(-(-per_epoch // accumulated), 1))
    return epochs * per_epoch + rest * accumulated


class PromptSampler(Sampler):
    """
    Yields what TRL's sampler yields, shifted by a lead-in.

    The trainer draws a batch also for a warm-up step; the lead-in serves these draws with a placeholder, so that the
    first prompt goes to the first rollout. TRL's sampler takes a new permutation from a running generator each time
    it is iterated; here the permutation depends on the epoch, so that a run resumed in its third epoch sees the third
    permutation.

    Args:
        sampler ([`~trl.trainer.utils.RepeatSampler`]):
            TRL's sampler.
        lead_in (`int`):
            Number of placeholder entries before the first prompt.
        epoch (`Callable[[], int]`):
            Tells the current epoch, 0-based.
    """

    def __init__(self, sampler: RepeatSampler, lead_in: int, epoch: Callable[[], int]):
        self.sampler = sampler
        self.lead_in = lead_in
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        epoch, length = self.epoch(), len(self)
        if self.sampler.shuffle and self.sampler.seed is not None:
            self.sampler.generator.manual_seed(self.sampler.seed)
            for _ in range(epoch):
                torch.randperm(self.sampler.num_samples, generator=self.sampler.generator)
        lead_in = min(max(self.lead_in - epoch * length, 0), length)
        yield from repeat(0, lead_in)
        yield from islice(self.sampler, length - lead_in)


def with_lead_in(sampler: Sampler, args: "AMFTConfig", epoch: Callable[[], int]) -> PromptSampler:
    """
    TRL's sampler after a lead-in for the warm-up.

    Args:
        sampler ([`~trl.trainer.utils.RepeatSampler`]):
            TRL's sampler.
        args ([`AMFTConfig`]):
            Configuration.
        epoch (`Callable[[], int]`):
            Tells the current epoch, 0-based.

    Returns:
        [`PromptSampler`]
    """
    assert isinstance(sampler, RepeatSampler), "TRL repeats prompts by this sampler"
    batch = args.generation_batch_size
    assert batch is not None, "GRPOConfig fills it in"
    draws = warm_up_draws(args.sft_warmup_steps, args.gradient_accumulation_steps, len(sampler) // batch)
    return PromptSampler(sampler, draws * batch, epoch)
