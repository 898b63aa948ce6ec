"""A model with another configuration, for everybody who loads it by name."""

import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from trl_amft.cli import train
from trl_amft.cli.model_folder import _appear, folder_with_config
from trl_amft.cli.usage import UsageError
from trl_amft.tiny_model import save_tiny_model


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "original"
    save_tiny_model(folder, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    # The form in which checkpoints on the Hub have it.
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_values_change_and_weights_stay(model, tmp_path):
    changes = {"max_position_embeddings": 16384, "rope_theta": 40000}
    folder = folder_with_config(str(model), None, changes, tmp_path / "run" / "model")
    changed, original = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, model))
    assert changed.config.max_position_embeddings == 16384
    assert changed.config.rope_parameters["rope_theta"] == 40000
    assert original.config.max_position_embeddings == 1024
    assert all((a == b).all() for a, b in zip(changed.parameters(), original.parameters(), strict=True))
    assert (
        AutoTokenizer.from_pretrained(folder)("3+4").input_ids == AutoTokenizer.from_pretrained(model)("3+4").input_ids
    )
    assert (tmp_path / "run" / "model" / "model.safetensors").is_symlink()


def test_from_a_recipe(model, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"task: maths\ntask_kwargs: {{dataset: synthetic, train_problems: 8, held_out_problems: 2}}\nbf16: false\n"
        f"model_name_or_path: {model}\noutput_dir: {tmp_path / 'run'}\n"
        "model_config: {max_position_embeddings: 4096}\n"
    )
    recipe, data, _ = train._prepare(["--recipe", str(path)])
    trainer = train.build_trainer(recipe, data)
    assert trainer.model.config.max_position_embeddings == 4096
    # The name by which vLLM loads it.
    assert trainer.model.name_or_path == str(tmp_path / "run" / "model")
    assert recipe.changed["model_name_or_path"] == str(model)


def test_a_second_time(model, tmp_path):
    for length in (2048, 4096):
        folder = folder_with_config(str(model), None, {"max_position_embeddings": length}, tmp_path / "model")
    assert AutoModelForCausalLM.from_pretrained(folder).config.max_position_embeddings == 4096
    assert not [file for file in (tmp_path / "model").iterdir() if file.name.startswith(".")]


def test_processes_with_the_same_number_do_not_meet(tmp_path):
    path = tmp_path / "config.json"

    def write(mine):
        mine.write_text("first")
        _appear(path, lambda other: other.write_text("second"))

    _appear(path, write)
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_unknown_key(model, tmp_path):
    with pytest.raises(UsageError, match=r"has no rope_thetta=1 in its config.json; did you mean 'rope_theta'\?"):
        folder_with_config(str(model), None, {"rope_thetta": 1}, tmp_path / "model")


def test_model_that_cannot_be_had(tmp_path):
    with pytest.raises(UsageError, match="model_name_or_path='org/none' cannot be loaded"):
        folder_with_config("org/none", None, {}, tmp_path / "model")
