"""`scripts/evaluate.py --compare`: paired differences of two output folders."""

import json

import pytest

from trl_amft.cli.evaluate import main
from trl_amft.evaluation.summary import summarize


def write(folder, name, correct, samples=4):
    folder.mkdir(exist_ok=True)
    records = [
        {
            "id": f"{name}{number}",
            "rewards": [1.0] * right + [0.0] * (samples - right),
            "tokens": [3] * samples,
            "truncated": [False] * samples,
            "answers": None,
            "undecided": 0,
            "level": None,
            "subject": None,
        }
        for number, right in enumerate(correct)
    ]
    (folder / f"{name}.json").write_text(json.dumps(summarize(records)))


def test_paired_differences(tmp_path, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    write(a, "x", [0, 1, 2, 3, 4] * 8)
    write(b, "x", [1, 2, 3, 4, 4] * 8)
    write(a, "y", [4, 0])
    write(b, "y", [4, 0, 4])
    write(b, "z", [4])
    (a / "other.json").write_text("{}")
    main(["--compare", str(a), str(b)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert lines[0].startswith("| set | problems in both | A | B | B − A |")
    assert lines[2].startswith("| x | 40 | 50.0 | 70.0 | +20.0 | 1")
    assert lines[3].startswith("| y | 2 | 50.0 | 50.0 | +0.0 | 0.0 to 0.0")
    assert lines[4].startswith("| mean over sets |  |  |  | +10.0 |") and len(lines) == 5


def test_nothing_in_common(tmp_path, capsys):
    write(tmp_path / "a", "x", [1])
    write(tmp_path / "b", "y", [1])
    with pytest.raises(SystemExit, match="2"):
        main(["--compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert "no problems in common: A has x, B has y" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--compare", str(tmp_path / "a"), str(tmp_path)])
    assert "holds no finished set" in capsys.readouterr().err
