"""What a study, or the command that runs it, cannot use is said in one line before anything runs."""

import json

import pytest
from study_files import ROOT, TINY, write

from trl_amft.cli import compare
from trl_amft.cli.study import read_study
from trl_amft.cli.study_worker import OUTPUT_FILE
from trl_amft.cli.usage import UsageError


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def refusal(tmp_path, capsys):
    """The one line with which the command ends."""

    def run(*arguments, study=TINY):
        with pytest.raises(SystemExit) as leaving:
            compare.main(["--study", str(study), "--output", str(tmp_path / "out"), *arguments])
        error = capsys.readouterr().err
        assert leaving.value.code == 2 and error.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return error

    return run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": [1]}, "seed in study .* is not a known field; did you mean 'seeds'"),
        ({"seeds": None}, "lacks seeds"),
        ({"recipe": "recipes/quikstart.yaml"}, "did you mean 'recipes/quickstart.yaml'"),
        ({"start": "amft"}, "policy 'amft' .* is not among its policies; choose from: grpo, sft_then_rl"),
        ({"start": ["amft"]}, r"policy \['amft'\] .* is not among its policies"),
        ({"recipe": 3}, "recipe=3 in study .* must be the path of a recipe"),
        ({"settings": {"eval_stepss": 1}}, "eval_stepss=1 in study .* is no field .*; did you mean 'eval_steps'"),
        ({"policies": {"sft_then_rl": {"mu_iinit": 1}}}, "mu_iinit=1 in study .*; did you mean 'mu_init'"),
        ({"conditions": {"right": {"taks": "maths"}}}, "taks='maths' in study .*; did you mean 'task'"),
        ({"settings": {"also_scored_by": {}}}, "also_scored_by={} in study .* is no field of a recipe"),
        ({"conditions": {"right": {"also_scored_by": "a:b"}}}, "also_scored_by='a:b' in study .* must be names"),
        ({"settings": {"sft_warmup_steps": "many"}}, "sft_warmup_steps='many' in study .* a whole number"),
        ({"baselines": ["gate"]}, "policy 'gate' .* is not among its policies"),
        ({"apart": ["filter"]}, "policy 'filter' .* is not among its policies"),
        ({"grid": [{"policies": ["gate"], "conditions": "all"}]}, "'gate' is not among policies"),
        ({"grid": [{"policies": [["gate"]], "conditions": "all"}]}, r"\['gate'\] is not among policies"),
        ({"grid": [{"policies": "all"}]}, "conditions=None must be a list of names, or all"),
        ({"seeds": 3}, r"seeds=3 in study .* must be a list; write \[3\]"),
        ({"settings": {"seed": 3}}, "seed=3 in study .* is set by the study itself; use seeds"),
        ({"settings": {"held_out_samples": 0}}, "held_out_samples=0 in study .* leaves nothing to compare"),
        (
            {"conditions": {"right": {"learning_rate": 1.0}, "wrong": {}}},
            "learning_rate=1.0 .* use learning_rates",
        ),
        ({"seeds": [2, 2]}, r"seeds=\[2, 2\] in study .* has one of them twice"),
        ({"learning_rates": ["fast"]}, r"learning_rates=\['fast'\] in study .* must be numbers"),
        ({"policies": ["sft_then_rl"]}, "policies in study .* must be names, each with fields"),
        ({"conditions": {"right": 1}}, "conditions in study .* must be names, each with fields"),
        ({"settings": [1]}, r"settings=\[1\] in study .* must be fields of the recipe"),
    ],
)
def test_mistakes_are_one_line(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message) as error:
        read_study(write(tmp_path, **changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--jobs", "0"], "jobs=0 must be at least 1"),
        (["--limit", "x"], "argument --limit: invalid int value: 'x'"),
        (["--minutes", "-1"], "minutes=-1.0 must be at least 0"),
        (["--minutes", "nan"], "minutes=nan must be at least 0"),
        (["--only", "zzz"], "only='zzz' is in the name of no run"),
        (["--report"], "holds no finished run of this study; run it first"),
        (["--report", "--results", "docs"], "results='docs' is a folder; give the name of a file"),
        (["--results", "docs"], "results='docs' is a folder; give the name of a file"),
        (["--results", "README.md/runs.jsonl"], "results='README.md/runs.jsonl' lies below 'README.md'"),
        (["--output", "README.md"], "output='README.md' is a file, or lies below one; give a folder"),
        (["--output", "/proc/study", "--report"], "output='/proc/study' cannot be written"),
        (["--study", "nope.yaml"], "study='nope.yaml' is not a file"),
        (["--study", "tiny.yaml"], "did you mean 'recipes/studies/tiny.yaml'?"),
    ],
)
def test_arguments(refusal, arguments, line):
    assert line in refusal(*arguments)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"command": "python", "seed": 1}', "line 1 has no 'name'"),
        ('{"name": "a", "digest": "b", "status": "finished"}\n{"name": "a"}', "line 2 has no 'digest'"),
        ('{"name": "a", "digest": "b"}', "line 1 has no 'status'"),
        ("\n[1]", "line 2 is no result of a run"),
        ("# Notes", "line 1 is no result of a run"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--list",), ("--report",)])
def test_a_file_of_something_else(tmp_path, refusal, text, line, more):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    assert f"is no file of a study ({line}); give another one" in refusal("--results", str(path), *more)
    assert path.read_text() == text


def test_a_report_needs_no_place_beside_its_results(tmp_path, refusal, monkeypatch):
    def never(path, field):
        raise UsageError("asked")

    path = tmp_path / "runs.jsonl"
    path.write_text("")
    monkeypatch.setattr(compare, "check_output", never)
    assert "holds no finished run" in refusal("--results", str(path), "--report")
    assert "asked" in refusal("--results", str(path))


@pytest.mark.parametrize(
    ("reward", "line"),
    [
        ("nomodule:foo", "also_scored_by has 'nomodule:foo', but 'nomodule' cannot be imported"),
        (3, "also_scored_by has 3, which is no text"),
    ],
)
def test_further_rewards_are_loaded_before_anything_runs(tmp_path, refusal, capsys, reward, line):
    conditions = {"right": {}, "wrong": {"also_scored_by": {"x": reward}}}
    path = write(tmp_path, conditions=conditions)
    assert line in refusal(study=path)
    # Neither runs without it nor a list of names ask for it.
    for more in (["--only", "right/", "--minutes", "0"], ["--list"]):
        assert compare.main(["--study", str(path), "--output", str(tmp_path / "out"), *more]) == 0


def test_a_call_whose_runs_were_all_refused_ends_with_1(tmp_path):
    study = read_study(TINY)
    runner = compare.StudyRunner(study, tmp_path, tmp_path / "runs.jsonl")
    assert runner.run([], 1) == 0
    for run in study.runs[:2]:
        runner.folder(run.name).mkdir(parents=True)
        (runner.folder(run.name) / OUTPUT_FILE).write_text("error: bf16=True\n")
        runner._finish(run, 2, 1.0)
    rows = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in rows] == ["bf16=True"] * 2 and runner.run([], 1) == 1
    runner._finished = 1
    assert runner.run([], 1) == 0
