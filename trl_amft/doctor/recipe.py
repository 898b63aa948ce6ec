"""The arithmetic of a recipe: what one step takes, how long the run is, and what does not divide."""

from pathlib import Path

from transformers import AutoConfig, PretrainedConfig, Trainer
from transformers.training_args import OptimizerNames

from ..cli.arguments import Recipe
from ..cli.deepspeed_choice import zero_settings
from ..runtime.input_checks import check_optimizer, needs_demonstrations
from .findings import NOTE, OK, Finding, first_line, gigabytes, problem
from .memory import CACHE, PHASES, STAYS, Sizes, memory, sizes_of


# Where neither recipe nor data tell: tokens of a prompt.
ASSUMED_PROMPT = 512
# Shapes of models that recipes here name, for machines that cannot reach them.
KNOWN_SIZES = {"Qwen/Qwen2.5-Math-7B": Sizes()}


def check_batches(recipe: Recipe, processes: int, problems: int | None) -> list[Finding]:
    """
    Args:
        recipe ([`~trl_amft.cli.arguments.Recipe`]):
            A parsed recipe.
        processes (`int`):
            Processes that will train.
        problems (`int`, *optional*):
            Size of the training set, where it is known.
    """
    args = recipe.training
    generations = int(args.num_generations or 1)
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
    shown = (
        f"{args.per_device_train_batch_size} per device x {args.gradient_accumulation_steps} accumulated x "
        f"{processes} {'process' if processes == 1 else 'processes'}"
    )
    prompts = per_step / generations / args.num_iterations
    noun = "prompt" if prompts == 1 else "prompts"
    found = [Finding(OK, f"rollouts per step: {per_step} ({shown}) of {prompts:g} {noun}")]
    if needs_demonstrations(args):
        demonstrations = demonstration_batch(recipe) * args.gradient_accumulation_steps * processes
        found.append(Finding(OK, f"demonstrations per step: {demonstrations}"))
    tokens = per_step * (args.max_completion_length or 0)
    found.append(Finding(OK, f"sampled tokens per step: at most {tokens:,}"))
    warmup, steps = args.sft_warmup_steps, args.max_steps
    if steps > 0:
        text = f"steps: {steps}, {warmup} of them supervised"
        if problems:
            text += f"; {(steps - warmup) * prompts / problems:.3g} passes over {problems:,} training problems"
        found.append(Finding(OK, text))
    else:
        found.append(Finding(OK, f"epochs: {args.num_train_epochs:g}; max_steps is not given"))
    if args.policy_class.needs_meta_gradient and 0 < steps - warmup < 4 * args.meta_window:
        found.append(
            Finding(
                NOTE,
                f"only {steps - warmup} mixed steps: evidence needs four windows of meta_window={args.meta_window} "
                "steps before mu moves",
            )
        )
    return found


def check_optimizer_name(recipe: Recipe) -> list[Finding]:
    """Whether `optim` names an optimizer that a learned weight can follow. A run asks when its model is loaded."""
    args = recipe.training
    if not args.policy_class.needs_meta_gradient or args.meta_preconditioner != "adamw":
        return []
    name = f"optim={OptimizerNames(args.optim).value!r}"
    try:
        optimizer, _ = Trainer.get_optimizer_cls_and_kwargs(args)
    # Packages that are missing, and optimizers that ask for a model, of which none is AdamW.
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:
        return [problem(f"{name} cannot be used here ({error}): set optim='adamw_torch'")]
    try:
        check_optimizer(args, None, optimizer)
    except ValueError as error:
        return [problem(f"{name}: {error}")]
    return []


