"""Refusals: combinations that cannot work, each with one line that names the field, its value and the remedy."""

from importlib.metadata import version
from typing import Any

import torch
from accelerate.state import AcceleratorState
from datasets import Dataset, IterableDataset
from packaging.version import Version
from transformers import PreTrainedTokenizerBase
from transformers.training_args import OptimizerNames

from ..amft_config import AMFTConfig
from ..compat import DEEPSPEED_MIN
from ..demonstrations.source_rotation import SOURCE
from ..evaluation.generation import NO_TOKENIZER, makes_tokens
from ..rollouts.advantage_baseline import baseline_column, check_baseline_column


GRPO_ONLY = "set mixing_policy='fixed' and mu_init=0 to train without any"
# They step inside the backward pass; the others whose names end so do as well.
STEP_IN_BACKWARD = ("lomo", "adalomo", "layerwise")


def check_arguments(
    args: AMFTConfig, train_dataset, demonstration_dataset, validation_dataset, environment_factory=None
) -> None:
    """
    Checks before a model is loaded.

    Raises:
        `TypeError`: for objects of the wrong class.
        `ValueError`: for combinations of arguments.
    """
    if not isinstance(args, AMFTConfig):
        raise TypeError(
            f"args must be an AMFTConfig, got {type(args).__name__}: replace the class name, the arguments stay"
        )
    for name, dataset in (
        ("train_dataset", train_dataset),
        ("demonstration_dataset", demonstration_dataset),
        ("validation_dataset", validation_dataset),
    ):
        if dataset is not None and not isinstance(dataset, (Dataset, IterableDataset)):
            raise TypeError(
                f"{name} must be a Dataset or IterableDataset, got {type(dataset).__name__}: pass one split, or build "
                "one with Dataset.from_list or Dataset.from_dict"
            )
    if isinstance(train_dataset, Dataset) and len(train_dataset) == 0:
        raise ValueError("train_dataset is empty: give at least one row, with its prompt in the column 'prompt'")
    if needs_demonstrations(args) and isinstance(demonstration_dataset, Dataset) and len(demonstration_dataset) == 0:
        raise ValueError(f"demonstration_dataset is empty: give at least one demonstration, or {GRPO_ONLY}")
    if args.sft_warmup_steps and isinstance(train_dataset, IterableDataset):
        raise ValueError(
            f"sft_warmup_steps={args.sft_warmup_steps} needs a train_dataset that can be indexed, got an "
            "IterableDataset: load it without streaming, or warm up in a run of its own with mu_init 1"
        )
    if args.policy_class.paired and demonstration_dataset is not None:
        raise ValueError(
            f"mixing_policy={args.mixing_policy!r} decides prompt by prompt and needs the demonstration of each: "
            f"put them into the column {args.demonstration_column!r} of train_dataset instead of a "
            "`demonstration_dataset`"
        )
    if needs_demonstrations(args):
        _check_set(args, train_dataset if demonstration_dataset is None else demonstration_dataset)
        name = OptimizerNames(args.optim).value
        if name.endswith(STEP_IN_BACKWARD):
            raise ValueError(
                f"optim={name!r} steps inside the backward pass, before the two gradients are mixed: set "
                "optim='adamw_torch'"
            )
        if environment_factory is not None:
            _check_environments(args)
    check_baseline_column(args, train_dataset)
    if args.remove_unused_columns and (args.policy_class.paired or baseline_column(args) is not None):
        reader = (
            f"mixing_policy={args.mixing_policy!r}"
            if args.policy_class.paired
            else f"advantage_baseline={args.advantage_baseline!r}"
        )
        raise ValueError(
            f"remove_unused_columns=True takes the column away that {reader} reads: set remove_unused_columns to False"
        )
    if args.needs_validation:
        if not isinstance(validation_dataset, Dataset):
            raise ValueError(
                f"meta_gradient='validation' needs a `validation_dataset`, got {type(validation_dataset).__name__}: "
                f"pass a Dataset of held-out prompts with the columns that the rewards read, or use {_lagged(args)}"
            )
        if "prompt" not in validation_dataset.column_names:
            raise ValueError(
                f"validation_dataset: found columns {validation_dataset.column_names}, expected 'prompt': rename one"
            )
        if len(validation_dataset) == 0:
            raise ValueError(f"validation_dataset is empty: give held-out prompts, or use {_lagged(args)}")


