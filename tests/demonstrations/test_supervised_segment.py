"""Which rows of a step share a micro-batch."""

from itertools import chain

import toy
from trl_amft import AMFTTrainer
from trl_amft.demonstrations.supervised_segment import by_length
from trl_amft.demonstrations.tokenizer import COMPLETION_IDS, PROMPT_IDS


def rows(*lengths):
    return [{PROMPT_IDS: [1], COMPLETION_IDS: [2] * (length - 1), "place": n} for n, length in enumerate(lengths)]


def lengths(part):
    return [1 + len(row[COMPLETION_IDS]) for row in part]


def test_like_lengths_share_a_micro_batch():
    given = rows(9, 2, 7, 3, 8, 2)
    parts = by_length(given, 2, 3)
    assert [lengths(part) for part in parts] == [[2, 2], [3, 7], [8, 9]]
    assert [row["place"] for row in chain(*parts)] == [1, 5, 3, 2, 4, 0]


def test_rows_that_are_missing_leave_the_last_parts_empty():
    assert [lengths(part) for part in by_length(rows(5, 4, 3), 2, 3)] == [[3, 4], [5], []]


def test_one_micro_batch_keeps_its_order():
    assert [lengths(part) for part in by_length(rows(9, 2, 7), 3, 1)] == [[9, 2, 7]]


def test_padding_of_a_step_is_that_of_sorted_rows(tmp_path):
    """Demonstrations of 2, 3 and 4 tokens with 2 rows each in 3 micro-batches, and as many labels as rows have."""
    shapes = []

    class Noted(AMFTTrainer):
        def _mix(self, model, known):
            shapes.append([tuple(batch["input_ids"].shape) for batch in self._supervised._batches])
            return super()._mix(model, known)

    model, tokenizer = toy.model(hidden_size=16, layers=1)
    demonstrations = toy.demonstration_set(lengths=True, count=6)
    trainer = Noted(
        model=model,
        reward_funcs=toy.dense_reward,
        args=toy.config(tmp_path, max_steps=2, gradient_accumulation_steps=3, per_device_demonstration_batch_size=2),
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=demonstrations,
    )
    trainer.train()
    longest = [width for _, width in shapes[0]]
    assert shapes == [[(2, width) for width in longest]] * 2
    assert longest[1] == longest[0] + 1 and longest[2] == longest[0] + 2
