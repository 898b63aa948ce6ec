"""Bad configurations and bad data are refused before training, each with one line that says what to do."""

import math

import pytest
from datasets import Dataset, IterableDataset
from trl import GRPOConfig

import toy
from messages import one_line
from trl_amft import AMFTTrainer


NAN, INF = math.nan, math.inf


def trainer(
    tmp_path,
    demonstrations="right",
    train=None,
    reward=toy.dense_reward,
    config=None,
    optimizer=None,
    validation_dataset=None,
    environment_factory=None,
    **settings,
):
    model, tokenizer = toy.model()
    return AMFTTrainer(
        model=model,
        reward_funcs=reward,
        args=toy.config(tmp_path, **settings) if config is None else config,
        train_dataset=toy.prompt_set() if train is None else train,
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set() if isinstance(demonstrations, str) else demonstrations,
        optimizers=(optimizer(model.parameters()) if optimizer else None, None),
        validation_dataset=validation_dataset,
        environment_factory=environment_factory,
    )


ONE, UNIT, HALF_OPEN = "give one in", "give a number in [0, 1]", "give a number in [0, 1)"


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        # Ranges.
        ({"mu_init": 1.5, "mixing_policy": "fixed"}, ["mu_init=1.5", UNIT]),
        ({"mu_min": -0.1}, ["mu_min=-0.1", UNIT]),
        ({"mu_max": 1.2}, ["mu_max=1.2", UNIT]),
        ({"mu_init": NAN}, ["mu_init=nan", UNIT]),
        ({"mu_lr": -0.2}, ["mu_lr=-0.2", "give a number in [0, inf)"]),
        ({"mu_lr": NAN}, ["mu_lr=nan", "give a number in [0, inf)"]),
        ({"mu_lr": INF}, ["mu_lr=inf", "give a number in [0, inf)"]),
        ({"mu_entropy_lr": -1e-3}, ["mu_entropy_lr=-0.001", "give a number in [0, inf)"]),
        ({"mu_entropy_target": -1.0}, ["mu_entropy_target=-1.0", "give a number in [0, inf)"]),
        ({"meta_momentum": 1.0}, ["meta_momentum=1.0", HALF_OPEN]),
        ({"meta_variance_decay": 1.0}, ["meta_variance_decay=1.0", HALF_OPEN]),
        ({"meta_trace_decay": 1.1}, ["meta_trace_decay=1.1", UNIT]),
        ({"meta_window": 0}, ["meta_window=0", "give an integer in [1, inf)"]),
        ({"meta_interval": 0}, ["meta_interval=0", "give an integer in [1, inf)"]),
        ({"meta_batch_size": 0}, ["meta_batch_size=0", "give an integer in [1, inf)"]),
        ({"sft_warmup_steps": -1}, ["sft_warmup_steps=-1", "give an integer in [0, inf)"]),
        ({"max_demonstration_length": 0}, ["max_demonstration_length=0", "give an integer in [1, inf)"]),
        ({"demonstration_min_reward": NAN}, ["demonstration_min_reward=nan", "give a number"]),
        # Types, as YAML and callers get them wrong.
        ({"meta_window": 2.5}, ["meta_window=2.5 is not an integer", ONE]),
        ({"meta_window": True}, ["meta_window=True is not an integer", ONE]),
        ({"mu_init": False}, ["mu_init=False is not a number", ONE]),
        ({"mu_init": "0.5"}, ["mu_init='0.5' is not a number", ONE]),
        ({"mu_lr": "1e-1"}, ["mu_lr='1e-1' is not a number", ONE]),
        ({"mu_max": None}, ["mu_max=None is not a number", ONE]),
        ({"sft_warmup_steps": "10"}, ["sft_warmup_steps='10' is not an integer", ONE]),
        ({"per_device_demonstration_batch_size": 1.0}, ["per_device_demonstration_batch_size=1.0", ONE]),
        # Choices.
        ({"mixing_policy": "amtf"}, ["mixing_policy='amtf'", "choose one of amft, amft_sources, amft_paper, "]),
        ({"mixing_policy": None}, ["mixing_policy=None", "choose one of"]),
        ({"meta_gradient": "loss"}, ["meta_gradient='loss'", "choose one of lagged, validation"]),
        ({"meta_normalization": "std"}, ["meta_normalization='std'", "choose one of rms, cosine, none"]),
        ({"meta_preconditioner": "adam"}, ["meta_preconditioner='adam'", "choose one of adamw, sgd"]),
        ({"demonstration_truncation": True}, ["demonstration_truncation=True", "choose one of drop, truncate"]),
        # Combinations.
        ({"mu_min": 0.6, "mu_max": 0.4}, ["mu_min=0.6", "mu_max=0.4", "lower it or raise mu_max"]),
        ({"mu_init": 0.99}, ["mu_init=0.99", "[0.0, 0.95]", "move it inside"]),
        ({"mixing_policy_kwargs": {"rate": 1}}, ["mixing_policy_kwargs", "'rate'", "takes none"]),
        (
            {"mixing_policy": "replay", "mixing_policy_kwargs": {"file": "x"}},
            ["mixing_policy_kwargs", "'file'", "takes path"],
        ),
        ({"mixing_policy_kwargs": [1]}, ["mixing_policy_kwargs=[1]", "give keys and values"]),
        ({"fp16": True}, ["fp16=True", "use bf16"]),
        ({"sft_warmup_steps": 9}, ["sft_warmup_steps=9", "max_steps=5", "raise max_steps"]),
        (
            {"steps_per_generation": 4, "save_strategy": "steps", "save_steps": 6},
            ["save_steps=6", "make it a multiple of 4"],
        ),
        (
            {"steps_per_generation": 2, "num_iterations": 2, "sft_warmup_steps": 2},
            ["sft_warmup_steps=2", "make it a multiple of 4"],
        ),
        (
            {"use_adaptive_entropy": True, "mu_entropy_lr": 0.1},
            ["use_adaptive_entropy=True", "mu_entropy_lr=0.1", "set mu_entropy_lr to 0"],
        ),
        ({"max_completion_length": None}, ["max_demonstration_length=None", "give one of them"]),
        (
            {"mixing_policy": "gate", "gradient_accumulation_steps": 4, "steps_per_generation": 1},
            ["steps_per_generation=1", "gradient_accumulation_steps=4", "'gate'", "a multiple of 4"],
        ),
        (
            {"mixing_policy": "luffy", "gradient_accumulation_steps": 2, "steps_per_generation": 3},
            ["steps_per_generation=3", "gradient_accumulation_steps=2", "'luffy'", "a multiple of 2"],
        ),
    ],
)
def test_configuration(tmp_path, settings, parts):
    with pytest.raises(ValueError) as error:
        toy.config(tmp_path, **settings)
    one_line(error, *parts)


