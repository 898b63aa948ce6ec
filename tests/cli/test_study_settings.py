"""The defaults of the learned weight are the setting that the studies ran."""

import dataclasses

import pytest

from trl_amft import AMFTConfig
from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.study import command_line, read_study


@pytest.mark.parametrize("name", ["core", "general_points", "virl"])
def test_defaults_are_those_of_the_study(name, tmp_path):
    study = read_study(f"recipes/studies/{name}.yaml")
    run = next(run for run in study.runs if run.policy == "amft")
    training = parse_recipe(command_line(run, study.recipe, tmp_path, None)).training
    defaults = {one.name: one.default for one in dataclasses.fields(AMFTConfig)}
    learned = [one for one in defaults if one.startswith(("mu_", "meta_"))]
    assert {one: getattr(training, one) for one in learned} == {one: defaults[one] for one in learned}
