"""YAML of recipes: numbers and words as people mean them."""

from pathlib import Path

import pytest

from trl_amft.cli.recipe_file import EXAMPLES, read_recipe
from trl_amft.cli.usage import UsageError


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


class TestMissing:
    @pytest.fixture
    def files(self, tmp_path, monkeypatch):
        for name in (".pre-commit.yaml", *map(str, EXAMPLES.values())):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a: 1\n")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @pytest.mark.parametrize(
        ("field", "name", "remedy"),
        [
            ("recipe", "quickstart.yaml", "did you mean 'recipes/quickstart.yaml'?"),
            ("study", "cor.yaml", "did you mean 'recipes/studies/core.yaml'?"),
            ("scenario", "twenty_question.yaml", "did you mean 'examples/imagined/twenty_questions.yaml'?"),
            ("recipe", "x", "give the path of a YAML file, for example recipes/quickstart.yaml"),
            ("study", "x", "give the path of a YAML file, for example recipes/studies/core.yaml"),
            ("recipe", "recipes/x", "'recipes' holds: quickstart.yaml"),
            ("recipe", "x.yaml", "give the path of a YAML file, for example recipes/quickstart.yaml"),
            ("recipe", "quickstart", "did you mean 'recipes/quickstart.yaml'?"),
        ],
    )
    def test_remedy(self, files, field, name, remedy):
        with pytest.raises(UsageError) as caught:
            read_recipe(name, field)
        assert str(caught.value) == f"{field}={name!r} is not a file; {remedy}"

    @pytest.mark.parametrize("text", ["a: [1\n", "a: 1\na: 2\n", "- a\n"])
    def test_what_cannot_be_read_is_told_by_its_field(self, files, text):
        (files / "file.yaml").write_text(text)
        with pytest.raises(UsageError, match="^study='file.yaml'"):
            read_recipe("file.yaml", "study")

    def test_examples_are_there(self):
        root = Path(__file__).parents[2]
        assert all((root / path).is_file() for path in EXAMPLES.values())
