"""Demonstrations that call tools, and what a tokenized row depends on."""

import pytest
from datasets.fingerprint import Hasher
from peft import PromptTuningConfig

import toy
from trl_amft import AMFTTrainer
from trl_amft.demonstrations.tokenizer import COMPLETION_IDS, PROMPT_IDS, STATUS, DemonstrationTokenizer


WITH_TOOLS = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}{% for m in messages %}<{{ m.role }}>"
    "{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments.n }})"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
PROMPT = [{"role": "user", "content": "p"}]
ANSWER = [{"role": "assistant", "content": "c"}]


def add(n: int) -> int:
    """
    Adds one.

    Args:
        n: A number.
    """
    return n + 1


def tokenizer(**overrides):
    words = toy.model()[1]
    options = {"chat_template": WITH_TOOLS}
    return DemonstrationTokenizer(words, [words.eos_token_id], 50, False, template_kwargs=options, **overrides)


def text(row):
    """Prompt and completion as the model reads them."""
    words = toy.model()[1]
    return words.decode(row[PROMPT_IDS]), words.decode(row[COMPLETION_IDS])


@pytest.mark.parametrize("words", [None, ""])
def test_call_without_words(words):
    call = {"type": "function", "function": {"name": "f", "arguments": {"n": 1}}}
    completion = [{"role": "assistant", "content": words, "tool_calls": [call]}]
    row = tokenizer()({"prompt": PROMPT, "completion": completion})
    assert row[STATUS] == "used" and text(row) == ("<user>p<assistant>", "f(1)<eos>")


def test_tools_are_those_of_the_own_environment():
    made = tokenizer(tools_of={"sums": [add], "talk": []})
    row = {"prompt": PROMPT, "completion": ANSWER}
    assert text(made({**row, "environment": "sums"}))[0] == "[add]<user>p<assistant>"
    assert text(made({**row, "environment": "talk"}))[0] == "<user>p<assistant>"
    with pytest.raises(ValueError, match="environment=None and 0 pictures: .* give one of sums, talk"):
        made(row)


def test_another_release_is_another_tokenizer():
    """So that `datasets` does not take from its cache what another release made."""
    assert Hasher.hash(tokenizer()) == Hasher.hash(tokenizer()) != Hasher.hash(tokenizer(version="0"))


def test_prompt_tuning(tmp_path):
    """Its tokens come before those of a demonstration and have no label."""
    model, words = toy.model()
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=toy.config(tmp_path, sft_warmup_steps=2, max_steps=4),
        train_dataset=toy.prompt_set(),
        processing_class=words,
        demonstration_dataset=toy.demonstration_set(lengths=True),
        peft_config=PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    )
    before = toy.parameters(trainer)
    trainer.train()
    moved = [name for name, value in toy.parameters(trainer).items() if not value.equal(before[name])]
    assert len(moved) == 1 and "prompt_encoder" in moved[0]
