"""What is left of training rows, and what is told about the rest."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset

from trl_amft.cli.prepare_maths import main
from trl_amft.tasks import load_task
from trl_amft.tasks.maths_preparation import Preparation, plain


ROWS = [
    {"problem": "What is 1+1?", "answer": "2", "solution": "It is \\boxed{2}."},
    {"problem": "what is  1+1", "answer": "2", "solution": "Again \\boxed{2}."},
    {"problem": "What is 1-1?", "answer": "0", "solution": "It is \\boxed{1}."},
    {"problem": "What is 2+2?", "answer": "4", "solution": "It is \\boxed{4}, " + "really " * 30},
    {"problem": "What is 3+3?", "answer": "6", "solution": ""},
    {"problem": "What is 4+4?", "answer": "", "solution": "Hm."},
    {"problem": "What is 5+5?", "answer": "10", "solution": "It is \\boxed{10}."},
    {"problem": "What is 6+6?", "answer": "12", "solution": "It is \\boxed{12}."},
]


@pytest.fixture
def rows(tmp_path):
    Dataset.from_list(ROWS).to_json(tmp_path / "rows.jsonl")
    Dataset.from_list([{"question": "WHAT is 5+5 ?", "answer": "10"}]).to_json(tmp_path / "test_set.jsonl")
    return tmp_path


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_what_is_left(rows, ending, capsys):
    output = rows / f"out.{ending}"
    main([str(rows / "rows.jsonl"), str(output), "--exclude", str(rows / "test_set.jsonl"), "--max_length", "100"])
    told = capsys.readouterr().out
    assert "leaves out no row" not in told
    for line, count in (
        ("rows read", 8),
        ("left out: same problem as another row", 1),
        ("left out: in an excluded set", 1),
        ("left out: no problem or no answer", 1),
        ("problems written", 5),
        ("with a demonstration", 2),
        ("no demonstration: it ends in another answer", 1),
        ("no demonstration: longer than 100", 1),
        ("no demonstration: there was none", 1),
        ("characters: least / median / 90 % / 99 % / most", "16 / 16 / 17 / 17 / 17"),
    ):
        (found,) = [part for part in told.splitlines() if f"│ {line} " in part]
        assert found.rstrip(" │").endswith(str(count)), found

    task = load_task("maths", dataset=str(output), held_out_problems=1)
    everything = [*task.train_dataset["solution"], *task.held_out_dataset["solution"]]
    assert sorted(everything) == [f"\\boxed{{{answer}}}" for answer in ("0", "12", "2", "4", "6")]
    written = list(Dataset.from_json(str(output)) if ending == "jsonl" else Dataset.from_parquet(str(output)))
    assert [row["target"] is not None for row in written] == [True, False, False, False, True]


LONG = "Let $n$ be the number of ways to put 7 red balls into 4 boxes. Find $n$."
WRAPPED = f"Solve the following math problem step by step.\n\n{LONG}\n\nRemember to put your answer on its own line."


@pytest.mark.parametrize(
    ("asked", "excluded", "left"),
    [
        (WRAPPED, LONG, 0),
        (WRAPPED, LONG.replace("7", "8"), 1),
        (WRAPPED, LONG.replace("Find", "Then find"), 1),
        # Two problems may begin alike.
        (WRAPPED, f"{LONG[:-10]} Half of it?", 1),
        ("What is 5+5? Say it.", "What is 5+5?", 1),
    ],
)
def test_excluded_problems_inside_a_prompt(tmp_path, asked, excluded, left, capsys):
    other = {"problem": "1+1?", "answer": "2"}
    Dataset.from_list([other, {"problem": asked, "answer": "1"}]).to_json(tmp_path / "in.jsonl")
    alike = f"{LONG[:-10]} Double it?"
    Dataset.from_list([{"problem": problem, "answer": "1"} for problem in (alike, excluded)]).to_json(
        tmp_path / "test_set.jsonl"
    )
    main([str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--exclude", str(tmp_path / "test_set.jsonl")])
    assert len(Dataset.from_json(str(tmp_path / "out.jsonl"))) == 1 + left
    assert ("leaves out no row; look whether" in capsys.readouterr().out) == bool(left)


def test_of_rows_with_one_problem_the_first_right_demonstration_stays(tmp_path, capsys):
    boxed = ["\\boxed{3}", "\\boxed{2}, as 1+1=2", "", "\\boxed{2}"]
    Dataset.from_list([{"problem": "1+1?", "answer": "2", "solution": text} for text in boxed]).to_json(
        tmp_path / "in.jsonl"
    )
    main([str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")])
    (row,) = Dataset.from_json(str(tmp_path / "out.jsonl"))
    assert row["target"][-1]["content"] == boxed[1]
    told = capsys.readouterr().out
    assert "same problem as another row" in told and "ends in another answer" not in told


def test_tokens_of_a_model(rows, tmp_path, capsys):
    from trl_amft.tiny_model import save_tiny_model

    save_tiny_model(tmp_path / "model", hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    main([str(rows / "rows.jsonl"), str(tmp_path / "out.jsonl"), "--tokenizer", str(tmp_path / "model")])
    assert "tokens: least / median" in capsys.readouterr().out


def refuse_rows(rows, *args, **kwargs):
    """Only rows without an answer come as far as this: every other mistake is found before."""
    assert not any(row["solution"] for row in rows)
    return Preparation(dropped=Counter(["no problem or no answer"]))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rows.jsonl", "out.csv"], "output='out.csv' has no known ending; give a name with .jsonl or .parquet"),
        (["rows.jsonl", "rows.jsonl"], "output='rows.jsonl' exists; delete it, or give another name"),
        (["none.jsonl", "out.jsonl"], "dataset='none.jsonl' with split='train' cannot be loaded"),
        (["rows.jsonl", "out.jsonl", "--max_length", "0"], "max_length=0 must be at least 1"),
        (["rows.jsonl", "out.jsonl", "--tokenizer", "none"], "tokenizer='none' cannot be loaded"),
        (["other.jsonl", "out.jsonl"], "dataset='other.jsonl' has the columns ask; expected one of prompt"),
        (["empty.jsonl", "out.jsonl"], "dataset='empty.jsonl' leaves no row"),
        (["rows.jsonl", "rows.jsonl/out.jsonl"], "output='rows.jsonl/out.jsonl' lies below 'rows.jsonl', which is a"),
        (["strings.jsonl", "out.jsonl"], "dataset='strings.jsonl': prompt=['1+1?'] must be a text, or a list of"),
        (["rows.jsonl", "out.jsonl", "--exclude", "strings.jsonl"], "dataset='strings.jsonl': prompt=['1+1?'] must"),
        (["rows.jsonl"], "the following arguments are required: output; see --help"),
    ],
)
def test_bad_input(rows, argv, message, monkeypatch, capsys):
    monkeypatch.setattr("trl_amft.cli.prepare_maths.prepare", refuse_rows)
    monkeypatch.chdir(rows)
    Path("other.jsonl").write_text('{"ask": "?"}\n')
    Path("strings.jsonl").write_text('{"prompt": ["1+1?"], "answer": "2"}\n')
    Path("empty.jsonl").write_text('{"problem": "?", "answer": ""}\n')
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_problems_are_compared_without_spaces_dollar_signs_and_capitals():
    assert plain("What is  $1+1$?") == plain("what is 1+1 ?") != plain("What is 1-1?")
    assert plain("$f\\left( 1,2 \\right)$.") == plain("f(1,2)")
    different = ["1.5 + 2", "15 + 2", "2(3+4)5", "23+45", "|x|=1", "x=1", "f(1,2)", "f(12)", "√2", "2", "求和", "求积"]
    assert len({plain(problem) for problem in different}) == len(different)


@pytest.fixture
def counts():
    path = Path(__file__).parents[2] / "scripts" / "check_hub_counts.py"
    spec = importlib.util.spec_from_file_location("check_hub_counts", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


class TestCounts:
    def test_offline_each_set_is_told_in_one_line(self, counts, capsys):
        assert counts.main(["aime24", "amc"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2 and all("cannot be loaded" in line for line in lines)

    @pytest.mark.parametrize(
        ("rows", "answer", "told"),
        [
            (40, "1", "as published"),
            (39, "1", "39 rows, published with 40"),
            (40, "", "40 of 40 rows have no answer that can be read"),
        ],
    )
    def test_rows(self, counts, capsys, monkeypatch, rows, answer, told):
        made = Dataset.from_list([{"question": str(n), "answer": answer} for n in range(rows)])
        monkeypatch.setattr(counts, "load_rows", lambda *args: made)
        assert counts.main(["amc23"]) == (told != "as published")
        assert told in capsys.readouterr().out

    def test_unknown_set(self, counts, capsys):
        assert counts.main(["aime"]) == 2 and "set='aime' is not known" in capsys.readouterr().err
