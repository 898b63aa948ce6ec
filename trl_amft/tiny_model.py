"""A tiny language model, if wanted one that sees, and a character tokenizer, made from nothing but a seed.

Tests, the quickstart and the study need a model that trains in minutes on a CPU and that no hub has to serve. It is an
ordinary Qwen2, or another family, with an ordinary fast tokenizer, so whatever runs on it runs on a full-size
checkpoint.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.integrations import deepspeed


PAD_TOKEN = "<pad>"
EOS_TOKEN = "<eos>"

# Families whose configurations take the few sizes below, and whose tokenizer class leaves the one above as it is.
MODEL_TYPES = ("qwen2", "qwen3", "llama", "mistral")

# The one that sees: CLIP's encoder before a Qwen2. Every picture becomes a square, and each of its patches a token.
IMAGE_MODEL_TYPE = "llava"
IMAGE_TOKEN = "<image>"
PATCH_PIXELS = 14

# Content in parts is how a processor passes on messages with pictures.
IMAGE_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + IMAGE_TOKEN + "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def build_character_tokenizer() -> PreTrainedTokenizerFast:
    """
    Tokenizer with one id per byte, hence one per ASCII character, after the pad and the end-of-sequence token.

    It is a byte-level BPE without merges because `AutoTokenizer` reads whatever lies beside a Qwen2 as Qwen2's own
    byte-level BPE: in this form the reloaded tokenizer is the same one, in any other it would lose the spaces. All 256
    bytes are in the vocabulary, so no text is ever dropped. There is no beginning-of-sequence token. The unknown
    token cannot occur; it is named because Qwen2's class would otherwise add one beyond the embedding matrix.

    Returns:
        `PreTrainedTokenizerFast`: 258 entries; saves, and reloads through `AutoTokenizer`.
    """
    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([PAD_TOKEN, EOS_TOKEN, *alphabet])}
    backend = Tokenizer(BPE(vocabulary, merges=[]))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        unk_token=PAD_TOKEN,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_tiny_model(
    *,
    model_type: str = "qwen2",
    hidden_size: int = 128,
    num_hidden_layers: int = 4,
    num_attention_heads: int = 4,
    intermediate_size: int | None = None,
    max_position_embeddings: int = 1024,
    image_pixels: int = 112,
    initializer_range: float = 0.02,
    seed: int = 0,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast | ProcessorMixin]:
    """
    Build a small model with random weights, and the character tokenizer it reads.

    Args:
        model_type (`str`, *optional*, defaults to `"qwen2"`):
            Family of the model, one of `MODEL_TYPES`, or `IMAGE_MODEL_TYPE` for one that takes images.
        hidden_size (`int`, *optional*, defaults to `128`):
            Width of the model. Must be a multiple of `2 * num_attention_heads` (rotary embeddings pair dimensions).
        num_hidden_layers (`int`, *optional*, defaults to `4`):
            Number of layers.
        num_attention_heads (`int`, *optional*, defaults to `4`):
            Number of attention heads; keys and values have as many.
        intermediate_size (`int`, *optional*):
            Width of the feed-forward layers. Four times `hidden_size` if not given.
        max_position_embeddings (`int`, *optional*, defaults to `1024`):
            Longest sequence in tokens, prompt and completion together.
        image_pixels (`int`, *optional*, defaults to `112`):
            Width and height that pictures are brought to, for a model that sees. A multiple of 14; a patch of 14 by 14
            pixels is a token.
        initializer_range (`float`, *optional*, defaults to `0.02`):
            Standard deviation of the random weights. The default is that of models which are much wider; at
            `hidden_size ** -0.5` a narrow one learns faster, and one that sees does not learn to read without it,
            because what differs from picture to picture is lost in what all have in common.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the weights. The global random state is left as it was.

    Returns:
        `tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]`: float32 model in training mode, and its tokenizer. For
        images, a `LlavaForConditionalGeneration` and a processor with that tokenizer.
    """
    sees = model_type == IMAGE_MODEL_TYPE
    if model_type not in (*MODEL_TYPES, IMAGE_MODEL_TYPE):
        known = ", ".join((*MODEL_TYPES, IMAGE_MODEL_TYPE))
        raise ValueError(f"model_type={model_type!r} is not known; choose one of: {known}")
    for name, number in (
        *(("hidden_size", hidden_size), ("num_hidden_layers", num_hidden_layers)),
        *(("num_attention_heads", num_attention_heads), ("max_position_embeddings", max_position_embeddings)),
    ):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name}={number!r} is out of range; give a whole number from 1 on")
    if hidden_size % (2 * num_attention_heads):
        raise ValueError(
            f"hidden_size={hidden_size} cannot be split into {num_attention_heads} heads of even width; choose a "
            f"multiple of {2 * num_attention_heads}"
        )
    if image_pixels < PATCH_PIXELS or image_pixels % PATCH_PIXELS:
        raise ValueError(f"image_pixels={image_pixels} is not made of patches; choose a multiple of {PATCH_PIXELS}")
    tokenizer = build_character_tokenizer()
    if sees:
        tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    config = AutoConfig.for_model(
        "qwen2" if sees else model_type,
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size if intermediate_size is None else intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_attention_heads,
        max_position_embeddings=max_position_embeddings,
        tie_word_embeddings=True,
        initializer_range=initializer_range,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    if hasattr(config, "head_dim"):
        config.head_dim = hidden_size // num_attention_heads
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Not `from_config`, which under ZeRO-3 would shard the model before the processes know of each other.
        if sees:
            with _not_sharded():
                model = LlavaForConditionalGeneration(_image_config(config, tokenizer, image_pixels))
        else:
            model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            model = model_class(config)
    return model.train(), _image_processor(tokenizer, image_pixels) if sees else tokenizer


@contextmanager
def _not_sharded() -> Iterator[None]:
    """A model of several parts makes them by `from_config`, whatever it is made by itself."""
    held = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = held


def _image_config(text_config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast, pixels: int) -> LlavaConfig:
    """The text model behind an encoder of half its depth and as wide."""
    weights: dict[str, Any] = {"initializer_range": text_config.initializer_range}
    return LlavaConfig(
        **weights,
        vision_config=CLIPVisionConfig(
            **weights,
            hidden_size=text_config.hidden_size,
            intermediate_size=text_config.intermediate_size,
            num_hidden_layers=(text_config.num_hidden_layers + 1) // 2,
            num_attention_heads=text_config.num_attention_heads,
            image_size=pixels,
            patch_size=PATCH_PIXELS,
        ),
        text_config=text_config,
        image_token_index=tokenizer.get_vocab()[IMAGE_TOKEN],
        vision_feature_layer=-1,
    )


def _image_processor(tokenizer: PreTrainedTokenizerFast, pixels: int) -> ProcessorMixin:
    # Imported here, because without torchvision transformers tells at the import that it takes Pillow.
    from transformers import CLIPImageProcessor, LlavaProcessor

    size = {"height": pixels, "width": pixels}
    tokenizer.chat_template = IMAGE_CHAT_TEMPLATE
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(size=size, crop_size=size),
        tokenizer=tokenizer,
        patch_size=PATCH_PIXELS,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's class token, which that strategy leaves out again
        chat_template=IMAGE_CHAT_TEMPLATE,
    )


def save_tiny_model(folder: str | Path, **kwargs) -> None:
    """
    Write a small model and its tokenizer where a checkpoint is expected.

    Args:
        folder (`str` or `Path`):
            Where to. It is created.
        **kwargs:
            Arguments of [`build_tiny_model`].
    """
    for part in build_tiny_model(**kwargs):
        part.save_pretrained(folder)
