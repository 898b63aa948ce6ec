"""A model that was overwritten is another one, whatever of it was; what a run writes beside it is not."""

import json

import pytest

from trl_amft.evaluation.checkpoint import weights_fingerprint


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tokenizer.json", "chat_template.jinja"])
def test_fingerprint_of_a_model(tmp_path, name):
    for folder in ("base", "adapter"):
        (tmp_path / folder).mkdir()
    (tmp_path / "base" / name).write_text("a")
    (tmp_path / "base" / "metrics.json").write_text("a")
    adapter = {"base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(adapter))
    before = [weights_fingerprint(str(tmp_path / folder)) for folder in ("base", "adapter")]
    # Numbers that a run writes beside its model are not the model.
    (tmp_path / "base" / "metrics.json").write_text("bb")
    assert before == [weights_fingerprint(str(tmp_path / folder)) for folder in ("base", "adapter")]
    (tmp_path / "base" / name).write_text("bb")
    after = [weights_fingerprint(str(tmp_path / folder)) for folder in ("base", "adapter")]
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert weights_fingerprint("org/model") is None
