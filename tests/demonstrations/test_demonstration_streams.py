"""Demonstrations from a stream: without a length, repeated, resumed."""

from datasets import Dataset, IterableDataset

import toy
from trl_amft.demonstrations.source import StreamDemonstrations
from trl_amft.demonstrations.tokenizer import COMPLETION_IDS, DemonstrationTokenizer


TOKENIZER = toy.model()[1]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def stream(rows):
    template = {"chat_template": TEMPLATE}
    tokenizer = DemonstrationTokenizer(TOKENIZER, [TOKENIZER.eos_token_id], 50, False, template_kwargs=template)
    return StreamDemonstrations(rows, tokenizer)


def numbered(completions):
    rows = {"prompt": [str(i) for i in range(len(completions))], "completion": completions}
    return stream(Dataset.from_dict(rows).to_iterable_dataset())


def names(rows):
    return [int(row["prompt"]) for row in rows]


def test_repeats_and_resumes():
    completions = ["x", "", "y", "z" * 99, "w"]
    whole = numbered(completions)
    order = names(whole.take(8))
    assert order == [0, 2, 4, 0, 2, 4, 0, 2]
    assert (whole.consumed, whole.epoch) == (8, 2.0)
    assert whole.counts == {"used": 8, "absent": 3, "too_long": 2}
    resumed = numbered(completions)
    resumed.consumed = 4
    assert names(resumed.take(4)) == order[4:] and resumed.counts == whole.counts
    whole.consumed = 3
    assert (whole.counts, whole.epoch) == ({"used": 3, "absent": 1, "too_long": 1}, 0.0)
    assert names(numbered(completions).sample(2)) == [0, 2]


def test_without_known_columns():
    def rows():
        yield {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]}

    demonstrations = stream(IterableDataset.from_generator(rows))
    found = [TOKENIZER.decode(row[COMPLETION_IDS]) for row in demonstrations.take(2)]
    assert found == ["c<eos>"] * 2
