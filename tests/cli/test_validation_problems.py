"""Problems of the validation gradient are trained on in no form: no prompt, no other row of them, no demonstration."""

import pytest
from datasets import Dataset, IterableDataset
from PIL import Image

from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.data import load_data
from trl_amft.cli.usage import UsageError
from trl_amft.cli.validation_problems import set_aside


TRAIN = Dataset.from_dict({"prompt": ["a:", "b:", "c:", "d:", "a:"], "answer": [1, 2, 3, 4, 1]})
SHOWN = Dataset.from_dict({"prompt": ["a:", "b:", "c:", "d:", "e:"], "completion": ["1", "2", "3", "4", "5"]})


def test_problems_leave_prompts_and_demonstrations():
    train, shown, validation = set_aside(TRAIN, SHOWN, 2, seed=0)
    chosen = set(validation["prompt"])
    assert len(validation) == len(chosen) == 2
    assert set(train["prompt"]) == {"a:", "b:", "c:", "d:"} - chosen
    assert set(shown["prompt"]) == {"a:", "b:", "c:", "d:", "e:"} - chosen


def test_choice_follows_the_seed():
    found = {tuple(set_aside(TRAIN, SHOWN, 2, seed=seed)[2]["prompt"]) for seed in (0, 0, 1, 2, 3)}
    assert len(found) > 1
    assert set_aside(TRAIN, SHOWN, 2, seed=0)[2]["prompt"] == set_aside(TRAIN, SHOWN, 2, seed=0)[2]["prompt"]


def test_streamed_demonstrations():
    stream = IterableDataset.from_generator(lambda: iter(SHOWN.to_list()))
    _, shown, validation = set_aside(TRAIN, stream, 2, seed=0)
    assert [row["prompt"] for row in shown] == [p for p in SHOWN["prompt"] if p not in set(validation["prompt"])]


def test_messages_of_demonstrations():
    asked = [[{"role": "user", "content": text}] for text in "abc"]
    answer = [{"role": "assistant", "content": "yes"}]
    shown = Dataset.from_dict({"messages": [prompt + answer for prompt in asked]})
    _, shown, validation = set_aside(Dataset.from_dict({"prompt": asked}), shown, 1, seed=0)
    assert [row["messages"][:1] for row in shown] == [prompt for prompt in asked if prompt != validation[0]["prompt"]]


def test_prompts_that_differ_in_their_picture():
    pictures = [Image.new("RGB", (2, 2), (shade, 0, 0)) for shade in (0, 100, 200)]
    train = Dataset.from_dict({"prompt": ["what?"] * 3, "image": pictures})
    train, _, validation = set_aside(train, None, 1, seed=0)
    assert len(train) == 2 and validation[0]["image"] not in list(train["image"])


@pytest.mark.parametrize(
    ("shown", "count", "expected"),
    [
        (SHOWN, 4, "validation_samples=4 leaves none of 4 training problems; lower it"),
        (SHOWN.select([0]), 3, "validation_samples=3 takes the problems of all demonstrations; lower it"),
    ],
)
def test_nothing_left(shown, count, expected):
    with pytest.raises(UsageError, match=expected):
        # With the seed that chooses the only one shown.
        set_aside(TRAIN, shown, count, seed=next(s for s in range(9) if "a:" in _chosen(s, min(count, 3))))


def _chosen(seed: int, count: int) -> set[str]:
    return set(set_aside(TRAIN, None, count, seed)[2]["prompt"])


@pytest.mark.parametrize(
    ("task", "kwargs", "problem"),
    [
        ("countdown", '{"train_problems": 20}', lambda row: (tuple(sorted(row["numbers"])), row["target"])),
        ("general_points", '{"train_hands": 20}', lambda row: tuple(sorted(row["cards"]))),
        ("virl", '{"train_routes": 20}', lambda row: row["route"]),
        ("prefixes", "{}", lambda row: row["row"]),
    ],
)
def test_tasks_divide_by_problem(tmp_path, task, kwargs, problem):
    argv = ["--task", task, "--task_kwargs", kwargs, "--meta_gradient", "validation", "--validation_samples", "5"]
    fixed = ["--tiny_model", "{}", "--bf16", "false", "--max_steps", "1", "--output_dir", str(tmp_path)]
    recipe = parse_recipe([*argv, *fixed])
    data = load_data(recipe.run, recipe.training)
    chosen = set(map(problem, data.validation_dataset))
    assert len(chosen) == len(data.validation_dataset) == 5
    for rest in (data.train_dataset, data.demonstration_dataset):
        assert rest is None or (len(rest) > 0 and chosen.isdisjoint(map(problem, rest)))
