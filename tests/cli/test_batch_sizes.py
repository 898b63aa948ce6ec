"""Batches that do not divide into groups: which field, which value, and what to change."""

import pytest

from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.usage import UsageError


SMALL = ["--task", "countdown", "--tiny_model", "{}", "--bf16", "false", "--output_dir", "run"]
BATCH = ["--per_device_train_batch_size", "8", "--per_device_eval_batch_size", "12", "--num_generations", "4"]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            ["--eval_strategy", "steps", "--eval_steps", "1", "--num_generations", "8"],
            "num_generations=8 does not divide per_device_eval_batch_size=12 times processes=1; make "
            "per_device_eval_batch_size a multiple of 8",
        ),
        (
            ["--eval_strategy", "steps", "--eval_steps", "1", "--num_generations_eval", "5"],
            "num_generations_eval=5 does not divide per_device_eval_batch_size=12 times processes=1; make "
            "per_device_eval_batch_size a multiple of 5",
        ),
        (
            ["--num_generations", "3"],
            "num_generations=3 does not divide generation_batch_size=8, which is per_device_train_batch_size times "
            "processes times steps_per_generation; make one of these a multiple of 3",
        ),
        (
            ["--generation_batch_size", "12"],
            "generation_batch_size=12 must be a multiple of 8, which is per_device_train_batch_size times processes",
        ),
    ],
)
def test_one_line_with_field_and_remedy(more, line):
    with pytest.raises(UsageError) as caught:
        parse_recipe([*SMALL, *BATCH, *more])
    assert str(caught.value) == line


def test_without_evaluation_only_the_training_batch_has_to_divide():
    more = ["--num_generations", "8", "--num_generations_eval", "5"]
    assert parse_recipe([*SMALL, *BATCH, *more]).training.num_generations == 8


@pytest.mark.parametrize("name", ["max_grad_norm", "epsilon_high", "delta"])
def test_a_limit_may_be_infinite(name):
    assert getattr(parse_recipe([*SMALL, f"--{name}", "inf"]).training, name) == float("inf")


@pytest.mark.parametrize("value", ["-1", "1"])
def test_steps_or_epochs(value):
    assert parse_recipe([*SMALL, "--max_steps", value]).training.max_steps == int(value)