def _check_set(args: AMFTConfig, demonstrations: Dataset | IterableDataset | None) -> None:
    """What policy and filter ask of the set as a whole."""
    indexed = isinstance(demonstrations, Dataset)
    columns = (demonstrations.column_names if demonstrations is not None else None) or []
    if args.policy_class.per_source and not (indexed and SOURCE in columns):
        found = f"the columns {sorted(columns)}" if indexed else "a stream"
        raise ValueError(
            f"mixing_policy={args.mixing_policy!r} needs demonstrations with a column {SOURCE!r}, found {found}: add "
            "it or use mixing_policy='amft'"
        )
    if args.demonstration_min_reward is not None and not indexed:
        raise ValueError(
            f"demonstration_min_reward={args.demonstration_min_reward} needs demonstrations that can be indexed, got "
            "an IterableDataset: load them without streaming"
        )


def _lagged(args: AMFTConfig) -> str:
    """The remedy without held-out prompts; the paper's policy sets `meta_gradient` itself."""
    return "mixing_policy='amft'" if args.mixing_policy == "amft_paper" else "meta_gradient='lagged'"


def _check_environments(args: AMFTConfig) -> None:
    """An environment rewards only what is played in it, and what is played there leaves traces."""
    if args.needs_validation:
        raise ValueError(
            f"meta_gradient='validation' would leave traces in an environment (environment_factory): use "
            f"{_lagged(args)}"
        )
    if args.policy_class.scores_demonstrations:
        raise ValueError(
            f"mixing_policy={args.mixing_policy!r} needs the rewards of demonstrations, which an environment "
            "(environment_factory) cannot give: take another policy"
        )
    if args.demonstration_min_reward is not None:
        raise ValueError(
            f"demonstration_min_reward={args.demonstration_min_reward} needs the rewards of demonstrations, which an "
            "environment (environment_factory) cannot give: leave it unset"
        )


def needs_demonstrations(args: AMFTConfig) -> bool:
    """Whether any step of the run takes a demonstration."""
    return bool(args.sft_warmup_steps) or args.mixing_policy != "fixed" or args.mu_init > 0.0


def demonstration_column(args: AMFTConfig, train_dataset) -> str:
    """
    The paired column, checked.

    Raises:
        `ValueError`: if there is no demonstration at all.
    """
    columns = train_dataset.column_names if train_dataset is not None else []
    if args.demonstration_column not in (columns or []):
        raise ValueError(
            f"no demonstrations: train_dataset has no column demonstration_column={args.demonstration_column!r} "
            f"(found {columns}) and no `demonstration_dataset` is given; pass one, or {GRPO_ONLY}"
        )
    if isinstance(train_dataset, IterableDataset):
        raise ValueError(
            f"demonstration_column={args.demonstration_column!r} needs a train_dataset that can be indexed, got an "
            "IterableDataset: pass the demonstrations as `demonstration_dataset`, which may be streamed"
        )
    return args.demonstration_column


def check_optimizer(args: AMFTConfig, optimizer: torch.optim.Optimizer | None, optimizer_class: type) -> None:
    """
    The exact sensitivity is that of AdamW; anything else must say so.

    Args:
        args ([`AMFTConfig`]):
            Configuration.
        optimizer (`torch.optim.Optimizer`, *optional*):
            The optimizer, possibly wrapped; `None` before it is built.
        optimizer_class (`type`):
            What `args.optim` names, checked while there is no optimizer.

    Raises:
        `ValueError`: if `meta_preconditioner="adamw"` does not describe it.
    """
    if not args.policy_class.needs_meta_gradient or args.meta_preconditioner != "adamw":
        return
    inner: Any = optimizer
    while hasattr(inner, "optimizer"):  # accelerate's wrapper, and DeepSpeed's
        inner = inner.optimizer
    found = optimizer_class if inner is None else type(inner)
    groups = [] if inner is None else inner.param_groups
    fused = bool(getattr(inner, "adam_w_mode", False))  # DeepSpeed's own AdamW
    adamw = fused or issubclass(found, torch.optim.AdamW)
    decoupled = adamw or not any(group.get("weight_decay") for group in groups)
    amsgrad = any(group.get("amsgrad") for group in groups)
    if not (adamw or issubclass(found, torch.optim.Adam)) or not decoupled or amsgrad:
        raise ValueError(
            f"meta_preconditioner='adamw' does not describe {found.__name__}, only torch's AdamW without "
            "amsgrad: set optim='adamw_torch' or meta_preconditioner='sgd'"
        )


