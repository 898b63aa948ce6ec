"""The order of prompts: TRL's, with a lead-in for warm-up steps that use none, and the same after resuming."""

from collections.abc import Callable, Iterator
from itertools import islice, repeat

import torch
from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler


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

    def __init__(self, sampler: Sampler, lead_in: int, epoch: Callable[[], int]):
        assert isinstance(sampler, RepeatSampler), "TRL repeats prompts by this sampler"
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
