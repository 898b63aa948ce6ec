"""The tiny model that sees, and the trainer with pictures in the prompts, and in demonstrations or not."""

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration
from transformers.integrations import deepspeed

from trl_amft import AMFTConfig, AMFTTrainer
from trl_amft.cli.smoke import family
from trl_amft.evaluation import evaluate_held_out
from trl_amft.tasks import load_general_points
from trl_amft.tiny_model import IMAGE_MODEL_TYPE, IMAGE_TOKEN, build_tiny_model, save_tiny_model


SMALL = {"train_hands": 8, "held_out_hands": 4}
SIZES = {"model_type": IMAGE_MODEL_TYPE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def ask(processor, image, text: str) -> dict:
    content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


@pytest.fixture(scope="module")
def task():
    return load_general_points(modality="image", held_out="visual", style="short", **SMALL)


class TestModel:
    def test_saved_and_loaded_by_the_auto_classes(self, tmp_path, task):
        save_tiny_model(tmp_path, seed=3, **SIZES)
        processor = AutoProcessor.from_pretrained(tmp_path)
        loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
        model, own = build_tiny_model(seed=3, **SIZES)
        assert processor.tokenizer.chat_template == own.tokenizer.chat_template
        inputs = ask(processor, task.train_dataset[0]["image"], "hand")
        assert torch.equal(inputs["pixel_values"], ask(own, task.train_dataset[0]["image"], "hand")["pixel_values"])
        with torch.no_grad():
            assert torch.allclose(loaded(**inputs).logits, model.eval()(**inputs).logits, atol=1e-6)

    def test_pictures_change_what_it_says(self, task):
        model, processor = build_tiny_model(**SIZES)
        first, second = (ask(processor, task.train_dataset[row]["image"], "hand") for row in (0, 1))
        assert torch.equal(first["input_ids"], second["input_ids"])
        with torch.no_grad():
            assert not torch.allclose(model(**first).logits, model(**second).logits)

    @pytest.mark.parametrize(("pixels", "tokens"), [(14, 1), (56, 16), (112, 64)])
    def test_a_patch_is_a_token(self, task, pixels, tokens):
        model, processor = build_tiny_model(image_pixels=pixels, **SIZES)
        inputs = ask(processor, task.train_dataset[0]["image"], "hand")
        assert (inputs["input_ids"] == model.config.image_token_id).sum() == tokens
        assert inputs["pixel_values"].shape == (1, 3, pixels, pixels) and model(**inputs).logits.isfinite().all()

    def test_deviation_of_the_random_weights(self):
        model = build_tiny_model(initializer_range=0.125, **SIZES)[0]
        weights = dict(model.named_parameters())
        for part in (
            "vision_tower.embeddings.patch_embedding",
            "multi_modal_projector.linear_1",
            "language_model.embed_tokens",
        ):
            assert weights[f"model.{part}.weight"].std().item() == pytest.approx(0.125, rel=0.1)

    @pytest.mark.parametrize("pixels", [0, 100])
    def test_no_part_of_a_patch(self, pixels):
        with pytest.raises(
            ValueError, match=f"^image_pixels={pixels} is not made of patches; choose a multiple of 14"
        ):
            build_tiny_model(image_pixels=pixels, **SIZES)

    def test_seed_and_random_state(self):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        first = build_tiny_model(seed=1, **SIZES)[0]
        assert torch.equal(torch.rand(3), expected)
        assert all(map(torch.equal, first.parameters(), build_tiny_model(seed=1, **SIZES)[0].parameters()))

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("Qwen/Qwen2.5-VL-3B-Instruct", IMAGE_MODEL_TYPE),
            ("llava-hf/llava-1.5-7b-hf", IMAGE_MODEL_TYPE),
            ("Qwen/Qwen2.5-3B-Instruct", "qwen2"),
            ("Qwen/Qwen3-0.6B", "qwen3"),
        ],
    )
    def test_smoke_takes_it_for_models_that_see(self, name, expected):
        assert family(name) == expected

    def test_smoke_takes_it_by_configuration(self, tmp_path):
        save_tiny_model(tmp_path / "plain-name", **SIZES)
        assert family(str(tmp_path / "plain-name")) == IMAGE_MODEL_TYPE


def test_its_parts_are_not_sharded_while_it_is_built_under_zero3(monkeypatch):
    """LLaVA's own constructor makes its parts by `from_config`, where ZeRO-3 would meet the other processes."""

    class Config:
        def is_zero3(self):
            return True

    held = Config()
    deepspeed.set_hf_deepspeed_config(held)
    try:
        states = []
        build = LlavaForConditionalGeneration.__init__

        def watched(self, config):
            states.append(deepspeed.is_deepspeed_zero3_enabled())
            build(self, config)

        monkeypatch.setattr(LlavaForConditionalGeneration, "__init__", watched)
        build_tiny_model(**SIZES)
        assert states == [False] and deepspeed.is_deepspeed_zero3_enabled()
    finally:
        deepspeed.unset_hf_deepspeed_config()


@pytest.mark.parametrize("shown", [True, False])
def test_pictures_in_prompts_and_in_demonstrations_or_not(tmp_path, task, shown):
    model, processor = build_tiny_model(max_position_embeddings=1024, **SIZES)
    trainer = AMFTTrainer(
        model=model,
        processing_class=processor,
        reward_funcs=lambda completions, **columns: [float(index % 2) for index, _ in enumerate(completions)],
        args=AMFTConfig(
            str(tmp_path),
            use_cpu=True,
            bf16=False,
            max_steps=2,
            sft_warmup_steps=1,
            per_device_train_batch_size=2,
            num_generations=2,
            per_device_demonstration_batch_size=2,
            max_completion_length=4,
            max_demonstration_length=160,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            report_to="none",
            logging_steps=1,
            save_strategy="no",
        ),
        train_dataset=task.train_dataset,
        demonstration_dataset=(task if shown else load_general_points(**SMALL)).demonstration_dataset,
    )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    seen = []
    model.model.vision_tower.register_forward_hook(lambda *_: seen.append(trainer.state.global_step))
    trainer.train()
    # While demonstrations in words are imitated nothing is seen.
    assert set(seen) == ({0, 1} if shown else {1})
    unchanged = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    # The norm after CLIP's last layer is for its class token, which is not used.
    assert [name for name in unchanged if "post_layernorm" not in name] == []
    words = processor.tokenizer.decode(trainer.demonstrations.sample(1)[0]["demonstration_prompt_ids"])
    assert words.startswith(f"user: {IMAGE_TOKEN * 64}J=10 " if shown else "user: You hold four playing cards: ")
    assert words.endswith("\nassistant: ")


def test_held_out_accuracy_with_pictures(task):
    model, processor = build_tiny_model(max_position_embeddings=256, **SIZES)
    seen, asked = [], []
    model.model.vision_tower.register_forward_hook(lambda module, given, made: seen.append(len(made[0])))

    def reward(prompts, completions, image, **columns):
        asked.extend(zip(image, completions, strict=True))
        return [1.0] * len(prompts)

    settings = {"num_samples": 2, "max_completion_length": 4, "batch_size": 3}
    result = evaluate_held_out(model, processor, task.held_out_dataset, [reward], **settings)
    assert (result.accuracy, result.num_problems, seen) == (1.0, 4, [3, 3, 2])
    assert [shown for shown, _ in asked[::2]] == list(task.held_out_dataset["image"])
    assert not any(IMAGE_TOKEN in text for _, text in asked)