def check_distributed(state: AcceleratorState, args: AMFTConfig) -> None:
    """
    Args:
        state ([`~accelerate.state.AcceleratorState`]):
            Holds the configuration of DeepSpeed or FSDP, where one is used.
        args ([`AMFTConfig`]):
            Configuration.

    Raises:
        `ValueError`: for ways of sharding that the gradient access does not know.
    """
    if not needs_demonstrations(args):
        return
    if state.mixed_precision == "fp16":
        raise ValueError(
            "mixed_precision='fp16' of the launcher is not supported: gradients would carry the loss scale into the "
            "meta-gradient; use bf16 or no"
        )
    fsdp_plugin, deepspeed_plugin = getattr(state, "fsdp_plugin", None), state.deepspeed_plugin
    if fsdp_plugin is not None and fsdp_plugin.fsdp_version != 2:
        raise ValueError(
            f"fsdp_version={fsdp_plugin.fsdp_version} is not supported: set it to 2, or use DeepSpeed ZeRO or DDP"
        )
    if deepspeed_plugin is None:
        return
    found = version("deepspeed")
    if Version(found) < Version(DEEPSPEED_MIN):
        raise ValueError(
            f"deepspeed {found} loses gradients when a step holds several backward passes: run "
            f"`pip install 'deepspeed>={DEEPSPEED_MIN}'`"
        )
    zero = deepspeed_plugin.deepspeed_config.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    if stage not in (1, 2, 3):
        raise ValueError(f"DeepSpeed ZeRO stage {stage} is not supported: set zero_optimization.stage to 1, 2 or 3")
    if zero.get("compute_grad_norm") is False:
        raise ValueError(
            "zero_optimization.compute_grad_norm=False is not supported, because the norm tells whether DeepSpeed "
            "stepped with the mixed gradient: leave it out"
        )
    for name in ("offload_optimizer", "offload_param"):
        device = (zero.get(name) or {}).get("device") or "none"
        if device not in ("none", "cpu"):
            raise ValueError(f"zero_optimization.{name}.device={device!r} is not supported: set it to 'cpu' or 'none'")
    if deepspeed_plugin.deepspeed_config.get("fp16", {}).get("enabled") is True:
        raise ValueError(
            "fp16.enabled=True is not supported under DeepSpeed: gradients would carry the loss scale; use bf16"
        )


def check_model(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, args: AMFTConfig) -> None:
    """
    Raises:
        `ValueError`: if what is trained lies on several devices of this process, where transformers may have put it,
            or if texts become no tokens.
    """
    if not makes_tokens(tokenizer):
        raise ValueError(f"the model {NO_TOKENIZER}, or give a processing_class")
    devices = {str(parameter.device) for parameter in model.parameters() if parameter.requires_grad}
    if needs_demonstrations(args) and len(devices) > 1:
        raise ValueError(
            f"the model's parameters lie on {', '.join(sorted(devices))}, but one process trains on one device: start "
            "with accelerate launch, or set CUDA_VISIBLE_DEVICES to one GPU"
        )


def check_validation(trainer, num_prompts: int) -> None:
    """
    Checks of `meta_gradient="validation"` that need the trainer.

    Raises:
        `ValueError`: for what the validation gradient cannot score, and for prompts that do not divide.
    """
    if trainer._is_vlm:
        raise ValueError(f"meta_gradient='validation' does not score images: use {_lagged(trainer.args)}")
    if trainer.rollout_func is not None:
        raise ValueError(
            f"meta_gradient='validation' would leave traces in a rollout function: use {_lagged(trainer.args)}"
        )
    generations, world = trainer.args.num_generations, trainer.accelerator.num_processes
    if (num_prompts * generations) % world:
        raise ValueError(
            f"meta_batch_size={num_prompts} times num_generations={generations} does not divide by {world} processes: "
            f"make meta_batch_size a multiple of {world}"
        )