def model_config(recipe: Recipe) -> tuple[PretrainedConfig | None, Finding]:
    """The model's configuration, without its weights; `None` where it cannot be reached."""
    name = str(recipe.model.model_name_or_path)
    try:
        config = AutoConfig.from_pretrained(
            name, revision=recipe.model.model_revision, trust_remote_code=recipe.training.trust_remote_code
        )
    except (OSError, ValueError) as error:
        if Path(name).exists():
            return None, problem(f"model_name_or_path={name!r} is there but cannot be loaded: {error}")
        # The folder of a run in small is written when it begins.
        if name.startswith((".", "/", "~")) and recipe.written_model is None:
            return None, problem(
                f"model_name_or_path={name!r} is not there; give an existing folder, without ~, or a name on the Hub"
            )
        return None, Finding(NOTE, f"model_name_or_path={name!r} is not reachable from here ({first_line(error)})")
    changes = recipe.run.model_config
    for key, value in changes.items() if isinstance(changes, dict) else ():
        setattr(config, key, value)
    return config, Finding(OK, f"model: {name}, {config.model_type}")


def check_length(recipe: Recipe, config: PretrainedConfig, prompt: int | None) -> list[Finding]:
    """
    Whether prompt and completion fit into what the model and vLLM take.

    Args:
        recipe ([`~trl_amft.cli.arguments.Recipe`]):
            A parsed recipe.
        config ([`~transformers.PretrainedConfig`]):
            Of the model.
        prompt (`int`, *optional*):
            Tokens of the longest prompt of a sample.
    """
    args, found = recipe.training, []
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    needed = (prompt or 0) + (args.max_completion_length or 0)
    what = f"max_completion_length={args.max_completion_length} and a prompt of {prompt or 0} tokens"
    if positions and needed > positions:
        found.append(
            problem(
                f"{what} are {needed} tokens, the model knows {positions} positions: lower it, or raise "
                "max_position_embeddings under model_config"
            )
        )
    longest = args.vllm_max_model_length if args.use_vllm else None
    if longest and needed > longest:
        found.append(problem(f"{what} are {needed} tokens, vllm_max_model_length={longest} cuts them: raise it"))
    if longest and positions and longest > positions:
        found.append(
            problem(
                f"vllm_max_model_length={longest} exceeds the {positions} positions that the model knows, and vLLM "
                "refuses: lower it, or raise max_position_embeddings under model_config"
            )
        )
    return found or [Finding(OK, f"{what} fit into the model")]


def model_sizes(recipe: Recipe, config: PretrainedConfig | None) -> tuple[Sizes | None, Finding | None]:
    """Sizes of the model; those of a known name where it cannot be reached."""
    if config is not None:
        try:
            return sizes_of(config), None
        # Models are counted by code of many authors; what cannot be counted is no reason to stop.
        except Exception as error:
            return None, Finding(NOTE, f"memory is not computed: {type(error).__name__}: {error}")
    name = str(recipe.model.model_name_or_path)
    if name in KNOWN_SIZES:
        return KNOWN_SIZES[name], Finding(NOTE, f"sizes of {name} are those that this package knows")
    return None, Finding(NOTE, "memory is not computed, because the model's sizes are not known here")


