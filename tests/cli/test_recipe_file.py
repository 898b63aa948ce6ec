"""YAML of recipes: numbers and words as people mean them."""

import pytest

from trl_amft.cli.recipe_file import read_recipe


def read(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path)


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 1e-3), ("1.0e-3", 1e-3), (".5", 0.5), ("-2.", -2.0), ("3", 3), ("1E5", 1e5), (".inf", float("inf"))],
)
def test_numbers(tmp_path, written, value):
    found = read(tmp_path, f"task_kwargs:\n  x: {written}\n")["task_kwargs"]["x"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("written", "value"), [("true", True), ("False", False), ("no", "no"), ("on", "on")])
def test_truth_values(tmp_path, written, value):
    assert read(tmp_path, f"x: {written}\n") == {"x": value}
