"""The fields of a recipe beside those of the trainer, what type each field has, and how a value is checked."""

import dataclasses
import enum
import inspect
import json
import types
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from trl import ModelConfig, ScriptArguments

from ..amft_config import AMFTConfig
from ..compat import as_mapping
from ..tasks import TASKS
from ..tiny_model import build_tiny_model
from .usage import UsageError, suggest


# What a baseline changes in a recipe; everything else, and with it the budget, stays as it is.
METHODS: dict[str, dict[str, Any]] = {
    "amft": {},
    "sft": {"mixing_policy": "fixed", "mixing_policy_kwargs": None, "mu_init": 1.0},
    "grpo": {"mixing_policy": "fixed", "mixing_policy_kwargs": None, "mu_init": 0.0, "sft_warmup_steps": 0},
    "sft_then_grpo": {"mixing_policy": "fixed", "mixing_policy_kwargs": None, "mu_init": 0.0},
}


MAPPINGS = ("task_kwargs", "tiny_model", "model_config", "exploration_reward", "domain_weights", "domain_rewards")


@dataclass
class RecipeArguments(ScriptArguments):
    """
    What a run trains on, and how it is evaluated. The fields of [`~trl.ScriptArguments`] name a dataset instead of a
    task.

    Args:
        task (`str`, *optional*):
            Name of a benchmark in `trl_amft.tasks.TASKS`. Brings problems, held-out problems, rewards and, where they
            exist, demonstrations. Instead of `dataset_name`.
        task_kwargs (`dict`, *optional*):
            Keyword arguments of the task's loader.
        tiny_model (`dict`, *optional*):
            Keyword arguments of [`~trl_amft.tiny_model.build_tiny_model`]: train a small model from random weights.
            Instead of `model_name_or_path`.
        model_config (`dict`, *optional*):
            Keys of the model's `config.json` with the values that they shall have, for the trainer and vLLM alike, for
            example a longer context.
        reward_funcs (`list[str]`, *optional*):
            Reward functions, each as an import path `"package.module:function"` or as the name of a reward of
            `trl.rewards`. Required with `dataset_name`; with `task` they are added to the task's own. The held-out
            accuracy is measured with the task's rewards, or with the first of these.
        exploration_reward (`dict`, *optional*):
            Arguments of [`~trl_amft.rewards.ExplorationReward`], which is put around the reward of the accuracy. Its
            `judge` is an import path as in `reward_funcs`.
        domain_weights (`dict[str, float]`, *optional*):
            Shares of the domains that the column `domain` of the training set names, in any unit. The data as it is if
            not given.
        domain_rewards (`dict[str, list[str]]`, *optional*):
            Further reward functions that apply to the rows of one domain each, by domain, as in `reward_funcs`.
        demonstration_dataset_name (`str`, *optional*):
            Demonstrations with the columns `"prompt"` and `"completion"`: a local JSON lines or Parquet file, a
            folder, or a name on the Hub. Replaces those of the task.
        demonstration_dataset_config (`str`, *optional*):
            Configuration name of the demonstration dataset.
        demonstration_dataset_split (`str`, *optional*, defaults to `"train"`):
            Split of the demonstration dataset.
        method (`str`, *optional*, defaults to `"amft"`):
            `"amft"` trains what the recipe says. The others turn the same recipe into a baseline: `"sft"` imitates
            only, `"grpo"` explores only and skips the warm-up, `"sft_then_grpo"` explores only after the warm-up,
            without which it is refused.
        held_out_samples (`int`, *optional*, defaults to `4`):
            Completions per held-out problem in the evaluations before training, after the warm-up and after training.
            0 skips them.
        max_eval_samples (`int`, *optional*):
            Size of the random part of the held-out problems that is evaluated every `eval_steps`. All if not given.
        validation_samples (`int`, *optional*, defaults to `256`):
            Training problems set aside for `meta_gradient="validation"`. Not used otherwise.
    """

    task: str | None = field(default=None, metadata={"help": "Name of a benchmark, instead of `dataset_name`."})
    task_kwargs: dict | str | None = field(default=None, metadata={"help": "Keyword arguments of the task's loader."})
    tiny_model: dict | str | None = field(
        default=None,
        metadata={"help": "Keyword arguments of `build_tiny_model`, instead of `model_name_or_path`."},
    )
    model_config: dict | str | None = field(
        default=None, metadata={"help": "Keys of the model's `config.json` with other values, for trainer and vLLM."}
    )
    reward_funcs: list[str] | None = field(
        default=None,
        metadata={"help": "Rewards as `package.module:function`, or names of rewards in `trl.rewards`."},
    )
    exploration_reward: dict | str | None = field(
        default=None,
        metadata={"help": "Arguments of the exploration reward, see [Rewards and data](rewards_and_data.md)."},
    )
    domain_weights: dict | str | None = field(
        default=None, metadata={"help": "Weight of each domain in the column `domain` of the training set."}
    )
    domain_rewards: dict | str | None = field(
        default=None, metadata={"help": "For each domain a list of rewards that apply to its rows only."}
    )
    demonstration_dataset_name: str | None = field(
        default=None,
        metadata={"help": "Demonstrations: JSON lines or Parquet file, folder, or name on the Hub."},
    )
    demonstration_dataset_config: str | None = field(
        default=None, metadata={"help": "Configuration name of the demonstration dataset."}
    )
    demonstration_dataset_split: str = field(default="train", metadata={"help": "Split of the demonstrations."})
    method: str = field(
        default="amft",
        metadata={
            "help": "`amft`, or a baseline of the same recipe: `sft`, `grpo`, `sft_then_grpo`.",
            "choices": list(METHODS),
        },
    )
    held_out_samples: int = field(
        default=4, metadata={"help": "Completions per held-out problem in the three evaluations; 0 skips them."}
    )
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "How many held-out problems are evaluated every `eval_steps`."}
    )
    validation_samples: int = field(
        default=256, metadata={"help": "Training problems set aside for `meta_gradient='validation'`."}
    )

    def __post_init__(self):
        for name in MAPPINGS:
            setattr(self, name, _as_mapping(name, getattr(self, name)))
        if (self.task is None) == (self.dataset_name is None):
            raise UsageError(
                f"task={self.task!r} and dataset_name={self.dataset_name!r}: give exactly one of the two, in a recipe "
                "(--recipe FILE) or as a field"
            )
        if self.task is not None and self.task not in TASKS:
            raise UsageError(f"task={self.task!r} is not known; {suggest(self.task, TASKS)}")
        if self.task is None and self.task_kwargs:
            raise UsageError(f"task_kwargs={self.task_kwargs!r} needs a task; give task, or drop task_kwargs")
        if self.task is None and not self.reward_funcs and not self.domain_rewards:
            raise UsageError(f"reward_funcs={self.reward_funcs!r}: a dataset needs at least one, as 'module:function'")
        for name, value in as_mapping(self.tiny_model).items():
            known = inspect.signature(build_tiny_model).parameters
            if name not in known:
                raise UsageError(f"tiny_model has no argument {name}={value!r}; {suggest(name, known)}")
        if self.tiny_model is not None and self.model_config:
            raise UsageError(
                f"model_config={self.model_config!r} is for model_name_or_path; drop it beside tiny_model"
            )
        if self.held_out_samples < 0:
            raise UsageError(f"held_out_samples={self.held_out_samples} is negative; give 0 to skip, or more")
        if self.max_eval_samples is not None and self.max_eval_samples < 1:
            raise UsageError(f"max_eval_samples={self.max_eval_samples} must be at least 1; leave it out for all")
        if self.validation_samples < 1:
            raise UsageError(f"validation_samples={self.validation_samples} must be at least 1")