def test_sound_values_at_the_edges_pass(tmp_path):
    toy.config(tmp_path, mu_init=0, mu_min=0, mu_max=1, mu_lr=0, meta_trace_decay=0.0, meta_momentum=0.0)
    toy.config(tmp_path, mixing_policy="fixed", mu_init=1.0, mu_min=0.9, mu_max=0.1)
    toy.config(tmp_path, sft_warmup_steps=5)
    toy.config(tmp_path, steps_per_generation=4, save_strategy="steps", save_steps=8)
    toy.config(tmp_path, use_adaptive_entropy=True)
    toy.config(tmp_path, mixing_policy="gate", gradient_accumulation_steps=2, steps_per_generation=4)
    assert toy.config(tmp_path, max_completion_length=None, max_demonstration_length=7).max_demonstration_length == 7


def paired(*demonstrations, **columns):
    return Dataset.from_dict(
        {"prompt": toy.prompts(len(demonstrations)), "demonstration": list(demonstrations), **columns}
    )


def stream(**columns):
    rows = Dataset.from_dict(columns)
    return IterableDataset.from_generator(lambda: iter(rows))


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ({"demonstrations": None}, ["demonstration_column='demonstration'", "['prompt']", "mu_init=0"]),
        (
            {"demonstrations": None, "train": paired("3"), "demonstration_column": "solution"},
            ["demonstration_column='solution'", "found ['prompt', 'demonstration']", "pass one"],
        ),
        ({"demonstrations": None, "demonstration_column": None}, ["demonstration_column=None", "pass one"]),
        (
            {"demonstrations": None, "train": paired("3"), "mixing_policy": "gate", "remove_unused_columns": True},
            ["remove_unused_columns=True", "mixing_policy='gate'", "set remove_unused_columns to False"],
        ),
        (
            {
                "train": paired("3", baseline=[0.5]),
                "advantage_baseline": "column:baseline",
                "scale_rewards": "none",
                "remove_unused_columns": True,
            },
            ["remove_unused_columns=True", "advantage_baseline='column:baseline'", "to False"],
        ),
        (
            {"demonstrations": Dataset.from_dict({"prompt": [], "completion": []})},
            ["demonstration_dataset is empty", "give at least one"],
        ),
        ({"train": Dataset.from_dict({"prompt": []})}, ["train_dataset is empty", "give at least one row"]),
        (
            {"demonstrations": Dataset.from_dict({"question": ["a"], "answer": ["b"]})},
            ["demonstration_dataset", "['answer', 'question']", "'prompt' and 'completion', or 'messages'", "rename"],
        ),
        (
            {"demonstrations": None, "train": Dataset.from_dict({"question": ["a"], "demonstration": ["b"]})},
            ["train_dataset", "['demonstration', 'question']", "'prompt' and 'demonstration'", "rename"],
        ),
        (
            {"demonstrations": stream(question=["a"], answer=["b"])},
            ["demonstration_dataset", "['answer', 'question']", "rename"],
        ),
        (
            {"demonstrations": Dataset.from_dict({"prompt": ["a", "b"], "completion": ["x" * 9] * 2})},
            ["2 too_long", "raise max_demonstration_length=4"],
        ),
        (
            {"demonstrations": stream(prompt=["a"], completion=["x" * 9])},
            ["1 too_long", "raise max_demonstration_length=4"],
        ),
        ({"demonstrations": stream()}, ["none is usable (it is empty)"]),
        (
            {"demonstrations": None, "train": paired(None, "", None)},
            ["3 absent", "fill the demonstration column"],
        ),
        (
            {"demonstrations": None, "train": paired("3", "4").to_iterable_dataset()},
            [
                "demonstration_column='demonstration'",
                "IterableDataset",
                "`demonstration_dataset`, which may be streamed",
            ],
        ),
        (
            {"train": toy.prompt_set().to_iterable_dataset(), "sft_warmup_steps": 2},
            ["sft_warmup_steps=2", "IterableDataset", "load it without streaming"],
        ),
        ({"meta_gradient": "validation"}, ["meta_gradient='validation'", "got NoneType", "pass a Dataset"]),
        (
            {"meta_gradient": "validation", "validation_dataset": toy.prompt_set().to_iterable_dataset()},
            ["meta_gradient='validation'", "got IterableDataset", "pass a Dataset"],
        ),
        (
            {"meta_gradient": "validation", "validation_dataset": Dataset.from_dict({"question": ["a"]})},
            ["validation_dataset", "['question']", "expected 'prompt'", "rename"],
        ),
        (
            {"meta_gradient": "validation", "validation_dataset": Dataset.from_dict({"prompt": []})},
            ["validation_dataset is empty", "give held-out prompts"],
        ),
        (
            {
                "demonstrations": Dataset.from_dict(
                    {
                        "prompt": [[{"role": "user", "content": [{"type": "image", "text": ""}]}]],
                        "completion": [[{"role": "assistant", "content": [{"type": "text", "text": "3"}]}]],
                    }
                )
            },
            ["type='image' in its messages", "give pictures in the column 'image' or 'images'"],
        ),
        (
            {"demonstrations": None, "train": paired("3", images=[["a.png"]])},
            ["1 picture(s)", "a tokenizer only", "take a model that sees, or drop the columns"],
        ),
        (
            {
                "demonstrations": Dataset.from_dict(
                    {
                        "prompt": [[{"role": "user", "content": "a"}]],
                        "completion": [
                            [{"role": "assistant", "content": "b"}, {"role": "tool", "content": "c"}],
                        ],
                    }
                )
            },
            ["role='tool'", "keep assistant turns only"],
        ),
    ],
)
def test_data(tmp_path, data, parts):
    with pytest.raises(ValueError) as error:
        trainer(tmp_path, **data)
    one_line(error, *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"demonstrations": [{"prompt": "a", "completion": "b"}]}, ["demonstration_dataset", "got list", "Dataset"]),
        ({"train": [{"prompt": "a"}]}, ["train_dataset", "got list", "Dataset.from_list"]),
        ({"validation_dataset": {"prompt": ["a"]}}, ["validation_dataset", "got dict", "Dataset.from_dict"]),
    ],
)
def test_classes_of_datasets(tmp_path, arguments, parts):
    with pytest.raises(TypeError) as error:
        trainer(tmp_path, **arguments)
    one_line(error, *parts)


def test_class_of_the_configuration(tmp_path):
    with pytest.raises(TypeError) as error:
        trainer(tmp_path, config=toy.config(tmp_path, GRPOConfig))
    one_line(error, "AMFTConfig", "GRPOConfig", "replace the class name")


def test_without_demonstrations_grpo_alone_runs(tmp_path):
    empty = Dataset.from_dict({"prompt": [], "completion": []})
    for demonstrations in (None, empty):
        run = trainer(tmp_path, demonstrations, mixing_policy="fixed", mu_init=0.0, max_steps=1)
        run.train()
        assert run.demonstrations is None and run.state.global_step == 1
        # No way of sharding can be refused where nothing is mixed.
        assert run.step_algebra is None
