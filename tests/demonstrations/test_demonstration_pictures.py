"""Demonstrations with pictures: the same loss and gradient as TRL's own collation, and what cannot be shown."""

import pytest
import torch
from datasets import Dataset, List
from datasets import Image as ImageFeature
from PIL import Image
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

import toy
from messages import one_line
from trl_amft import AMFTTrainer
from trl_amft.demonstrations.paired import DemonstrationRow
from trl_amft.demonstrations.pictures import picture_inputs, pictures_digest, pictures_of
from trl_amft.demonstrations.source import MapDemonstrations, StreamDemonstrations
from trl_amft.demonstrations.tokenizer import PROMPT_IDS, DemonstrationTokenizer
from trl_amft.tiny_model import IMAGE_TOKEN, build_character_tokenizer, build_tiny_model


# As a real template does, it ends every turn with EOS.
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}"
    "{{ '" + IMAGE_TOKEN + "' if part.type == 'image' else part.text }}{% endfor %}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
WORDS = ["one", "two, three", "of four", "five"]


def picture(index: int) -> Image.Image:
    return Image.effect_noise((40, 30), 20 + 50 * index).convert("RGB")


PICTURES = [picture(index) for index in range(4)]


def user(content):
    return [{"role": "user", "content": content}]


def assistant(content):
    return [{"role": "assistant", "content": content}]


def rows(column="image", **changes):
    columns = {
        "prompt": [user(f"{words}?") for words in WORDS],
        "completion": [assistant(words) for words in WORDS],
        column: PICTURES if column == "image" else [[shown] for shown in PICTURES],
        **changes,
    }
    dataset = Dataset.from_dict(columns)
    return dataset.cast_column(column, ImageFeature() if column == "image" else List(ImageFeature()))


def llava():
    model, processor = build_tiny_model(
        model_type="llava", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_pixels=28
    )
    processor.chat_template = processor.tokenizer.chat_template = TEMPLATE
    return model, processor


def idefics():
    """A family whose pictures come in tiles, padded to the row with the most, with a mask beside the pixels."""
    tokenizer = build_character_tokenizer()
    marks = ["<fake_token_around_image>", IMAGE_TOKEN, "<end_of_utterance>", "<global-img>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    size = {"longest_edge": 32}
    reader = Idefics3ImageProcessorPil(size=size, max_image_size=size, do_image_splitting=False)
    processor = Idefics3Processor(image_processor=reader, tokenizer=tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    text = {"model_type": "llama", "vocab_size": len(tokenizer), "num_key_value_heads": 2, **sizes, **ids}
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        vision_config={"image_size": 32, "patch_size": 8, **sizes},
        text_config=text,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return Idefics3ForConditionalGeneration(config), processor


def tokenize(processor, **overrides):
    tokenizer = getattr(processor, "tokenizer", processor)
    settings = {"tokenizer": tokenizer, "eos_token_ids": [tokenizer.eos_token_id], "max_length": 50, "truncate": False}
    return DemonstrationTokenizer(**settings, processor=processor if tokenizer is not processor else None, **overrides)


def trainer(folder, family, dataset=None, **settings):
    model, processor = family()
    return AMFTTrainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=toy.config(folder, max_completion_length=20, **settings),
        train_dataset=rows().remove_columns("completion") if dataset is not None else rows("image", answer=WORDS),
        processing_class=processor,
        demonstration_dataset=dataset,
    )


@pytest.mark.parametrize("column", ["image", "images"])
@pytest.mark.parametrize("family", [llava, idefics])
def test_loss_and_gradient_are_those_of_trls_collator(tmp_path, family, column):
    dataset = rows(column)
    made = trainer(tmp_path, family, dataset)
    model, own = made.model, made.demonstrations.sample(4)
    made._supervised.load([[DemonstrationRow(row) for row in own]])
    loss = made._supervised.backward(model)
    found = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }

    model.zero_grad()
    batch = DataCollatorForVisionLanguageModeling(made.processing_class, completion_only_loss=True)(list(dataset))
    expected = model(**batch).loss
    expected.backward()
    assert ("pixel_attention_mask" in batch) == (family is idefics)
    assert made._supervised.tokens == (batch["labels"] != -100).sum() == sum(len(words) + 1 for words in WORDS)
    assert torch.allclose(loss, expected.detach(), rtol=1e-5)
    assert any("vision" in name and grad.abs().sum() > 0 for name, grad in found.items())
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, atol=1e-6), name


@pytest.mark.parametrize("family", [llava, idefics])
def test_prompts_are_those_of_the_rollouts(tmp_path, family):
    dataset = rows()
    made = trainer(tmp_path, family, dataset)
    prompts = [prepare_multimodal_messages(row["prompt"], [row["image"]]) for row in dataset]
    ids, _, fields = made._tokenize_prompts(prompts)
    assert [row[PROMPT_IDS] for row in made.demonstrations.sample(4)] == [list(row) for row in ids]
    own = made.demonstrations.tokenize.picture_inputs(made.demonstrations.sample(4), 99)
    assert set(own) == set(fields)


