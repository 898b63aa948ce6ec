"""What a run trains on: a task of this package, or datasets from files, folders or the Hub."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, IterableDataset, load_dataset

from ..amft_config import AMFTConfig
from ..compat import as_mapping
from ..data.domains import DOMAIN, mix_domains
from ..runtime.input_checks import check_arguments, demonstration_column, needs_demonstrations
from ..tasks import TASKS, load_task
from .data_checks import check_demonstrations, check_prompts, check_rewards
from .recipe_fields import RecipeArguments
from .rewards import load_domain_rewards, load_reward, log_by_domain, with_exploration
from .usage import UsageError, suggest
from .validation_problems import set_aside


# Builders of `datasets` by the ending of a file.
FILE_BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}


@dataclass
class RunData:
    """
    Data and rewards of a run.

    Args:
        train_dataset (`Dataset` or `IterableDataset`):
            Problems to train on.
        held_out_dataset (`Dataset`, *optional*):
            Problems that are never trained on.
        eval_dataset (`Dataset`, *optional*):
            The part of them that is evaluated every `eval_steps`.
        validation_dataset (`Dataset`, *optional*):
            Training problems set aside for the validation gradient, with their demonstrations.
        demonstration_dataset (`Dataset` or `IterableDataset`, *optional*):
            Demonstrations of their own, besides those in a column of `train_dataset`.
        reward_funcs (`list[Callable]`):
            Rewards of the training.
        accuracy_funcs (`list[Callable]`):
            Those among them that make up the held-out accuracy.
    """

    train_dataset: Dataset | IterableDataset
    held_out_dataset: Dataset | None
    eval_dataset: Dataset | None
    validation_dataset: Dataset | None
    demonstration_dataset: Dataset | IterableDataset | None
    reward_funcs: list[Callable]
    accuracy_funcs: list[Callable]


def load_data(run: RecipeArguments, training: AMFTConfig, rows: int | None = None) -> RunData:
    """
    Load everything that a run trains on, and check that it fits the trainer's arguments.

    Args:
        run (`RecipeArguments`):
            Names the task or the datasets.
        training ([`AMFTConfig`]):
            Says what the trainer needs.
        rows (`int`, *optional*):
            Take only so many of each set. All if not given.

    Returns:
        [`RunData`]
    """
    evaluates = training.eval_strategy != "no"
    weights = as_mapping(run.domain_weights)
    rewards = log_by_domain([load_reward(path) for path in run.reward_funcs or []], weights)
    routed = load_domain_rewards(as_mapping(run.domain_rewards), weights)
    demonstrations = problem_of = None
    if run.task is not None:
        try:
            task = load_task(run.task, **as_mapping(run.task_kwargs))
        except (ValueError, TypeError) as error:
            raise UsageError(f"task_kwargs of task {run.task!r}: {error}") from None
        train, held_out = task.train_dataset, task.held_out_dataset
        # A policy that decides by prompt takes those in the column instead.
        demonstrations = None if training.policy_class.paired else task.demonstration_dataset
        problem_of = task.problem_of
        accuracy_funcs = log_by_domain(task.reward_funcs, weights)
        rewards = [*accuracy_funcs, *rewards, *routed]
    else:
        assert run.dataset_name is not None, "there is one where there is no task"
        streaming = run.dataset_streaming
        splits = _load("dataset_name", run.dataset_name, run.dataset_config, streaming)
        train = _split(splits, "dataset_train_split", run.dataset_train_split, run.dataset_name)
        held_out = splits.get(run.dataset_test_split)
        if held_out is None and evaluates:
            _split(splits, "dataset_test_split", run.dataset_test_split, run.dataset_name)
        if isinstance(held_out, IterableDataset):
            held_out = Dataset.from_list(list(held_out))
        rewards, accuracy_funcs = [*rewards, *routed], rewards[:1] or routed
    if run.exploration_reward is not None:
        rewards = with_exploration(rewards, accuracy_funcs, as_mapping(run.exploration_reward))
    if run.demonstration_dataset_name is not None:
        name = run.demonstration_dataset_name
        splits = _load("demonstration_dataset_name", name, run.demonstration_dataset_config, run.dataset_streaming)
        demonstrations = _split(splits, "demonstration_dataset_split", run.demonstration_dataset_split, name)
        check_demonstrations("demonstration_dataset_name", demonstrations)
        # Their rows may lack the columns that a task tells its problems by.
        problem_of = None
    if rows is not None:
        held_out, demonstrations = _first(held_out, rows), _first(demonstrations, rows)
        # The first rows of a mixture hold all its domains, those of its data may not.
        train = train if run.domain_weights is not None else _first(train, rows)
    # A streamed dataset may not know its columns before the first row is read.
    if train.column_names is not None and "prompt" not in train.column_names:
        raise UsageError(f"dataset_name has no column 'prompt', only: {', '.join(train.column_names)}; rename one")
    if run.task is None:
        check_prompts("dataset_name", train)
    check_rewards(rewards, training.reward_weights, train.column_names)
    if routed and train.column_names is not None and DOMAIN not in train.column_names:
        raise UsageError(f"domain_rewards needs a column {DOMAIN!r} in the training set, which has none; add it")

    validation = None
    if training.needs_validation and isinstance(train, Dataset):
        train, demonstrations, validation = set_aside(
            train, demonstrations, run.validation_samples, training.seed, problem_of
        )
    try:
        check_arguments(training, train, demonstrations, validation)
        if needs_demonstrations(training) and demonstrations is None:
            if training.policy_class.paired:
                _check_pairs(run, training, train)
            check_demonstrations("dataset_name", train, demonstration_column(training, train))
        if run.domain_weights is not None:
            # After the division, so that no repeated row is on both sides.
            train = mix_domains(train, weights, training.seed)
            train = train if rows is None else _first(train, rows)
    except (ValueError, TypeError) as error:
        raise UsageError(error) from None

    evaluated = held_out if evaluates else None
    if evaluated is not None and run.max_eval_samples is not None and run.max_eval_samples < len(evaluated):
        evaluated = evaluated.shuffle(seed=training.seed).select(range(run.max_eval_samples))
    return RunData(train, held_out, evaluated, validation, demonstrations, rewards, accuracy_funcs)


def _check_pairs(run: RecipeArguments, training: AMFTConfig, train: Dataset | IterableDataset) -> None:
    """Some tasks have demonstrations, and put them beside their prompts where they are asked to."""
    takes = run.task is not None and "paired" in inspect.signature(TASKS[run.task]).parameters
    if takes and training.demonstration_column not in train.column_names:
        raise UsageError(
            f"mixing_policy={training.mixing_policy!r} needs a demonstration beside each prompt, which the task "
            f"{run.task!r} has not put there; set task_kwargs: {{paired: true}}"
        )


def _load(field: str, name: str, config: str | None, streaming: bool) -> dict[str, Dataset | IterableDataset]:
    path = Path(name)
    try:
        if path.suffix in FILE_BUILDERS:
            if not path.is_file():
                raise UsageError(f"{field}={name!r} is not a file; give an existing one, or a name on the Hub")
            return load_dataset(FILE_BUILDERS[path.suffix], data_files=str(path), streaming=streaming)
        return load_dataset(name, name=config, streaming=streaming)
    except UsageError:
        raise
    # Network, Hub, builder and schema errors have no common base class.
    except Exception as error:
        raise UsageError(
            f"{field}={name!r} cannot be loaded ({type(error).__name__}: {error}); give a JSON lines or Parquet file, "
            "a folder of them, or a name on the Hub"
        ) from None


def _split(splits: dict, field: str, split: str, name: str) -> Dataset | IterableDataset:
    if split not in splits:
        raise UsageError(f"{field}={split!r} is not a split of {name!r}; {suggest(split, splits)}")
    return splits[split]


def _first(dataset: Dataset | IterableDataset | None, rows: int) -> Dataset | IterableDataset | None:
    return dataset.select(range(min(rows, len(dataset)))) if isinstance(dataset, Dataset) else dataset
