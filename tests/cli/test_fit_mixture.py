"""Pilots are planned where they can be written."""

import pytest

from trl_amft.cli.fit_mixture import main


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("domain_weights: {maths: 1, routes: 1}\n")
    with pytest.raises(SystemExit) as caught:
        main(["plan", "--recipe", str(recipe), "--pilots", "30", "--output_dir", "/proc/p"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1
    assert "output_dir='/proc/p' cannot be written" in error and "give another name" in error