def _allowed_types(name: str) -> tuple[Any, ...]:
    for arguments in (RecipeArguments, AMFTConfig, ModelConfig):
        hints = get_type_hints(arguments)
        if name in hints:
            hint = hints[name]
            return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return ()


def kinds_of(name: str) -> set[Any]:
    return {get_origin(allowed) or allowed for allowed in _allowed_types(name)}


def _choices(name: str) -> list[Any] | None:
    for arguments in (RecipeArguments, AMFTConfig, ModelConfig):
        for entry in dataclasses.fields(arguments):
            if entry.name == name and "choices" in entry.metadata:
                return list(entry.metadata["choices"])
    for allowed in _allowed_types(name):
        if get_origin(allowed) is Literal:
            return list(get_args(allowed))
        if isinstance(allowed, type) and issubclass(allowed, enum.Enum):
            return [member.value for member in allowed]
    return None


def expected(name: str) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    words |= {list: "a list", dict: "a mapping"}
    kinds = (get_origin(allowed) or allowed for allowed in _allowed_types(name))
    return " or ".join(dict.fromkeys(words[kind] for kind in kinds if kind in words))


def check_type(name: str, value: Any) -> None:
    # TrlParser passes what stands in a YAML file on to the dataclass as it is, whatever the field's type.
    choices, kinds = _choices(name), kinds_of(name)
    empty = value is None and type(None) in kinds
    if choices is not None:
        if not empty and value not in choices:
            remedy = suggest(str(value), map(str, choices))
            raise UsageError(f"{name}={value!r} is not one of its choices; {remedy}")
        return
    accepted = (
        empty
        # Text is converted by the parser, with its own message where that fails.
        or (isinstance(value, str) and not kinds <= {list, type(None)})
        # A field of free text may stand for a truth value or number as well, as `scale_rewards` does.
        or (isinstance(value, bool | int | float) and str in kinds)
        or (isinstance(value, bool) and bool in kinds)
        or (isinstance(value, int) and not isinstance(value, bool) and kinds & {int, float})
        or (isinstance(value, float) and float in kinds)
        or (isinstance(value, list) and list in kinds)
        or (isinstance(value, dict) and dict in kinds)
        or not kinds & {int, float, bool, str, list, dict}
    )
    if not accepted:
        raise UsageError(f"{name}={value!r} has the wrong type; expected {expected(name)}")


def _as_mapping(name: str, value: dict | str | None) -> dict | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise UsageError(f"{name}={value!r} is not JSON; write it as '{{\"key\": value}}'") from None
    if value is not None and not isinstance(value, dict):
        raise UsageError(f"{name}={value!r} must be a mapping of keyword arguments")
    return value
