"""
From recipe and command line to checked arguments. Precedence: command line, then `method`, then recipe, then default.

Everything that can be judged without a model is judged here: unknown names, wrong types, contradictions.
"""

import argparse
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import get_scheduler
from transformers.trainer import TRAINER_STATE_NAME
from trl import ModelConfig, TrlParser

from ..amft_config import AMFTConfig
from ..compat import as_mapping
from .deepspeed_choice import choose_deepspeed, number_of_processes
from .recipe_fields import METHODS, RecipeArguments, check_type, expected, kinds_of
from .recipe_file import read_recipe
from .recipe_ranges import check_values
from .smoke import HELP, smoke_recipe, this_machine
from .usage import UsageError, suggest


UNSET = object()
# What TRL says of batches that do not divide, and the same with fields and remedy.
BATCHES = {
    r"global eval batch size \((?P<size>\d+) \* (?P<processes>\d+)\) .* \((?P<group>\d+)\)": (
        "{eval_field}={group} does not divide per_device_eval_batch_size={size} times processes={processes}; make "
        "per_device_eval_batch_size a multiple of {group}"
    ),
    r"generation_batch_size \((?P<size>\d+)\) .* num_generations \((?P<group>\d+)\)": (
        "num_generations={group} does not divide generation_batch_size={size}, which is per_device_train_batch_size "
        "times processes times steps_per_generation; make one of these a multiple of {group}"
    ),
    r"generation_batch_size \((?P<size>\d+)\) .* global batch size \((?P<step>\d+)\)": (
        "generation_batch_size={size} must be a multiple of {step}, which is per_device_train_batch_size times "
        "processes"
    ),
}


@dataclass
class Recipe:
    """
    A parsed and checked command line.

    Args:
        run (`RecipeArguments`):
            Task, data and evaluation.
        training (`AMFTConfig`):
            The trainer's configuration.
        model (`ModelConfig`):
            Model, adapter and quantization.
        changed (`dict[str, Any]`):
            Every key that differs from its default, as given. Written to a file, it is a recipe of the same run.
        notes (`list[str]`):
            Lines on what was chosen between recipe, launcher and machine.
        smoke (`bool`):
            Whether the recipe is run in small.
        written_model (`dict[str, Any]`, *optional*):
            Arguments of [`~trl_amft.tiny_model.save_tiny_model`] for the folder `model_name_or_path`, which has to be
            written first.
    """

    run: RecipeArguments
    training: AMFTConfig
    model: ModelConfig
    changed: dict[str, Any]
    notes: list[str]
    smoke: bool = False
    written_model: dict[str, Any] | None = None

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        assert self.training.output_dir is not None, "transformers has a default"
        return Path(self.training.output_dir)


class RecipeParser(TrlParser):
    """[`~trl.TrlParser`] that answers mistakes with [`UsageError`] instead of a page of usage."""

    def __init__(self, **kwargs):
        # An abbreviation that is unique today is ambiguous, or another field, after the next release of TRL.
        kinds: list[Any] = [RecipeArguments, AMFTConfig, ModelConfig]
        super().__init__(kinds, allow_abbrev=False, **kwargs)

    def error(self, message: str):
        field_error = re.match(r"argument --(\w+)\S*: (.*)", message, re.DOTALL)
        if field_error is None:
            raise UsageError(message)
        name, problem = field_error.groups()
        wrong_value = re.match(r"invalid (\w+)(?: value)?: '(.*?)'", problem)
        if wrong_value is None:
            raise UsageError(f"{name}: {problem}")
        kind, value = wrong_value.groups()
        if kind == "choice":
            check_type(name, value)
        raise UsageError(f"{name}={value!r} is not valid; expected {expected(name)}")


def parse_recipe(argv: list[str]) -> Recipe:
    """
    Parse the arguments of a training command.

    Args:
        argv (`list[str]`):
            Command line without the program: `--recipe FILE` (or `--recipe=FILE`), possibly `--smoke`, then any field
            with its value; `null` for a field that may be empty.

    Returns:
        [`Recipe`]

    Raises:
        [`UsageError`]: on anything that cannot be used, in one line.
    """
    path, argv = _split_recipe_path(argv)
    smoke, argv = "--smoke" in argv, [token for token in argv if token != "--smoke"]
    parser = RecipeParser(prog="train.py", usage="%(prog)s --recipe FILE [--smoke] [--FIELD VALUE ...]", epilog=HELP)
    defaults = vars(parser.parse_known_args([])[0])

    blank = argparse.Namespace(**dict.fromkeys(defaults, UNSET))
    namespace, unknown = parser.parse_known_args(argv, blank)
    _refuse_unknown_tokens(unknown, defaults)
    command_line = {name: _as_given(name, value) for name, value in vars(namespace).items() if value is not UNSET}

    recipe = read_recipe(path) if path else {}
    for name, value in recipe.items():
        if name not in defaults:
            raise UsageError(f"{name}={value!r} in {path} is not a known field; {suggest(name, defaults)}")
    for name, value in (recipe | command_line).items():
        check_type(name, value)
    check_values(recipe | command_line)

    method = command_line.get("method", recipe.get("method", "amft"))
    for name, value in METHODS[method].items():
        if name in command_line:
            raise UsageError(
                f"{name}={command_line[name]!r} contradicts method={method!r}, which sets it to {value!r}; drop one"
            )
    parser.set_defaults_with_config(**recipe | METHODS[method] | command_line)
    resolved = vars(parser.parse_known_args([])[0])
    if method == "sft_then_grpo" and resolved["sft_warmup_steps"] == 0:
        raise UsageError(
            "method='sft_then_grpo' with sft_warmup_steps=0 has no first stage: set sft_warmup_steps to its number of "
            "steps"
        )
    notes: list[str] = []
    written_model = None
    if smoke:
        machine = this_machine(number_of_processes())
        values = {name: _unquoted(name, value) for name, value in resolved.items()}
        resolved, notes, written_model = smoke_recipe(
            values, defaults, command_line, Path(path or "command_line").stem, machine
        )
    fitted, lines = _fit_launch(resolved)
    notes += lines
    parser.set_defaults_with_config(**resolved | fitted)
    try:
        run, training, model = parser.parse_args_into_dataclasses([], look_for_args_file=False)
    except UsageError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(_with_remedy(str(error), resolved)) from None

    _check_model_and_resume(run, training, model)
    changed = {name: _unquoted(name, value) for name, value in resolved.items() if value != defaults[name]}
    return Recipe(run, training, model, changed, notes, smoke, written_model)