def check_memory(
    recipe: Recipe, sizes: Sizes, processes: int, gpu_memory: float, prompt: int | None, exact: bool
) -> list[Finding]:
    """
    Args:
        recipe ([`~trl_amft.cli.arguments.Recipe`]):
            A parsed recipe.
        sizes ([`~trl_amft.doctor.memory.Sizes`]):
            Of the model.
        processes (`int`):
            Processes that will train, one GPU each.
        gpu_memory (`float`):
            Bytes of one GPU.
        prompt (`int`, *optional*):
            Tokens of the longest prompt of a sample.
        exact (`bool`):
            Whether `gpu_memory` is that of this machine.
    """
    args, peft = recipe.training, recipe.model.use_peft
    colocated = args.use_vllm and args.vllm_mode == "colocate"
    stage, offload = deepspeed_stage(recipe)
    tokens = (args.vllm_max_model_length if args.use_vllm else None) or (
        (prompt or ASSUMED_PROMPT) + (args.max_completion_length or 0)
    )
    needs = memory(
        sizes,
        gpus=processes,
        gpu_memory=gpu_memory,
        rollouts=args.per_device_train_batch_size,
        demonstrations=demonstration_batch(recipe),
        tokens=tokens,
        vllm_share=args.vllm_gpu_memory_utilization if colocated else 0.0,
        lora_rank=recipe.model.lora_r if peft else None,
        stage=stage,
        offload=offload,
        checkpointing=args.gradient_checkpointing,
        window=args.meta_window if args.policy_class.needs_meta_gradient else 0,
        generated=0 if args.use_vllm else args.per_device_train_batch_size * int(args.steps_per_generation or 1),
    )
    largest = max((name for name in PHASES if name in needs), key=needs.__getitem__)
    base = sum(needs[name] for name in STAYS)
    stays = ", ".join(f"{name} {gigabytes(needs[name])}" for name in STAYS)
    phases = ", ".join(f"{name} {gigabytes(needs[name])}" for name in PHASES if name in needs)
    gpus = f"{processes} GPU{'' if processes == 1 else 's'}"
    how = f"ZeRO-{stage}" if stage and processes > 1 else "nothing divided"
    found = [
        Finding(OK, f"{sizes.parameters:,} parameters, {gpus}, {how}, {tokens:,} tokens; not measured"),
        Finding(OK, f"stays: {stays}"),
        Finding(OK, f"peaks with it: {phases}"),
    ]
    parts = {name: needs[name] for name in STAYS} | {f"the {largest} itself": needs[largest] - base}
    dominant = max(parts, key=parts.__getitem__)
    verdict = (
        f"the largest peak is {largest}, {gigabytes(needs[largest])} of {gigabytes(gpu_memory)}; most of it is "
        f"{dominant} ({gigabytes(parts[dominant])})"
    )
    whose = "" if exact else "; --gpu_memory tells another size than the 80 GB assumed"
    if needs[largest] > gpu_memory:
        found.append(problem(f"{verdict}: {_memory_remedy(largest, dominant, processes)}{whose}"))
    else:
        found.append(Finding(OK, verdict + whose))
    if CACHE in needs:
        held = int(needs[CACHE])
        text = f"vLLM's cache holds {held} sequences of full length"
        if held < 1:
            found.append(problem(f"{text}: raise vllm_gpu_memory_utilization={args.vllm_gpu_memory_utilization}"))
        else:
            found.append(Finding(OK, text))
    return found


def _memory_remedy(largest: str, dominant: str, processes: int) -> str:
    if dominant in ("weights", "optimizer", "gradients"):
        return "divide it over GPUs with deepspeed ZeRO-3" if processes == 1 else "use more GPUs, or use_peft"
    return {
        "rollouts": "lower vllm_gpu_memory_utilization, or per_device_train_batch_size without vLLM",
        "RL micro-batch": "lower per_device_train_batch_size or max_completion_length, use gradient_checkpointing",
        "SFT micro-batch": "lower per_device_demonstration_batch_size or max_demonstration_length",
        "optimizer step": "use more GPUs, or offload the optimizer",
    }[largest]


def demonstration_batch(recipe: Recipe) -> int:
    """Demonstrations of a process and micro-batch; 0 for a run without."""
    return (
        int(recipe.training.per_device_demonstration_batch_size or 0) if needs_demonstrations(recipe.training) else 0
    )


def deepspeed_stage(recipe: Recipe) -> tuple[int, bool]:
    """
    ZeRO stage of the recipe's own entry, and whether its optimizer is on the CPU; 0 without one.

    Raises:
        [`~trl_amft.cli.usage.UsageError`]: if the entry holds what no run can use.
    """
    entry = recipe.changed.get("deepspeed")
    if entry is None:
        return 0, False
    zero = zero_settings(entry)
    return zero.get("stage", 0), (zero.get("offload_optimizer") or {}).get("device") == "cpu"
