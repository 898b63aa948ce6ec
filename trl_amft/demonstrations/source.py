"""
Which demonstrations belong to which step: an endless order that depends on the seed and a position only.

The position is all that a checkpoint needs. Rows are numbered over all processes, so the order does not depend on how
many there are.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset, Features, IterableDataset, List, Value
from transformers import ProcessorMixin

from ..compat import as_mapping
from .tokenizer import (
    COMPLETION_IDS,
    PICTURES,
    PROMPT_IDS,
    STATUS,
    DemonstrationTokenizer,
    check_columns,
)


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


USABLE = ("used", "truncated")
# Raw rows of a stream that an inspection may read.
SAMPLE_LIMIT = 10_000


class MapDemonstrations:
    """
    Demonstrations that can be indexed: each pass goes through a new permutation of all of them.

    Args:
        dataset ([`~datasets.Dataset`]):
            Raw demonstrations, see [`~trl_amft.demonstrations.tokenizer.to_prompt_completion`].
        tokenize ([`~trl_amft.demonstrations.tokenizer.DemonstrationTokenizer`]):
            Applied once to every row.
        seed (`int`):
            Seed of the order.
    """

    def __init__(self, dataset: Dataset, tokenize: DemonstrationTokenizer, seed: int):
        check_columns(dataset.column_names, tokenize.column)
        features = _features(dataset, tokenize.column)
        rows = dataset.map(tokenize, features=features, desc="Tokenizing demonstrations")
        self.counts = Counter(rows[STATUS])
        self.rows = rows.filter(lambda status: status in USABLE, input_columns=STATUS)
        check_pictures(self.rows[PICTURES])
        self.tokenize = tokenize
        self.seed = seed
        self.consumed = 0
        self._order: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def epoch(self) -> float:
        """Passes over the demonstrations so far."""
        return self.consumed / max(len(self.rows), 1)

    def keep(self, indices: list[int], reason: str) -> None:
        """Drop all rows but those of `indices` and count the others under `reason`."""
        kept = set(indices)
        for index, status in enumerate(self.rows[STATUS]):
            if index not in kept:
                self.counts[status] -= 1
                self.counts[reason] += 1
        self.rows = self.rows.select(indices)
        self._order = (-1, [])

    def sample(self, count: int) -> list[dict[str, Any]]:
        """The first rows in stored order, for inspection. Consumes nothing."""
        return [self.rows[index] for index in range(min(count, len(self.rows)))]

    def take(self, count: int) -> list[dict[str, Any]]:
        """The next `count` rows of the endless order."""
        columns = self.rows[[self._index(position) for position in range(self.consumed, self.consumed + count)]]
        self.consumed += count
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _index(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.rows))
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(len(self.rows), generator=generator).tolist())
        return self._order[1][offset]


def _features(dataset: Dataset, column: str | None) -> Features:
    """Types of the tokenized rows, told because fields that are empty in the first rows cannot be inferred."""
    features = dataset.features.copy()
    if column is not None:
        features["completion"] = features[column]
    elif "completion" not in features:
        features["prompt"] = features["completion"] = features["messages"]
    if isinstance(features["completion"], Value) and not isinstance(features["prompt"], Value):
        features["completion"] = List({"role": Value("string"), "content": Value("string")})
    ids = List(Value("int64"))
    added = {PROMPT_IDS: ids, COMPLETION_IDS: ids, PICTURES: Value("int64"), STATUS: Value("string")}
    return Features({**features, **added})


def check_pictures(counts: Iterable[int]) -> None:
    """
    Processes reach the same layers together, those that see as well, so that no row may go without them.

    Args:
        counts (`Iterable[int]`):
            Pictures of the usable demonstrations.

    Raises:
        `ValueError`: if some have pictures and some have none.
    """
    if len({count > 0 for count in counts}) > 1:
        raise ValueError(
            "demonstrations: some have pictures (columns 'image' and 'images') and some have none: give them to all "
            "rows, or to none"
        )


class StreamDemonstrations:
    """
    Demonstrations that can only be streamed: read in order, tokenized on the way, from the start again at the end.

    Args:
        dataset ([`~datasets.IterableDataset`]):
            Raw demonstrations.
        tokenize ([`~trl_amft.demonstrations.tokenizer.DemonstrationTokenizer`]):
            Applied to every row as it comes.
    """

    def __init__(self, dataset: IterableDataset, tokenize: DemonstrationTokenizer):
        columns = dataset.column_names
        if columns is None:
            columns = list(next(iter(dataset), {})) or None
        check_columns(columns, tokenize.column)
        self.dataset = dataset
        self.tokenize = tokenize
        self.counts: Counter[str] = Counter()
        self.epoch = 0.0
        self._consumed = 0
        self._rows = self._stream()

    @property
    def consumed(self) -> int:
        """Usable rows taken so far. Setting it reads the stream from the start up to there."""
        return self._consumed

    @consumed.setter
    def consumed(self, position: int) -> None:
        self.counts.clear()
        self.epoch = 0.0
        self._rows = self._stream()
        self._consumed = position
        for _ in itertools.islice(self._rows, position):
            pass

    def sample(self, count: int) -> list[dict[str, Any]]:
        """The first usable rows. Consumes nothing."""
        tokenized = (self.tokenize(example) for example in self.dataset.take(SAMPLE_LIMIT))
        return list(itertools.islice((row for row in tokenized if row[STATUS] in USABLE), count))

    def take(self, count: int) -> list[dict[str, Any]]:
        """The next `count` usable rows."""
        self._consumed += count
        return list(itertools.islice(self._rows, count))

    def _stream(self) -> Iterator[dict[str, Any]]:
        pictures: set[int] = set()
        while True:
            usable = 0
            for example in self.dataset:
                row = self.tokenize(example)
                self.counts[row[STATUS]] += 1
                if row[STATUS] in USABLE:
                    usable += 1
                    pictures.add(row[PICTURES])
                    check_pictures(pictures)
                    yield {**example, **row}
            self.epoch += 1.0
            if usable == 0:
                raise ValueError(no_demonstration_left(self.counts, self.tokenize.max_length))


def no_demonstration_left(counts: Counter, max_length: int | None) -> str:
    """One line on why nothing is left of a demonstration set, with the remedies that apply."""
    found = {status: count for status, count in sorted(counts.items()) if count}
    remedies = {
        "too_long": f"raise max_demonstration_length={max_length}",
        "low_reward": "lower demonstration_min_reward",
        "absent": "fill the demonstration column, or end messages with a turn of the assistant",
        "zero_weight": "give some of them a demonstration_weight above 0",
    }
    reasons = ", ".join(f"{count} {status}" for status, count in found.items()) or "it is empty"
    remedy = " or ".join(remedies[status] for status in remedies if status in found) or "give at least one row"
    return f"demonstrations: none is usable ({reasons}): {remedy}"


def read_demonstrations(
    trainer: "AMFTTrainer", dataset: Dataset | IterableDataset, column: str | None
) -> MapDemonstrations | StreamDemonstrations:
    """
    Tokenize a demonstration set as the trainer tokenizes its rollouts.

    Args:
        trainer ([`AMFTTrainer`]):
            Gives tokenizer, chat template, tools and limits.
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Raw demonstrations.
        column (`str`, *optional*):
            Column of paired demonstrations; `None` for a separate set.

    Raises:
        `ValueError`: if no demonstration is usable.
    """
    args, reader = trainer.args, trainer.processing_class
    assert args.max_demonstration_length is not None, "AMFTConfig fills it in"
    tokenize = DemonstrationTokenizer(
        tokenizer=trainer._tokenizer,
        eos_token_ids=trainer.eos_token_ids,
        max_length=args.max_demonstration_length,
        truncate=args.demonstration_truncation == "truncate",
        column=column,
        template_kwargs={
            "tools": trainer.tools or None,
            "chat_template": trainer.chat_template,
            **as_mapping(trainer.chat_template_kwargs),
        },
        processor=reader if isinstance(reader, ProcessorMixin) and trainer._is_vlm else None,
        # As rollouts are: with the tools of the row's own environment.
        tools_of=trainer._env_tools if trainer._multi_environment else {},
    )
    if isinstance(dataset, IterableDataset):
        stream = StreamDemonstrations(dataset, tokenize)
        # A stream without a usable row is refused here, not in the middle of a step.
        stream.take(1)
        stream.consumed = 0
        return stream
    with args.main_process_first(desc="tokenizing demonstrations"):
        demonstrations = MapDemonstrations(dataset, tokenize, args.seed)
    if len(demonstrations) == 0:
        raise ValueError(no_demonstration_left(demonstrations.counts, args.max_demonstration_length))
    return demonstrations