def test_a_place_for_each_picture():
    """Messages may say where pictures belong; two in one prompt come in that order."""
    _, processor = llava()
    parts = [
        {"type": kind, "text": text} for kind, text in (("text", "a"), ("image", ""), ("text", "b"), ("image", ""))
    ]
    row = {"prompt": user(parts), "completion": assistant([{"type": "text", "text": "c"}]), "images": PICTURES[:2]}
    made = tokenize(processor)(row)
    text = processor.tokenizer.decode(made[PROMPT_IDS]).replace(IMAGE_TOKEN * 4, "#")
    assert text == "<user>a#b#<eos><assistant>"
    inputs = tokenize(processor).picture_inputs([{**row, **made}], 60)
    both = processor.image_processor(images=PICTURES[:2], return_tensors="pt")["pixel_values"]
    assert torch.equal(inputs["pixel_values"], both)


def test_fields_of_tokens_reach_to_the_end_of_the_row():
    class Processor:
        def apply_chat_template(self, prompts, **options):
            return {
                "input_ids": torch.zeros(2, 3),
                "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
                "mm_token_type_ids": torch.tensor([[9, 1, 2], [3, 4, 5]]),
                "image_grid_thw": torch.ones(2, 3),
            }

    inputs = picture_inputs(Processor(), [[], []], 5, {})
    assert inputs["mm_token_type_ids"].tolist() == [[1, 2, 0, 0, 0], [3, 4, 5, 0, 0]]
    assert set(inputs) == {"mm_token_type_ids", "image_grid_thw"} and inputs["image_grid_thw"].shape == (2, 3)


def test_a_part_without_rows_passes_through_the_layers_that_see(tmp_path):
    """Otherwise a process without a demonstration would leave the others waiting there."""
    made = trainer(tmp_path, llava, rows())
    seen = []
    made.model.model.vision_tower.register_forward_hook(lambda *_: seen.append(1))
    made._supervised.load([[], []])
    assert made._supervised.backward(made.model) == 0.0 and made._supervised.tokens == 0.0
    grads = [parameter.grad for parameter in made.model.model.vision_tower.parameters()]
    assert seen == [1] and all(grad is None or grad.abs().sum() == 0 for grad in grads)


def test_words_take_no_pictures(tmp_path):
    made = trainer(tmp_path, llava, rows().remove_columns("image"))
    assert made.demonstrations.tokenize.picture_inputs(made.demonstrations.sample(2), 9) == {}
    made._supervised.load([[]])
    assert made._supervised._batches[0]["input_ids"].tolist() == [[0, 0]]


def test_column_of_prompts_with_pictures(tmp_path):
    """Prompts and answers that are alike in words belong to the picture that they came with."""
    same = rows(prompt=[user("what?")] * 4, demonstration=["a", "a", "b", None])
    model, processor = llava()
    made = AMFTTrainer(
        model=model,
        reward_funcs=lambda completions, **columns: [float(index % 3) for index, _ in enumerate(completions)],
        args=toy.config(tmp_path, mixing_policy="luffy", max_steps=1),
        train_dataset=same.remove_columns("completion"),
        processing_class=processor,
    )
    assert len(made._paired._index) == len(made.demonstrations) == 3
    made.train()
    assert made.state.global_step == 1


def test_digest():
    assert pictures_digest({"image": PICTURES[0]}) == pictures_digest({"images": [PICTURES[0].copy()]})
    assert pictures_digest({"image": PICTURES[0]}) != pictures_digest({"image": PICTURES[1]})
    assert pictures_digest({"image": "a.png"}) != pictures_digest({"image": "b.png"})
    assert pictures_digest({"image": None}) == pictures_digest({"images": []}) == "" == pictures_digest({})
    assert pictures_of({"image": None, "images": []}) == []


REFUSED = {
    "plain text": ({"prompt": "a", "completion": "b"}, "plain text as its prompt", "give messages"),
    "two places": ({"prompt": user([{"type": "image"}] * 2)}, "not as many places", "{'type': 'image'} for each"),
    "in the answer": (
        {"completion": assistant([{"type": "image"}])},
        "not as many places",
        "in the turns of the user",
    ),
    "none": ({"prompt": user([{"type": "image"}]), "image": None}, "type='image'", "column 'image' or 'images'"),
    "sound": ({"prompt": user([{"type": "image"}, {"type": "audio"}])}, "type='audio'", "not supported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pictures_that_do_not_fit(name):
    changes, *parts = REFUSED[name]
    row = {"prompt": user("a"), "completion": assistant("b"), "image": PICTURES[0], **changes}
    with pytest.raises(ValueError) as error:
        tokenize(llava()[1])(row)
    one_line(error, *parts)


def test_model_that_reads_text_only():
    with pytest.raises(ValueError) as error:
        tokenize(build_character_tokenizer())(
            {"prompt": user("a"), "completion": assistant("b"), "image": PICTURES[0]}
        )
    one_line(error, "1 picture(s)", "a tokenizer only", "take a model that sees, or drop the columns")


@pytest.mark.parametrize("streamed", [False, True])
def test_some_with_and_some_without(streamed):
    mixed = rows(image=[*PICTURES[:3], None])
    with pytest.raises(ValueError) as error:
        if streamed:
            StreamDemonstrations(mixed.to_iterable_dataset(), tokenize(llava()[1])).take(4)
        else:
            MapDemonstrations(mixed, tokenize(llava()[1]), seed=0)
    one_line(error, "some have pictures", "some have none", "give them to all rows, or to none")


def test_a_stream_has_its_pictures():
    stream = StreamDemonstrations(rows().to_iterable_dataset(), tokenize(llava()[1]))
    inputs = stream.tokenize.picture_inputs(stream.take(3), 60)
    assert inputs["pixel_values"].shape == (3, 3, 28, 28)
