"""Demonstrations: from columns to labelled tokens that look like rollouts, and the order in which they come."""

import pytest
import torch
from datasets import Dataset

import toy
from trl_amft import AMFTTrainer
from trl_amft.demonstrations.source import MapDemonstrations
from trl_amft.demonstrations.tokenizer import (
    COMPLETION_IDS,
    PROMPT_IDS,
    STATUS,
    DemonstrationTokenizer,
    collate_demonstrations,
    to_prompt_completion,
    without_opened_tag,
)
from trl_amft.losses import IGNORE_INDEX


# Ends a turn with EOS and a line break, as ChatML does, and omits what stands before </think> in finished turns.
CHATML = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if think is defined %}<think>{% endif %}{% endif %}"
)
TOKENIZER = toy.model()[1]
EOS = TOKENIZER.eos_token_id


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


def tokenizer(**overrides):
    settings = {"tokenizer": TOKENIZER, "eos_token_ids": [EOS], "max_length": 50, "truncate": False}
    settings.setdefault("template_kwargs", {"chat_template": CHATML})
    return DemonstrationTokenizer(**{**settings, **overrides})


def text(row):
    """Prompt and completion as the model reads them."""
    return TOKENIZER.decode(row[PROMPT_IDS]), TOKENIZER.decode(row[COMPLETION_IDS])


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        ({"prompt": "p", "completion": "c"}, None, ("p", "c")),
        ({"prompt": user("p"), "completion": assistant("c")}, None, (user("p"), assistant("c"))),
        ({"messages": user("p") + assistant("c")}, None, (user("p"), assistant("c"))),
        ({"prompt": user("p"), "completion": "c"}, None, (user("p"), assistant("c"))),
        ({"prompt": "p", "demonstration": "c"}, "demonstration", ("p", "c")),
        ({"prompt": user("p"), "demonstration": "c"}, "demonstration", (user("p"), assistant("c"))),
        ({"prompt": user("p"), "demonstration": assistant("c")}, "demonstration", (user("p"), assistant("c"))),
        ({"prompt": "p", "completion": "other", "solution": "c"}, "solution", ("p", "c")),
        ({"prompt": "p", "demonstration": None}, "demonstration", None),
        ({"prompt": "p", "demonstration": ""}, "demonstration", None),
        ({"prompt": user("p"), "demonstration": []}, "demonstration", None),
        ({"prompt": user("p"), "demonstration": assistant("")}, "demonstration", None),
        ({"prompt": "p", "completion": ""}, None, None),
        ({"messages": assistant("c")}, None, None),
    ],
)
def test_columns(row, column, expected):
    found = to_prompt_completion(row, column)
    assert found == (expected and dict(zip(("prompt", "completion"), expected, strict=True)))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "p", "completion": "c"}, ("p", "c<eos>")),
        ({"prompt": "p", "completion": "c<eos>"}, ("p", "c<eos>")),
        ({"prompt": "p", "completion": "c<eos>\n"}, ("p", "c<eos>")),
        ({"prompt": "p", "completion": "c<eos>d<eos>\n"}, ("p", "c<eos>d<eos>")),
        ({"prompt": user("p"), "completion": assistant("c")}, ("<user>p<eos>\n<assistant>", "c<eos>")),
        ({"messages": user("p") + assistant("c")}, ("<user>p<eos>\n<assistant>", "c<eos>")),
        (
            {"messages": user("p") + assistant("q") + user("r") + assistant("c")},
            ("<user>p<eos>\n<assistant>q<eos>\n<user>r<eos>\n<assistant>", "c<eos>"),
        ),
    ],
)
def test_one_eos_at_the_end(row, expected):
    assert text(tokenizer()(row)) == expected


def test_other_ends_of_a_completion_count():
    """A model that declares a further id to end a turn gets no second one."""
    end = TOKENIZER("!", add_special_tokens=False)["input_ids"][0]
    assert text(tokenizer(eos_token_ids=[EOS, end])({"prompt": "p", "completion": "c!"})) == ("p", "c!")


@pytest.mark.parametrize(
    ("think", "content", "prompt", "completion"),
    [
        (None, "a</think>b", "<user>p<eos>\n<assistant>", "b<eos>"),  # what the template does without a thinking tag
        (1, "a</think>b", "<user>p<eos>\n<assistant><think>", "a</think>b<eos>"),
        (1, "<think>a</think>b", "<user>p<eos>\n<assistant><think>", "a</think>b<eos>"),  # the prompt has the tag
    ],
)
def test_generation_prompt_with_a_thinking_tag(think, content, prompt, completion):
    kwargs = {"chat_template": CHATML, **({} if think is None else {"think": True})}
    row = {"prompt": user("p"), "completion": assistant(content)}
    assert text(tokenizer(template_kwargs=kwargs)(row)) == (prompt, completion)


