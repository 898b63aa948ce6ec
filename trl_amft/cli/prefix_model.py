"""The model that is made to stop: loaded as in training, its chat template, and the length of texts in its tokens."""

from typing import Any

from ..compat import as_mapping
from ..data.prefixes import without_bos
from ..evaluation.checkpoint import Checkpoint
from ..evaluation.errors import EvaluationError
from ..evaluation.generation import render_prompts, text_tokenizer
from ..evaluation.samplers import Sampling, TransformersSampler, VllmSampler, gpu_with_vllm, positions_of
from ..tiny_model import build_tiny_model, save_tiny_model
from .arguments import Recipe
from .model_folder import folder_with_config
from .usage import UsageError


def load_sampler(recipe: Recipe, sampling: Sampling) -> tuple[Any, Any, int | None]:
    """
    The recipe's model before training, with the configuration, precision and revision that training loads.

    Args:
        recipe ([`~trl_amft.cli.arguments.Recipe`]):
            Checked arguments.
        sampling ([`~trl_amft.evaluation.samplers.Sampling`]):
            How completions are drawn.

    Returns:
        `tuple`: a [`~trl_amft.evaluation.samplers.Sampler`], by vLLM on a GPU, otherwise by transformers; the
        tokenizer; how many tokens a prompt and its completion may have together, `None` if there is no limit.
    """
    training, name = recipe.training, recipe.model.model_name_or_path
    options = as_mapping(training.chat_template_kwargs)
    model: Any
    tokenizer: Any
    if name is None:
        try:
            model, tokenizer = build_tiny_model(**as_mapping(recipe.run.tiny_model))
        except (ValueError, TypeError) as error:
            raise UsageError(f"tiny_model: {error}") from None
        # A model that sees has a processor around it.
        tokenizer = text_tokenizer(tokenizer)
        positions = positions_of(model.config)
        return TransformersSampler(model.eval(), tokenizer, sampling, template_kwargs=options), tokenizer, positions
    if recipe.written_model is not None:
        save_tiny_model(name, **recipe.written_model)
    revision, code = recipe.model.model_revision, training.trust_remote_code
    if recipe.run.model_config:
        name = folder_with_config(name, revision, as_mapping(recipe.run.model_config), recipe.folder / "model")
    dtype = recipe.model.dtype or "auto"
    try:
        checkpoint = Checkpoint(name, revision, code, field="model_name_or_path")
        tokenizer = text_tokenizer(checkpoint.load_reader())
        positions = positions_of(checkpoint.config)
        if not gpu_with_vllm():
            model = checkpoint.load_model(dtype)
            return TransformersSampler(model, tokenizer, sampling, template_kwargs=options), tokenizer, positions
    except EvaluationError as error:
        raise UsageError(str(error)) from None
    try:
        sampler = VllmSampler(
            name,
            tokenizer,
            sampling,
            template_kwargs=options,
            max_model_len=training.vllm_max_model_length,
            tensor_parallel_size=training.vllm_tensor_parallel_size,
            seed=training.seed,
            revision=revision,
            trust_remote_code=code,
            dtype=dtype,
        )
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(
            f"model_name_or_path={name!r} cannot be loaded by vLLM ({error}); give a model that vLLM supports, or set "
            "CUDA_VISIBLE_DEVICES= to draw with transformers"
        ) from None
    return sampler, tokenizer, training.vllm_max_model_length or positions


def rendered_prompts(recipe: Recipe, problems: list[dict[str, Any]], tokenizer: Any) -> list[str]:
    """
    Prompts as plain text, without the beginning-of-sequence token that the tokenizer adds to one.

    Args:
        recipe ([`~trl_amft.cli.arguments.Recipe`]):
            Has the arguments of the chat template.
        problems (`list[dict[str, Any]]`):
            Rows with `prompt`.
        tokenizer (`PreTrainedTokenizerBase`):
            Has the chat template.

    Returns:
        `list[str]`
    """
    options = as_mapping(recipe.training.chat_template_kwargs)
    try:
        return [without_bos(tokenizer, *render_prompts(tokenizer, [row["prompt"]], options)) for row in problems]
    # A template is a program.
    except Exception as error:
        name = recipe.model.model_name_or_path
        raise UsageError(f"model_name_or_path={name!r}: its chat template fails ({error}); give another") from None


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of plain text, with those that the tokenizer adds."""
    return len(tokenizer(text)["input_ids"])