def _with_remedy(text: str, fields: dict[str, Any]) -> str:
    for pattern, answer in BATCHES.items():
        if found := re.search(pattern, text):
            eval_field = "num_generations_eval" if fields["num_generations_eval"] else "num_generations"
            return answer.format(**found.groupdict(), eval_field=eval_field)
    # TRL turns bf16 on unless told otherwise, so this one meets everybody without a GPU, and names no field.
    return f"{text}; set bf16 to false" if "bf16" in text else text


def _fit_launch(resolved: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    processes = number_of_processes()
    deepspeed, line = choose_deepspeed(_unquoted("deepspeed", resolved["deepspeed"]), os.environ, processes)
    fitted: dict[str, Any] = {"deepspeed": deepspeed}
    lines = [line] if line else []
    if processes > 1 and not resolved["use_cpu"] and not torch.accelerator.is_available():
        # Otherwise each process would take itself for the only one.
        fitted["use_cpu"] = True
        lines.append(f"use_cpu: true, because {processes} processes run and there is no accelerator")
    return fitted, lines


def _split_recipe_path(argv: list[str]) -> tuple[str | None, list[str]]:
    paths, rest = [], []
    tokens = iter(argv)
    for token in tokens:
        name, equals, value = token.partition("=")
        if name != "--recipe":
            rest.append(token)
            continue
        value = value if equals else next(tokens, "")
        if not value or value.startswith("--"):
            raise UsageError("--recipe names no file; give one, for example --recipe recipes/quickstart.yaml")
        paths.append(value)
    if len(paths) > 1:
        raise UsageError(f"--recipe is given {len(paths)} times ({', '.join(paths)}); keep one")
    return (paths[0] if paths else None), rest


def _refuse_unknown_tokens(unknown: list[str], known: dict[str, Any]) -> None:
    for token in unknown:
        if token.startswith("--"):
            name = token[2:].partition("=")[0].replace("-", "_")
            raise UsageError(f"--{name} is not a known field; {suggest(name, [*known, 'recipe', 'smoke'])}")
    if unknown:
        raise UsageError(f"{unknown[0]!r} belongs to no field; write --FIELD VALUE, see --help")


def _as_given(name: str, value: Any) -> Any:
    # Only where text is allowed does the parser let the word pass.
    return None if value == "null" and type(None) in kinds_of(name) else value


def _unquoted(name: str, value: Any) -> Any:
    # A mapping arrives from the command line as JSON text. Text that is none may be a path, as for `deepspeed`.
    is_json = isinstance(value, str) and value.lstrip().startswith("{")
    return json.loads(value) if is_json and kinds_of(name) & {dict} else value


def _check_model_and_resume(run: RecipeArguments, training: AMFTConfig, model: ModelConfig) -> None:
    if (run.tiny_model is None) == (model.model_name_or_path is None):
        raise UsageError(
            f"tiny_model={run.tiny_model!r} and model_name_or_path={model.model_name_or_path!r}: give exactly one"
        )
    if run.tiny_model is not None and (model.load_in_4bit or model.load_in_8bit):
        raise UsageError("tiny_model cannot be quantized; drop load_in_4bit and load_in_8bit")
    if run.tiny_model is not None and training.use_vllm and training.vllm_mode == "colocate":
        raise UsageError(
            "use_vllm=True needs a model in a folder or on the Hub, and tiny_model is in neither; set use_vllm to "
            "false, or give model_name_or_path"
        )
    _check_scheduler(training)
    resume = training.resume_from_checkpoint
    if resume not in (None, "auto") and not Path(str(resume), TRAINER_STATE_NAME).is_file():
        raise UsageError(
            f"resume_from_checkpoint={resume!r} is not the folder of a checkpoint; give one, or 'auto' for the newest "
            f"in {os.path.join(training.output_dir or '', '')}"
        )


def _check_scheduler(training: AMFTConfig) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    given = as_mapping(training.lr_scheduler_kwargs)
    try:
        get_scheduler(training.lr_scheduler_type, torch.optim.SGD(parameters, lr=1.0), 1, 2, given)
    except TypeError as error:
        raise UsageError(
            f"lr_scheduler_kwargs={given!r} does not go with lr_scheduler_type={training.lr_scheduler_type!r} "
            f"({error}); drop what it does not know"
        ) from None
    except ValueError:
        # Some schedules want a metric, or steps that only the trainer knows.
        return