@pytest.mark.parametrize("lost", [{"tool_calls": [{"function": {"name": "f"}}]}, {"reasoning_content": "r"}], ids=str)
def test_what_a_thinking_template_would_lose_is_refused(lost):
    row = {"prompt": user("p"), "completion": [{**assistant("c")[0], **lost}]}
    assert text(tokenizer()(row))[1] == "c<eos>"
    with pytest.raises(ValueError, match=f"holds '{next(iter(lost))}', which is lost .*take another chat template"):
        tokenizer(template_kwargs={"chat_template": CHATML, "think": True})(row)


@pytest.mark.parametrize(("row", "column"), [({"completion": assistant("c")}, None), ({"d": assistant("c")}, "d")])
def test_a_text_before_messages_is_one_line(row, column):
    with pytest.raises(
        ValueError, match="prompt of text and a completion of messages: make the prompt a list"
    ) as error:
        to_prompt_completion({"prompt": "p", **row}, column)
    assert "\n" not in str(error.value)


def test_texts_after_messages_are_read_as_a_set():
    rows = Dataset.from_list([{"prompt": user(prompt), "completion": "3"} for prompt in toy.prompts(8)])
    found = MapDemonstrations(rows, tokenizer(), seed=0)
    assert found.rows[0]["completion"] == assistant("3")


@pytest.mark.parametrize(
    ("prompt", "completion", "rest"),
    [
        ("p<think>\n", "<think>\na</think>b", "a</think>b"),
        ("p<think>", "<think>\na</think>b", "\na</think>b"),
        ("p<think>\n", "<think>a</think>b", "a</think>b"),
        ("p<think>\n", "a</think>b", "a</think>b"),
        ("p", "<think>\na</think>b", "<think>\na</think>b"),
        ("p<think>\n", "\n<think>\na", "a"),
    ],
)
def test_tag_that_the_prompt_has_opened(prompt, completion, rest):
    assert without_opened_tag(prompt, completion) == rest


def test_content_in_parts():
    template = (
        "{% for m in messages %}<{{ m.role }}>{% for c in m.content or [] %}{{ c.text }}{% endfor %}<eos>{% endfor %}"
    )
    template += "{% if add_generation_prompt %}<assistant><think>{% endif %}"
    parts = [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]
    row = {
        "prompt": [{"role": "user", "content": parts}],
        "completion": [{"role": "assistant", "content": None}, {"role": "assistant", "content": parts}],
    }
    rendered = text(tokenizer(template_kwargs={"chat_template": template})(row))
    assert rendered == ("<user>cd<eos><assistant><think>", "cd<eos>")


@pytest.mark.parametrize(
    ("truncate", "length", "status", "completion"),
    [
        (False, 5, "too_long", None),
        (True, 5, "truncated", "abcde"),  # no EOS: the model must not learn to stop there
        (False, 6, "used", "abcde<eos>"),
        (True, 6, "used", "abcde<eos>"),
    ],
)
def test_longer_than_the_limit(truncate, length, status, completion):
    row = tokenizer(max_length=length, truncate=truncate)({"prompt": "p", "completion": "abcde"})
    assert row[STATUS] == status
    assert completion is None or text(row)[1] == completion


def test_labels_mask_exactly_the_completion():
    tokenize = tokenizer()
    rows = [tokenize({"prompt": "long prompt", "completion": "c"}), tokenize({"prompt": "p", "completion": "abc"})]
    batch = collate_demonstrations(rows, TOKENIZER.pad_token_id)
    assert {name: tensor.shape for name, tensor in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "labels"), (2, 13)
    )
    for index, row in enumerate(rows):
        ids = row[PROMPT_IDS] + row[COMPLETION_IDS]
        padding = 13 - len(ids)
        assert batch["input_ids"][index].tolist() == ids + [TOKENIZER.pad_token_id] * padding
        assert batch["attention_mask"][index].tolist() == [1] * len(ids) + [0] * padding
        assert batch["labels"][index].tolist() == (
            [IGNORE_INDEX] * len(row[PROMPT_IDS]) + row[COMPLETION_IDS] + [IGNORE_INDEX] * padding
        )


