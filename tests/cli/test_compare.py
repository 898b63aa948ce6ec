"""Studies: what they run, and that nothing runs twice."""

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from study_files import CORE, ROOT, STUDIES, TINY, write

from processes import gone
from trl_amft import __version__
from trl_amft.cli import compare, train
from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.study import command_line, read_study
from trl_amft.cli.study_worker import OUTPUT_FILE
from trl_amft.compat import as_mapping
from trl_amft.mixing import MIXING_POLICIES
from trl_amft.reporting.study_results import read_results
from trl_amft.tasks import load_task


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


class TestFile:
    def test_grid(self, tmp_path):
        study = read_study(write(tmp_path))
        assert [run.name for run in study.runs] == [
            f"{cell}/lr0.001/seed{seed}"
            for seed in (0, 1)
            for cell in ("right/sft_then_rl", "right/grpo", "wrong/grpo")
        ]
        last = study.runs[-1]
        expected = {"task_kwargs": {"demonstration_quality": 0.0}, "learning_rate": 1e-3, "seed": 1}
        assert last.settings == {**expected, "mu_init": 0, "sft_warmup_steps": 0}
        # Its warm-up is another one.
        assert last.start is None and last.warm_up_steps == 0

    def test_whatever_changes_a_run_makes_it_another_one(self, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        scored = {"right": {"also_scored_by": {"x": "module:reward"}}, "wrong": {}}

        def first(text="max_steps: 8", **changes):
            recipe.write_text(text)
            return read_study(write(tmp_path, recipe=str(recipe), **changes)).runs[0]

        runs = [first(), first(settings={"max_steps": 9}), first("max_steps: 10"), first(conditions=scored)]
        assert len({run.name for run in runs}) == 1 and len({run.digest for run in runs}) == 4
        # Comments change nothing, nor does the folder, nor which of the two files names a field.
        same = first("# Steps.\nmax_steps: 8\noutput_dir: x"), first("{}", settings={"max_steps": 8})
        assert {run.digest for run in same} == {runs[0].digest}

    def test_only_what_begins_alike_shares_a_warm_up(self, tmp_path):
        """The policy that makes it may have fields of its own."""
        policies = {
            "sft_then_rl": {"mixing_policy": "sft_then_rl", "demonstration_min_reward": 1.0},
            "fixed": {"mixing_policy": "fixed", "mu_init": 0.5},
            "filtered": {"mixing_policy": "fixed", "mu_init": 0.5, "demonstration_min_reward": 1.0},
        }
        grid = [{"policies": "all", "conditions": ["right"]}]
        study = read_study(write(tmp_path, policies=policies, grid=grid, seeds=[0]))
        starts = {run.policy: run.start for run in study.runs}
        assert starts == {"sft_then_rl": None, "fixed": None, "filtered": "right/sft_then_rl/lr0.001/seed0"}

    def test_core_has_every_policy_and_runs_only_what_exists(self):
        study = read_study(CORE)
        used = {run.settings["mixing_policy"] for run in study.runs}
        assert used == set(MIXING_POLICIES) - {"replay"}
        assert len(study.runs) == 15 * 6 * 3 + 3 * 3 + 2 * 3 + 9 * 3 * 3 + 7 * 3 + 4 * 3 + 2 * 3 + 7 * 2 * 3 + 4 * 3
        assert len({run.name for run in study.runs}) == len(study.runs)
        own = {run.policy for run in study.runs if run.start is None}
        assert own == {"sft_then_rl", "grpo", "filter_sft_then_rl", "amft_good_only", "amft_no_warm_up"}

    @pytest.mark.parametrize(
        ("condition", "kept"), [("a_q1", 1.0), ("b_q1", 1.0), ("b_q.5", 1.0), ("b_q0", 1.0), ("a_q0", 0.0)]
    )
    def test_core_leaves_out_what_would_be_another_row(self, condition, kept):
        """A filter that drops nothing is the plain pipeline; prompts and reward are all that GRPO sees."""
        settings = {run.condition: run.settings["task_kwargs"] for run in read_study(CORE).runs}
        task, right = (load_task("countdown", **settings[name]) for name in (condition, f"{condition[0]}_q1"))
        columns = task.train_dataset.to_dict()
        (reward,) = task.reward_funcs
        scores = reward(completions=columns["demonstration"], **columns)
        assert set(scores) == {kept}
        assert task.train_dataset["prompt"] == right.train_dataset["prompt"]
        assert [reward.__name__] == [other.__name__ for other in right.reward_funcs]

    @pytest.mark.parametrize("path", [path for path in STUDIES if path.stem != "tiny"], ids=lambda path: path.stem)
    def test_what_the_projects_own_studies_run_are_recipes(self, path, tmp_path):
        study = read_study(path)
        assert f"# Budget: {len(study.runs)} runs" in path.read_text()
        for run in {run.policy: run for run in study.runs}.values():
            recipe = parse_recipe(command_line(run, study.recipe, tmp_path, None))
            assert recipe.training.mixing_policy == run.settings["mixing_policy"]
        load_task(recipe.run.task, **as_mapping(recipe.run.task_kwargs))

    def test_fields_reach_the_training_command(self, tmp_path):
        run = read_study(write(tmp_path)).runs[-1]
        arguments = command_line(run, "r.yaml", Path("out"), Path("out/checkpoint-2"))
        assert arguments[:4] == ["--recipe", "r.yaml", "--task_kwargs", '{"demonstration_quality": 0.0}']
        assert arguments[-4:] == ["--output_dir", "out", "--resume_from_checkpoint", "out/checkpoint-2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny study, run once, all at a time."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert compare.main(["--study", TINY, "--output", str(folder), "--jobs", "3"]) == 0
    return folder


class TestRun:
    def test_every_run_is_a_line(self, finished):
        rows = {row["policy"]: row for row in read_results(finished / "runs.jsonl")}
        assert sorted(rows) == ["amft_sources", "filter", "fixed_.5", "gate", "sft_then_rl"]
        assert all(row["versions"]["trl_amft"] == __version__ for row in rows.values())
        assert rows["filter"]["status"] == "refused" and "none is usable" in rows["filter"]["reason"]
        fixed = rows["fixed_.5"]
        assert fixed["rollouts"] == 3 * 16 and [step for step, _ in fixed["accuracy_curve"]] == [2, 4, 5]
        assert fixed["mu_curve"] == [[1, 1.0], [2, 1.0], [3, 0.5], [4, 0.5], [5, 0.5]]
        assert fixed["source_curves"] == {}
        sources = rows["amft_sources"]
        assert sources["source_curves"] == {"correct": sources["mu_curve"][2:]} and len(sources["mu_curve"]) == 5
        assert set(fixed["scores"]) == {"last value"} and fixed["cpu_seconds"] > 0.0
        assert not list((finished / "runs" / fixed["name"]).glob("*.safetensors"))
        # The time of the warm-up that was shared counts.
        assert fixed["seconds"] > fixed["marks"][1][2] == rows["sft_then_rl"]["marks"][1][2] > 0.0

    def test_nothing_runs_twice(self, finished, capsys):
        before = (finished / "runs.jsonl").read_text()
        assert compare.main(["--study", TINY, "--output", str(finished)]) == 0
        assert "5 runs, 0 missing, 1 refused; run those again with --retry_refused" in capsys.readouterr().out
        assert (finished / "runs.jsonl").read_text() == before
        # What the machine lacked when it was refused may be there now.
        assert compare.main(["--study", TINY, "--output", str(finished), "--retry_refused", "--list"]) == 0
        assert capsys.readouterr().out.splitlines() == ["tiny: 5 runs, 1 missing", "wrong/filter/lr0.002/seed0"]

    def test_a_shared_warm_up_is_that_of_a_run_of_its_own(self, finished, tmp_path):
        study = read_study(TINY)
        run = next(run for run in study.runs if run.policy == "fixed_.5")
        assert run.start == "right/sft_then_rl/lr0.002/seed0"
        assert train.main(command_line(run, study.recipe, tmp_path, None)) == 0
        keys = ("step", "loss", "grad_norm", "reward", "eval_reward")
        folders = (tmp_path, finished / "runs" / run.name)
        logs = [json.loads((folder / "log_history.json").read_text()) for folder in folders]
        alone, shared = ([{key: row[key] for key in keys if key in row} for row in log] for log in logs)
        assert alone == shared

    def test_a_lost_warm_up_is_made_once_more_by_the_run_that_others_start_from(self, finished, tmp_path):
        settings = ["--study", TINY, "--output", str(tmp_path), "--jobs", "2"]
        assert compare.main([*settings, "--only", "right/fixed_.5/"]) == 0
        assert compare.main([*settings, "--only", "right/gate/"]) == 0
        again, before = (
            {row["policy"]: row for row in read_results(folder / "runs.jsonl")} for folder in (tmp_path, finished)
        )
        assert sorted(again) == ["fixed_.5", "gate"]
        for policy, row in again.items():
            for key in ("accuracy", "accuracy_curve", "mu_curve", "after_warm_up"):
                assert row[key] == before[policy][key]
        # No run has made one of its own.
        start = tmp_path / "runs" / "right" / "sft_then_rl" / "lr0.002" / "seed0"
        assert list(tmp_path.rglob("checkpoint-2")) == [start / "checkpoint-2"]

    def test_a_warm_up_by_other_settings_is_made_again(self, tmp_path):
        study = read_study(TINY)
        runner = compare.StudyRunner(study, tmp_path, tmp_path / "runs.jsonl")
        start, other = study.runs[0], next(run for run in study.runs if run.start is not None)
        folder = runner.folder(start.name)
        (folder / "checkpoint-2").mkdir(parents=True)
        for digest, following in ((None, start), ("another", start), (start.digest, other)):
            if digest is not None:
                (folder / compare.DIGEST_FILE).write_text(digest)
            assert runner._next([other], {}) is following

    def test_without_the_warm_up_nothing_starts_from_it(self, tmp_path, capsys, monkeypatch):
        study = read_study(TINY)
        runner = compare.StudyRunner(study, tmp_path, tmp_path / "runs.jsonl")
        started = []

        def fail(run, worker):
            started.append(run.policy)
            process = multiprocessing.get_context("fork").Process(target=sys.exit, args=(1,))
            process.start()
            return process

        monkeypatch.setattr(runner, "_start", fail)
        assert runner.run([run for run in study.runs if run.start is not None], 2) == 1
        assert started == ["sft_then_rl"] and "sft_then_rl/lr0.002/seed0: failed" in capsys.readouterr().out

    def test_report(self, finished, capsys):
        assert compare.main(["--study", TINY, "--output", str(finished), "--report"]) == 0
        page = (finished / "report.md").read_text()
        assert "4 of 5 runs" in page
        assert "`oracle` is the best in hindsight of sft_then_rl, fixed_.5 (right: " in page
        assert "## Final held-out accuracy by the reward `last value`" in page
        assert "* filter, wrong, seeds 0: demonstrations: none is usable" in page
        for name in ("accuracy", "rollouts", "seconds", "weights", "sources"):
            assert f"({name}.png)" in page and (finished / f"{name}.png").read_bytes()[:4] == b"\x89PNG"

    def test_a_run_ends_with_a_killed_study(self, tmp_path):
        # Its runs take minutes.
        path = write(tmp_path)
        study = subprocess.Popen([sys.executable, "scripts/compare.py", "--study", path, "--output", tmp_path])
        try:
            end = time.monotonic() + 300
            while not list(tmp_path.rglob(OUTPUT_FILE)):
                assert time.monotonic() < end
                time.sleep(0.1)
            children = [child.pid for child in psutil.Process(study.pid).children(recursive=True)]
        finally:
            study.kill()
            study.wait()
        assert gone(children, 60)
        assert len(children) >= 3 and not (tmp_path / "runs.jsonl").exists()

    def test_missing_runs_can_be_named_and_limited(self, tmp_path, capsys):
        settings = ["--study", TINY, "--output", str(tmp_path), "--only", "right/"]
        assert compare.main([*settings, "--list"]) == 0
        assert capsys.readouterr().out.splitlines()[-4:] == [
            f"right/{name}/lr0.002/seed0" for name in ("sft_then_rl", "fixed_.5", "gate", "amft_sources")
        ]
        assert compare.main([*settings, "--minutes", "0"]) == 0
        assert not (tmp_path / "runs.jsonl").exists()

    def test_a_failed_run_is_not_in_the_results(self, tmp_path, capsys):
        study = read_study(TINY)
        runner = compare.StudyRunner(study, tmp_path, tmp_path / "runs.jsonl")
        runner._finish(study.runs[0], 1, 3.0)
        # A run that was stopped by a signal ends well, but is not finished.
        runner._finish(study.runs[0], 0, 3.0)
        folder = runner.folder(study.runs[0].name)
        folder.mkdir(parents=True)
        (folder / compare.SCORES_FILE).write_text('{"scores": {}}')
        runner._finish(study.runs[0], 0, 3.0)
        assert not (tmp_path / "runs.jsonl").exists() and runner.run([], 1) == 1
        assert capsys.readouterr().out.count("failed with exit code") == 3

    @pytest.mark.parametrize("row", [{"status": "refused", "reason": "r"}, {"digest": "of other settings"}])
    def test_no_report_without_a_finished_run(self, tmp_path, row, capsys):
        run = read_study(TINY).runs[0]
        row = {"name": run.name, "digest": run.digest, "status": "finished", **row}
        (tmp_path / "runs.jsonl").write_text(json.dumps(row))
        with pytest.raises(SystemExit):
            compare.main(["--study", TINY, "--output", str(tmp_path), "--report"])
        error = capsys.readouterr().err
        assert "holds no finished run of this study; run it first" in error and error.count("\n") == 1
