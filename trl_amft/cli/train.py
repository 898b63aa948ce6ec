"""One training run from a recipe: check, load, train with evaluations at three points, write down."""

import functools
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
import transformers
import yaml
from accelerate import PartialState
from rich.console import Console
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin, set_seed
from transformers.trainer_utils import get_last_checkpoint
from trl import get_peft_config, get_quantization_config

from .. import __version__
from ..compat import as_mapping, installed_versions
from ..reporting.run_folder import RECIPE_FILE
from ..reporting.run_table import run_table
from ..reporting.watch import watch
from ..runtime.checkpoints import ResumableError
from ..runtime.preemption import StopOnSignal
from ..tiny_model import build_tiny_model, save_tiny_model
from .arguments import Recipe, parse_recipe
from .data import RunData, load_data
from .held_out_evaluation import HeldOutEvaluation
from .model_folder import folder_with_config
from .output_file import check_writable
from .recipe_file import RecipeLoader, read_recipe
from .run_files import held_out_rows, resolved_recipe, write_run_files
from .smoke import ROWS
from .usage import UsageError, run_command


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


# Another value of one of these is another run, not a later part of one.
OF_ONE_RUN = (
    "method", "mixing_policy", "mixing_policy_kwargs", "mu_init", "sft_warmup_steps", "seed", "task", "task_kwargs",
    "dataset_name", "demonstration_dataset_name", "demonstration_column", "reward_funcs", "model_name_or_path",
    "model_config", "tiny_model", "learning_rate", "beta", "loss_type", "num_generations",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """
    The command `scripts/train.py`.

    Args:
        argv (`list[str]`, *optional*):
            Arguments without the program's name. Those of the process if not given.

    Returns:
        `int`: exit code: 0 for a run that is finished, or was stopped by a signal and can be resumed; 1 for one that
        its rewards or its vLLM server ended. Bad input ends the process with 2 before a model is loaded.
    """
    argv = sys.argv[1:] if argv is None else argv
    recipe, data, checkpoint = run_command(functools.partial(_prepare, argv))
    trainer = run_command(functools.partial(build_trainer, recipe, data))
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except ResumableError as error:
        return _fail(trainer, error)
    if trainer.state.global_step < trainer.state.max_steps:
        _tell_to_resume(trainer)
    else:
        trainer.save_model(recipe.training.output_dir)
        report(trainer, recipe)
        if recipe.training.push_to_hub:
            trainer.push_to_hub(dataset_name=recipe.run.dataset_name)
    trainer.end()
    return 0


def _fail(trainer: "AMFTTrainer", error: ResumableError) -> int:
    """The traceback on the process where it happened, the line once."""
    if error.__cause__ is not None:
        traceback.print_exception(error.__cause__)
    if trainer.is_world_process_zero():
        print(f"error: {error}", file=sys.stderr)
    trainer.end()
    return 1


def _tell_to_resume(trainer: "AMFTTrainer") -> None:
    state = trainer.state
    if trainer.is_world_process_zero():
        print(
            f"stopped at step {state.global_step} of {state.max_steps}; go on with --resume_from_checkpoint auto",
            flush=True,
        )


def _prepare(argv: list[str]) -> tuple[Recipe, RunData, str | None]:
    recipe = parse_recipe(argv)
    if not sys.stderr.isatty():
        # In a file every refresh of a bar would be kept.
        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
    state = PartialState()
    if recipe.notes and state.is_main_process:
        print("\n".join(recipe.notes), flush=True)
    check_writable(recipe.folder, "output_dir")
    set_seed(recipe.training.seed)
    data = load_data(recipe.run, recipe.training, ROWS if recipe.smoke else None)
    name = recipe.model.model_name_or_path
    if name is not None and recipe.written_model is not None:
        if state.is_main_process:
            save_tiny_model(name, **recipe.written_model)
        state.wait_for_everyone()
    _check_model(recipe)
    if name is not None and recipe.run.model_config:
        config = as_mapping(recipe.run.model_config)
        recipe.model.model_name_or_path = folder_with_config(
            name, recipe.model.model_revision, config, recipe.folder / "model"
        )
    return recipe, data, _checkpoint(recipe)


def _check_model(recipe: Recipe) -> None:
    name = recipe.model.model_name_or_path
    if name is None:
        return
    try:
        AutoConfig.from_pretrained(
            name, revision=recipe.model.model_revision, trust_remote_code=recipe.training.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise UsageError(
            f"model_name_or_path={name!r} cannot be loaded ({error}); give a folder with a config.json, or a name on "
            "the Hub"
        ) from None
    if Path(name).is_dir():
        _check_weights(name)


def _check_weights(name: str) -> None:
    """In a folder: whether they are there and whole. Reads no more than their headers."""
    folder = Path(name)
    if not any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin")):
        raise UsageError(f"model_name_or_path={name!r} holds no weights; give the folder of a whole model")
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise UsageError(
                f"model_name_or_path={name!r}: {file.name} is not whole ({error}); copy it again"
            ) from None


def _checkpoint(recipe: Recipe) -> str | None:
    wanted, folder = recipe.training.resume_from_checkpoint, recipe.training.output_dir
    if wanted != "auto":
        return wanted
    try:
        checkpoint = get_last_checkpoint(folder)
    except FileNotFoundError:
        return None
    if checkpoint is not None:
        _check_same_run(recipe, checkpoint)
    return checkpoint


def _check_same_run(recipe: Recipe, checkpoint: str) -> None:
    # That of the folder is of the run that was started last.
    places = (Path(checkpoint) / RECIPE_FILE, recipe.folder / RECIPE_FILE)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return
    before, now = read_recipe(path), yaml.load(resolved_recipe(recipe, {}), Loader=RecipeLoader)
    for name in OF_ONE_RUN:
        if before.get(name) != now.get(name):
            raise UsageError(
                f"resume_from_checkpoint='auto' finds {checkpoint!r} of a run with {name}={before.get(name)!r}, this "
                f"one has {now.get(name)!r}; give another output_dir, or name the checkpoint to go on from it anyway"
            )


def build_trainer(recipe: Recipe, data: RunData) -> "AMFTTrainer":
    """
    The trainer that a recipe describes, with its evaluations.

    Args:
        recipe ([`~trl_amft.cli.arguments.Recipe`]):
            Checked arguments.
        data ([`~trl_amft.cli.data.RunData`]):
            Data and rewards.

    Returns:
        [`AMFTTrainer`]
    """
    # Brings vLLM, which takes longer than all checks of a recipe.
    from ..amft_trainer import AMFTTrainer

    run, training, model_config = recipe.run, recipe.training, recipe.model
    try:
        peft_config, quantization_config = get_peft_config(model_config), get_quantization_config(model_config)
    except (ValueError, ImportError) as error:
        raise UsageError(error) from None
    model: PreTrainedModel | str | None
    tokenizer: PreTrainedTokenizerBase | ProcessorMixin | None
    if run.tiny_model is not None:
        try:
            model, tokenizer = build_tiny_model(**as_mapping(run.tiny_model))
        except (ValueError, TypeError) as error:
            raise UsageError(f"tiny_model: {error}") from None
    else:
        # The trainer loads the model itself, because it knows how under DeepSpeed and FSDP.
        model, tokenizer = model_config.model_name_or_path, None
        training.model_init_kwargs = {
            "revision": model_config.model_revision,
            "attn_implementation": model_config.attn_implementation,
            "dtype": model_config.dtype,
            **as_mapping(training.model_init_kwargs),
        }
    try:
        trainer = AMFTTrainer(
            model=model,
            reward_funcs=data.reward_funcs,
            args=training,
            train_dataset=data.train_dataset,
            eval_dataset=data.eval_dataset,
            processing_class=tokenizer,
            quantization_config=quantization_config,
            peft_config=peft_config,
            demonstration_dataset=data.demonstration_dataset,
            validation_dataset=data.validation_dataset,
        )
    except ValueError as error:
        raise UsageError(error) from None
    if run.ignore_bias_buffers:
        module: Any = trainer.model
        module._ddp_params_and_buffers_to_ignore = [
            name for name, buffer in module.named_buffers() if buffer.dtype == torch.bool
        ]
    # Before the evaluations, whose time is not that of a step.
    watch(trainer, resolved_recipe(recipe, {"trl_amft": __version__, **installed_versions()}))
    trainer.add_callback(StopOnSignal(trainer.accelerator))
    if data.held_out_dataset is not None and run.held_out_samples > 0:
        funcs, samples = data.accuracy_funcs, run.held_out_samples
        trainer.add_callback(HeldOutEvaluation(trainer, data.held_out_dataset, funcs, samples, data.eval_dataset))
    return trainer


def report(trainer: "AMFTTrainer", recipe: Recipe) -> None:
    """
    Write the files of a finished run and print its table.

    Args:
        trainer ([`AMFTTrainer`]):
            After training.
        recipe ([`~trl_amft.cli.arguments.Recipe`]):
            What was run.
    """
    if not trainer.is_world_process_zero():
        return
    log_history = trainer.state.log_history
    rows = held_out_rows(log_history, functools.partial(rollouts_before, trainer))
    picture = write_run_files(recipe, log_history, rows)
    console = Console()
    if rows:
        method = recipe.training.mixing_policy if recipe.run.method == "amft" else recipe.run.method
        console.print(run_table(rows, f"{recipe.run.task or recipe.run.dataset_name}, {method}"))
    console.print(f"picture: {picture}", soft_wrap=True)


def rollouts_before(trainer: "AMFTTrainer", step: int) -> int:
    """
    Completions sampled for training before optimizer step `step`.

    Args:
        trainer ([`AMFTTrainer`]):
            Knows which steps had no rollouts.
        step (`int`):
            Number of optimizer steps.

    Returns:
        `int`: over all processes.
    """
    args, controller = trainer.args, trainer.mixing_callback
    with_rollouts = sum(controller.known_weight(at, args.sft_warmup_steps) != 1.0 for at in range(step))
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return with_rollouts * per_step // args.num_iterations
