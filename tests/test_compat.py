"""What this package relies on in TRL, and what it says about a TRL that it does not know."""

import inspect
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from trl import GRPOTrainer
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration

import toy
from trl_amft import AMFTTrainer, compat


REPOSITORY = Path(__file__).parents[1]


def test_the_contract_holds():
    assert compat.broken_contract(GRPOTrainer) == []
    assert compat.broken_contract(VLLMGeneration, compat.GENERATION_CONTRACT) == []
    assert compat.broken_contract(VLLMClient, compat.CLIENT_CONTRACT) == []
    # Where `before_rollouts_are_shared` steps in.
    assert inspect.getsource(VLLMGeneration.generate).count("broadcast_object_list(") == 1


def test_a_changed_signature_is_reported():
    class Moved(GRPOTrainer):
        def compute_loss(self, model, inputs, return_outputs=False):
            raise NotImplementedError

        _get_train_sampler = None

    assert compat.broken_contract(Moved) == [
        "Moved.compute_loss: expected ('self', 'model', 'inputs', 'return_outputs', 'num_items_in_batch'), "
        "found ('self', 'model', 'inputs', 'return_outputs')",
        "Moved._get_train_sampler: expected ('self', 'dataset'), found None",
    ]


def test_the_attributes_exist(tmp_path):
    model, tokenizer = toy.model()
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=toy.reward,
        args=toy.config(tmp_path),
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
    )
    missing = [name for name in compat.ATTRIBUTES if not hasattr(trainer, name)]
    assert missing == []


def test_every_override_is_in_the_contract():
    """A method of GRPOTrainer (or of its bases) that is overridden is one whose signature must be watched."""
    own = {name for name, value in vars(AMFTTrainer).items() if inspect.isfunction(value)}
    assert {name for name in own if hasattr(GRPOTrainer, name)} <= set(compat.CONTRACT)


def test_constructor_is_that_of_grpo_and_two_keywords():
    ours = list(inspect.signature(AMFTTrainer.__init__).parameters.values())
    theirs = list(inspect.signature(GRPOTrainer.__init__).parameters.values())
    shared, added = ours[: len(theirs)], ours[len(theirs) :]
    assert len(theirs) == 15, "self and 14"
    assert [(p.name, p.kind, p.default) for p in shared] == [(p.name, p.kind, p.default) for p in theirs]
    assert [p.name for p in added] == ["demonstration_dataset", "validation_dataset"]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is None for p in added)


def installed(monkeypatch, found):
    def version(package):
        assert package == "trl"
        if found is None:
            raise PackageNotFoundError(package)
        return found

    monkeypatch.setattr(compat, "version", version)


@pytest.mark.parametrize("found", ["1.16.0", "1.16.3", "1.16.1.dev0"])
def test_supported_versions(monkeypatch, found):
    installed(monkeypatch, found)
    compat.require_supported_trl()


@pytest.mark.parametrize("found", ["0.29.0", "1.15.9", "1.16.0.dev0", "1.17.0.dev0", "1.17.0", "2.0.0", None])
def test_other_versions_are_one_line(monkeypatch, found):
    installed(monkeypatch, found)
    with pytest.raises(ImportError) as error:
        compat.require_supported_trl()
    what = "but trl is not installed" if found is None else f"found trl {found}"
    assert str(error.value) == f"trl_amft needs trl>=1.16,<1.17, {what}: run `pip install 'trl>=1.16,<1.17'`"


def test_import_beside_another_trl(tmp_path):
    """The stub also has a package that fails when imported: the version is checked before."""
    (tmp_path / "trl-1.9.0.dist-info").mkdir()
    (tmp_path / "trl-1.9.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 1.9.0\n")
    (tmp_path / "trl").mkdir()
    (tmp_path / "trl" / "__init__.py").write_text("raise SystemError('imported before the check')\n")
    result = subprocess.run(
        [sys.executable, "-c", "import trl_amft"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last == (
        "ImportError: trl_amft needs trl>=1.16,<1.17, found trl 1.9.0: run `pip install 'trl>=1.16,<1.17'`"
    )
    assert "SystemError" not in result.stderr


def test_versions_of_the_stack():
    versions = compat.installed_versions()
    assert {"trl", "transformers", "torch", "accelerate", "datasets"} <= set(versions)
    assert "nonsense" not in versions and all(versions.values())
