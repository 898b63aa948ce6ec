"""
Two hundred recipes that are wrong, each in one way, as people get them wrong: made by rule, the same ones every time.

A recipe is told by what it changes in a sound one. `key` is what the answer has to name, `remedy` what it has to say,
where that is known beforehand.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple


SOUND = {
    "dataset_name": "data/train.jsonl",
    "reward_funcs": ["sound_rewards:right"],
    "tiny_model": {"hidden_size": 32, "num_hidden_layers": 1},
    "max_completion_length": 8,
    "max_steps": 4,
    "num_generations": 4,
    "per_device_train_batch_size": 8,
    "logging_steps": 1,
    "save_strategy": "no",
    "bf16": False,
    "report_to": "none",
    "output_dir": "run",
}
REWARDS = """
def right(completions, **kwargs):
    return [0.0] * len(completions)


def reads_target(completions, target, **kwargs):
    return [0.0] * len(completions)


not_a_function = 1
"""


class Broken(NamedTuple):
    """
    Args:
        kind (`str`):
            What is wrong.
        key (`str`):
            The key that the answer must name.
        changes (`dict`):
            Fields that replace those of the sound recipe; a field of value `ABSENT` is taken out.
        remedy (`str`, *optional*):
            What the answer must say.
        text (`str`, *optional*):
            The whole file instead, for what is no YAML.
    """

    kind: str
    key: str
    changes: dict[str, Any]
    remedy: str = ""
    text: str | None = None


ABSENT = object()

TYPED = (
    *("mixing_policy", "mixing_policy_kwargs", "mu_init", "mu_min", "mu_max", "mu_lr", "mu_entropy_lr"),
    *("mu_entropy_target", "meta_gradient", "meta_interval", "meta_batch_size", "meta_normalization"),
    *("meta_momentum", "meta_variance_decay", "meta_preconditioner", "meta_window", "meta_trace_decay"),
    *("sft_warmup_steps", "per_device_demonstration_batch_size", "max_demonstration_length"),
    *("demonstration_truncation", "demonstration_min_reward", "demonstration_column"),
    *("task", "task_kwargs", "tiny_model", "model_config", "reward_funcs", "demonstration_dataset_name", "method"),
    *("held_out_samples", "max_eval_samples", "validation_samples", "dataset_name", "model_name_or_path"),
    *("num_generations", "max_completion_length", "temperature", "learning_rate", "max_steps", "loss_type"),
    *("scale_rewards", "epsilon", "beta", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm", "gradient_checkpointing", "use_vllm"),
    *("vllm_mode", "logging_steps", "save_strategy", "eval_strategy", "report_to", "output_dir", "use_peft", "lora_r"),
)
WHOLE = (
    *("max_steps", "num_generations", "max_completion_length", "per_device_train_batch_size", "meta_window"),
    *("gradient_accumulation_steps", "sft_warmup_steps", "held_out_samples", "lora_r", "seed", "num_iterations"),
)
NUMBERS = ("learning_rate", "mu_init", "mu_lr", "temperature", "beta", "epsilon", "weight_decay", "meta_trace_decay")
SWITCHES = ("bf16", "gradient_checkpointing", "use_vllm", "use_peft", "log_completions")
OUT_OF_RANGE = (
    *(("mu_init", 1.5), ("mu_init", -0.1), ("mu_min", 2), ("mu_max", -1), ("mu_lr", -0.2), ("mu_entropy_lr", -1)),
    *(("mu_entropy_target", -1.0), ("meta_interval", 0), ("meta_batch_size", 0), ("meta_momentum", 1.0)),
    *(("meta_variance_decay", 1.5), ("meta_window", 0), ("meta_trace_decay", 1.1), ("sft_warmup_steps", -1)),
    *(("per_device_demonstration_batch_size", 0), ("max_demonstration_length", 0), ("held_out_samples", -1)),
    *(("max_eval_samples", 0), ("validation_samples", 0), ("num_generations", 1), ("num_generations", 0)),
    *(("per_device_train_batch_size", 0), ("per_device_eval_batch_size", 0), ("gradient_accumulation_steps", 0)),
    *(("max_completion_length", 0), ("temperature", 0.0), ("temperature", -1.0), ("top_p", 1.5), ("top_p", 0.0)),
    *(("learning_rate", -1e-6), ("epsilon", -0.2), ("beta", -0.1), ("weight_decay", -0.1), ("max_grad_norm", -1.0)),
    *(("num_iterations", 0), ("logging_steps", -5), ("save_steps", -1), ("eval_steps", -1), ("lora_r", 0)),
    *(("warmup_steps", -1), ("adam_beta1", 1.0), ("adam_beta2", 2.0), ("vllm_gpu_memory_utilization", 1.5)),
    *(("steps_per_generation", 0), ("num_train_epochs", -1.0), ("lora_dropout", 1.5), ("save_total_limit", -1)),
    *(("max_steps", 0), ("max_steps", -2), ("learning_rate", math.inf), ("temperature", math.inf)),
)
CHOICES = {
    "mixing_policy": "amftt",
    "meta_gradient": "laged",
    "meta_normalization": "rmss",
    "meta_preconditioner": "adam",
    "demonstration_truncation": "cut",
    "method": "grpo_then_sft",
    "loss_type": "grpoo",
    "scale_rewards": "groups",
    "importance_sampling_level": "tokens",
    "vllm_mode": "colocated",
    "lr_scheduler_type": "cosin",
    "optim": "adamw_torchh",
    "eval_strategy": "step",
    "save_strategy": "epochs",
    "logging_strategy": "always",
    "dtype": "bfloat",
    "report_to": "tensorbord",
    "multi_objective_aggregation": "sum",
    "vllm_importance_sampling_mode": "sequence",
    "task": "countdwon",
}


def misspelt(name: str, how: int) -> str:
    """A name with a letter doubled, dropped, exchanged with the next one, or with its underscores gone."""
    middle = len(name) // 2
    # Two equal letters exchanged would be the name itself.
    while name[middle] == name[middle - 1] or "_" in name[middle - 1 : middle + 1]:
        middle -= 1
    ways = (
        name[:middle] + name[middle] + name[middle:],
        name[:middle] + name[middle + 1 :],
        name[: middle - 1] + name[middle] + name[middle - 1] + name[middle + 1 :],
        name.replace("_", "") if "_" in name else name + "s",
    )
    return ways[how % len(ways)]


def _typos() -> list[Broken]:
    values = {"mixing_policy": "amft", "task": "countdown"}
    found = []
    for index, name in enumerate(TYPED):
        wrong = misspelt(name, index)
        found.append(Broken("typo", wrong, {wrong: values.get(name, 1)}, f"did you mean {name!r}?"))
    return found


def _types() -> list[Broken]:
    found = [Broken("type", name, {name: value}) for name in WHOLE for value in ("many", 1.5)]
    found += [Broken("type", name, {name: value}) for name in NUMBERS for value in ("high", [0.1])]
    found += [Broken("type", name, {name: "maybe"}) for name in SWITCHES]
    found += [
        Broken("type", "reward_funcs", {"reward_funcs": "sound_rewards:right"}, "a list"),
        Broken("type", "tiny_model", {"tiny_model": [32]}, "a mapping"),
        Broken("type", "mixing_policy_kwargs", {"mixing_policy_kwargs": ["path"]}),
        Broken("type", "max_steps", {"max_steps": None}, "a whole number"),
        Broken("type", "output_dir", {"output_dir": ["a", "b"]}, "text"),
        Broken("type", "method", {"method": None}, "choose from: amft"),
    ]
    return found


def _files() -> list[Broken]:
    model = {"tiny_model": ABSENT}
    return [
        Broken("file", "dataset_name", {"dataset_name": "data/trian.jsonl"}, "is not a file"),
        Broken("file", "dataset_name", {"dataset_name": "no_such_folder"}),
        Broken("file", "dataset_name", {"dataset_name": "data/broken.jsonl"}),
        Broken("file", "dataset_name", {"dataset_name": "data/empty.jsonl"}),
        Broken("file", "demonstration_dataset_name", {"demonstration_dataset_name": "x.jsonl"}, "is not a file"),
        Broken("file", "demonstration_dataset_name", {"demonstration_dataset_name": "data/answers.jsonl"}),
        Broken("file", "dataset_train_split", {"dataset_train_split": "trian"}, "did you mean 'train'?"),
        Broken("file", "dataset_test_split", {"eval_strategy": "steps", "eval_steps": 1}, "choose from: train"),
        Broken("file", "model_name_or_path", model | {"model_name_or_path": "no/such/model"}),
        Broken("file", "model_name_or_path", model | {"model_name_or_path": "data"}),
        Broken("file", "resume_from_checkpoint", {"resume_from_checkpoint": "run/checkpoint-9"}, "or 'auto'"),
        Broken("file", "deepspeed", {"deepspeed": "zero9.json"}),
        Broken("file", "reward_funcs", {"reward_funcs": ["no_such_module:right"]}, "cannot be imported"),
        Broken("file", "reward_funcs", {"reward_funcs": ["sound_rewards:rigth"]}, "did you mean 'right'?"),
        Broken("file", "reward_funcs", {"reward_funcs": ["sound_rewards:not_a_function"]}),
        Broken("file", "reward_funcs", {"reward_funcs": ["think_format_rewards"]}, "did you mean"),
        Broken("file", "reward_funcs", {"reward_funcs": []}),
        Broken("file", "reward_funcs", {"reward_funcs": [3]}, "which is no text"),
        Broken("column", "prompt", {"dataset_name": "data/answers.jsonl"}, "rename"),
        Broken("column", "demonstration_column", {"demonstration_column": "solution"}),
        Broken("column", "demonstration_column", {"demonstration_column": None}),
        Broken("file", "path", {"mixing_policy": "replay", "mixing_policy_kwargs": {"path": "no_such_run"}}),
    ]


def _combinations() -> list[Broken]:
    both = {"task": "countdown"}
    few = {"dataset_name": ABSENT, **both, "task_kwargs": {"train_problems": 4}}
    return [
        Broken("batch", "num_generations", {"num_generations": 3}, "a multiple of 3"),
        Broken("batch", "num_generations", {"num_generations": 16}),
        Broken("batch", "generation_batch_size", {"generation_batch_size": 12}),
        Broken("batch", "generation_batch_size", {"generation_batch_size": 16, "steps_per_generation": 2}),
        Broken("batch", "sft_warmup_steps", {"sft_warmup_steps": 9}, "raise max_steps"),
        Broken("batch", "save_steps", {"save_strategy": "steps", "save_steps": 3, "steps_per_generation": 2}),
        Broken("batch", "sft_warmup_steps", {"sft_warmup_steps": 1, "num_iterations": 2}),
        Broken("batch", "validation_samples", {"meta_gradient": "validation", "validation_samples": 12}, "lower it"),
        Broken("both", "dataset_name", both, "exactly one"),
        Broken("both", "task", {"dataset_name": ABSENT}, "exactly one"),
        Broken("both", "model_name_or_path", {"model_name_or_path": "x"}, "exactly one"),
        Broken("both", "model_name_or_path", {"tiny_model": ABSENT}, "exactly one"),
        Broken("both", "reward_funcs", {"reward_funcs": ABSENT}),
        Broken("both", "task_kwargs", {"task_kwargs": {"seed": 1}}),
        Broken("both", "model_config", {"model_config": {"rope_theta": 1}}),
        Broken("both", "mu_min", {"mu_min": 0.8, "mu_max": 0.2}),
        Broken("both", "mu_init", {"mu_init": 0.99}, "move it inside"),
        Broken("both", "fp16", {"fp16": True}, "use bf16"),
        Broken("both", "load_in_4bit", {"load_in_4bit": True}, "drop"),
        Broken("both", "mu_entropy_lr", {"use_adaptive_entropy": True, "mu_entropy_lr": 0.1}),
        Broken("nested", "hiden_size", {"tiny_model": {"hiden_size": 32}}, "did you mean 'hidden_size'?"),
        Broken("nested", "hidden_size", {"tiny_model": {"hidden_size": 33}}, "choose a multiple"),
        Broken("nested", "model_type", {"tiny_model": {"model_type": "qwen9"}}, "choose one of"),
        Broken("nested", "sead", {"dataset_name": ABSENT, "task": "countdown", "task_kwargs": {"sead": 1}}, "choose"),
        Broken("nested", "rate", {"mixing_policy_kwargs": {"rate": 1}}),
        Broken("nested", "task_kwargs", {"dataset_name": ABSENT, "task": "countdown", "task_kwargs": "{"}, "JSON"),
        Broken("nested", "train_problems", few | {"task_kwargs": {"train_problems": -1}}),
        Broken("nested", "train_problems", few | {"task_kwargs": {"train_problems": "many"}}, "a whole number"),
        Broken("both", "mixing_policy", few | {"mixing_policy": "gate"}, "set task_kwargs: {paired: true}"),
    ]


def _rows() -> list[Broken]:
    """Data that no column name betrays, and fields that only what they belong to can judge."""
    apart = {"demonstration_dataset_name": "data/numbers.jsonl"}
    return [
        Broken("column", "target", {"reward_funcs": ["sound_rewards:reads_target"]}, "rename a column"),
        Broken("column", "dataset_name", {"dataset_name": "data/prompt_number.jsonl"}, "prompt of row 0 is 7"),
        Broken("column", "dataset_name", {"dataset_name": "data/prompt_null.jsonl"}, "prompt of row 0 is None"),
        Broken("column", "dataset_name", {"dataset_name": "data/prompt_empty.jsonl"}, "prompt of row 0 is ''"),
        Broken("column", "demonstration_dataset_name", apart, "the completion of row 0 is 7"),
        Broken("both", "reward_weights", {"reward_weights": [1.0, 2.0]}, "give one each"),
        Broken("both", "use_vllm", {"use_vllm": True}, "model_name_or_path"),
        Broken("both", "lr_scheduler_kwargs", {"lr_scheduler_kwargs": {"foo": 1}}, "drop"),
        Broken("nested", "hidden_size", {"tiny_model": {"hidden_size": "32"}}, "a whole number"),
        Broken("range", "seed", {"seed": -1}),
        Broken("file", "output_dir", {"output_dir": "data/train.jsonl"}, "give a folder"),
        Broken("file", "output_dir", {"output_dir": "data/train.jsonl/run"}, "give a folder"),
    ]


def _texts() -> list[Broken]:
    sound = json.dumps(SOUND)[:-1]
    return [
        Broken("yaml", "recipe", {}, "not valid YAML", "max_steps: [1\n"),
        Broken("yaml", "recipe", {}, "not valid YAML", "max_steps:\t4\n\tseed: 1\n"),
        Broken("yaml", "recipe", {}, "key: value", "- max_steps\n- 4\n"),
        Broken("yaml", "recipe", {}, "key: value", ""),
        Broken("yaml", "max_steps", {}, "keep one", sound + ', "max_steps": 5}'),
        Broken("yaml", "recipe", {}, "key: value", "max_steps 4\n"),
        Broken("yaml", "recipe", {}, "not valid YAML", 'output_dir: "run\n'),
        # A byte that is no UTF-8.
        Broken("yaml", "recipe", {}, "in UTF-8", "output_dir: run\udcff\n"),
    ]


def broken_recipes() -> list[Broken]:
    """All of them."""
    ranges = [Broken("range", name, {name: value}) for name, value in OUT_OF_RANGE]
    choices = [Broken("choice", name, {name: value}) for name, value in CHOICES.items()]
    return [*_typos(), *_types(), *ranges, *choices, *_files(), *_combinations(), *_rows(), *_texts()]


def prepare(folder: Path) -> None:
    """The files that the sound recipe names, and some that are no good."""
    (folder / "sound_rewards.py").write_text(REWARDS)
    rows = [{"prompt": f"{n}+1=", "demonstration": str(n + 1)} for n in range(12)]
    files = {
        "train": rows,
        "answers": [{"question": "1+1=", "answer": "2"}],
        "empty": [],
        "prompt_number": [{**row, "prompt": 7} for row in rows],
        "prompt_null": [{**row, "prompt": None} for row in rows],
        "prompt_empty": [{**row, "prompt": ""} for row in rows],
        "numbers": [{"prompt": "1+1=", "completion": 7}],
    }
    (folder / "data").mkdir()
    for name, lines in files.items():
        (folder / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (folder / "data" / "broken.jsonl").write_text('{"prompt": "1+1="\n')


def write(recipe: Broken, path: Path) -> str:
    """Write the recipe into a file. JSON is YAML."""
    fields = {key: value for key, value in (SOUND | recipe.changes).items() if value is not ABSENT}
    path.write_text(recipe.text if recipe.text is not None else json.dumps(fields), "utf-8", "surrogateescape")
    return str(path)
