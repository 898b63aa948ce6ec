"""The checkpoint that is evaluated: its configuration, what reads its prompts, and its weights."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from .errors import EvaluationError
from .generation import NO_TOKENIZER, makes_tokens, text_tokenizer


ADAPTER_FILE = "adapter_config.json"
MODEL_FILES = (
    "*.safetensors", "*model*.bin", "*config.json", "tokenizer*", "vocab*", "merges.txt", "*tokens*.json", "*.jinja",
)  # fmt: skip


def weights_fingerprint(name: str) -> str | None:
    """
    Short hash of names, sizes and times of what a folder holds of a model, and of its base where it is an adapter:
    weights, tokenizer and templates, which training may have overwritten. `None` for a name on the Hub.
    """
    folders, adapter = [Path(name)], Path(name, ADAPTER_FILE)
    if adapter.is_file():
        folders.append(Path(str(json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path"))))
    files = [file for folder in folders for pattern in MODEL_FILES for file in sorted(folder.glob(pattern))]
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16] if stats else None


class Checkpoint:
    """
    A model by its name. What it needs is loaded when it is asked for.

    Args:
        name (`str`):
            Local folder of a model or of an adapter, or a name on the Hub.
        revision (`str`, *optional*):
            Revision on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Run code that comes with the model.
        field (`str`, *optional*, defaults to `"model"`):
            The argument that errors name.

    Raises:
        [`~trl_amft.evaluation.errors.EvaluationError`]: here and in the methods, if something cannot be loaded.
    """

    def __init__(self, name: str, revision: str | None = None, trust_remote_code: bool = False, field: str = "model"):
        self.name = name
        self._field = field
        self._options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        self.config: PretrainedConfig = self._load(self._read_config)
        kind = type(self.config)
        known = kind in MODEL_FOR_CAUSAL_LM_MAPPING or kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        if not known and not getattr(self.config, "auto_map", None):
            raise EvaluationError(
                f"{field}={name!r} is a {self.config.model_type!r}, which does not write text; give a language model, "
                "or one that sees"
            )

    @property
    def is_adapter(self) -> bool:
        """Whether the folder holds an adapter only."""
        return Path(self.name, ADAPTER_FILE).is_file()

    @property
    def sees(self) -> bool:
        """Whether the model takes pictures."""
        return type(self.config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    def load_reader(self, chat_template: str | None = None) -> PreTrainedTokenizerBase | ProcessorMixin:
        """
        Args:
            chat_template (`str`, *optional*):
                Takes the place of the model's own.

        Returns:
            `PreTrainedTokenizerBase` or `ProcessorMixin`: the processor of a model that sees, if it has one.
        """
        loader = AutoProcessor if self.sees else AutoTokenizer
        reader: Any = self._load(lambda: loader.from_pretrained(self.name, **self._options))
        words = text_tokenizer(reader)
        if not makes_tokens(words):
            raise EvaluationError(f"{self._field}={self.name!r} {NO_TOKENIZER}")
        if words.pad_token is None:
            words.pad_token = words.eos_token
        reader.chat_template = chat_template or reader.chat_template or words.chat_template
        return reader

    def load_model(self, dtype: str) -> PreTrainedModel:
        """
        Args:
            dtype (`str`):
                Name of a type of torch, or `"auto"` for that of the files.

        Returns:
            `PreTrainedModel`: on the GPU, if there is one.
        """
        loader = AutoModelForImageTextToText if self.sees else AutoModelForCausalLM
        # Of any type, because type checkers do not see through the decorator of its `to`.
        model: Any = self._load(lambda: loader.from_pretrained(self.name, dtype=dtype, **self._options))
        return model.to("cuda" if torch.cuda.is_available() else "cpu")

    def _read_config(self) -> PretrainedConfig:
        if not self.is_adapter:
            return AutoConfig.from_pretrained(self.name, **self._options)
        adapter = json.loads(Path(self.name, ADAPTER_FILE).read_text(encoding="utf-8"))
        options = self._options | {"revision": adapter.get("revision")}
        return AutoConfig.from_pretrained(adapter["base_model_name_or_path"], **options)

    def _load(self, load):
        try:
            return load()
        # Files, Hub, tokenizers and weights fail in ways without a common base class.
        except Exception as error:
            raise EvaluationError(
                f"{self._field}={self.name!r} cannot be loaded ({_reason(error)}); give the folder of a whole "
                "checkpoint, or a name on the Hub"
            ) from None


def read_template(path: str | None) -> str | None:
    """
    Args:
        path (`str`, *optional*):
            A file.

    Returns:
        `str`, *optional*: the chat template in it.
    """
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(
            f"chat_template={path!r} cannot be read ({error}); give a Jinja template in UTF-8"
        ) from None


def _reason(error: Exception) -> str:
    """The first sentence or so: some messages list every class that transformers has."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]} …"