def test_no_row_is_one_row_without_a_label():
    batch = collate_demonstrations([], TOKENIZER.pad_token_id)
    assert batch["input_ids"].shape == (1, 2) and batch["attention_mask"].sum() == 2
    assert (batch["labels"] == IGNORE_INDEX).all() and batch["labels"].dtype == torch.int64


@pytest.mark.parametrize("conversational", [False, True])
def test_prompts_are_those_of_the_rollouts(tmp_path, conversational):
    model, processing_class = toy.model()
    processing_class.chat_template = CHATML
    prompts = [user(p) for p in toy.prompts()] if conversational else toy.prompts()
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
        args=toy.config(tmp_path, chat_template_kwargs={"think": True}),
        train_dataset=Dataset.from_dict({"prompt": prompts, "demonstration": ["3"] * 64}),
        processing_class=processing_class,
    )
    rows = trainer.demonstrations.sample(8)
    rollouts = trainer._tokenize_prompts(prompts[:8])[0]
    assert [row[PROMPT_IDS] for row in rows] == [list(ids) for ids in rollouts]
    assert text(rows[0])[0].endswith("<think>") == conversational


def numbered(count, **kwargs):
    rows = Dataset.from_dict({"prompt": [str(i) for i in range(count)], "completion": ["c"] * count})
    return MapDemonstrations(rows, tokenizer(), **{"seed": 5, **kwargs})


def names(rows):
    return [int(row["prompt"]) for row in rows]


def test_each_epoch_is_a_new_permutation():
    order = names(numbered(10).take(30))
    epochs = [order[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != list(range(10))
    assert names(numbered(10, seed=6).take(10)) != epochs[0]


def test_order_depends_on_the_position_only():
    whole = numbered(10)
    order = names(whole.take(36))
    assert (whole.consumed, whole.epoch) == (36, 3.6)
    # Larger draws, as more processes make them, and a draw after resuming.
    assert names(numbered(10).take(4) + numbered(10).take(0)) == order[:4]
    by_twelve = numbered(10)
    assert [name for _ in range(3) for name in names(by_twelve.take(12))] == order
    resumed = numbered(10)
    resumed.consumed = 17
    assert names(resumed.take(10)) == order[17:27]
    assert names(whole.sample(3)) == [0, 1, 2] and whole.consumed == 36


def test_keep_counts_what_it_drops():
    demonstrations = numbered(6)
    demonstrations.take(1)
    demonstrations.keep([1, 4, 5], "low_reward")
    assert demonstrations.counts == {"used": 3, "low_reward": 3} and len(demonstrations) == 3
    fresh = numbered(6)
    fresh.keep([1, 4, 5], "low_reward")
    order = names(fresh.take(6))
    assert sorted(order[:3]) == sorted(order[3:]) == [1, 4, 5]
    assert names(demonstrations.take(5)) == order[1:]


PAIRED = {"prompt": ["a", "b", "c", "d"], "demonstration": [None, "x", "", "y" * 99]}


@pytest.mark.parametrize("prompts", ["standard", "conversational"])
def test_paired_rows_without_a_demonstration(prompts):
    columns = {**PAIRED, "answer": [1, 2, 3, 4]}
    if prompts == "conversational":
        columns["prompt"] = [user(p) for p in columns["prompt"]]
    demonstrations = MapDemonstrations(Dataset.from_dict(columns), tokenizer(column="demonstration"), seed=0)
    assert demonstrations.counts == {"absent": 2, "used": 1, "too_long": 1}
    (row,) = demonstrations.sample(9)
    assert row["answer"] == 2, "rewards read the other columns"
    assert (row["prompt"], row["completion"]) == (("b", "x") if prompts == "standard" else (user("b"), assistant("x")))


def test_rows_that_are_rare_and_late():
    """Types must not be inferred from the first thousand rows."""
    late = {"prompt": ["p"] * 1500, "demonstration": [None] * 1499 + ["x"]}
    demonstrations = MapDemonstrations(Dataset.from_dict(late), tokenizer(column="demonstration"), seed=0)
    assert demonstrations.counts == {"absent": 1499, "used": 1}
    named = [{"messages": [{"role": "user", "content": "p", "name": None}, *assistant("c")]} for _ in range(1100)]
    named[-1]["messages"][0]["name"] = "bob"
    demonstrations = MapDemonstrations(Dataset.from_list(named), tokenizer(), seed=0)
    assert demonstrations.counts == {"used": 1100}
