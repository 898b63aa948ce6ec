"""Whatever lies in a run's folder is read: a whole run, one under way, a dead one with checkpoints only."""

import json

import pandas
import pytest
from report_runs import checkpoints, rows, run_folder

from trl_amft.reporting.run_folder import NoRunError, read_run


class TestLog:
    def test_of_the_train_command(self, tmp_path):
        run = read_run(run_folder(tmp_path / "a"))
        assert (run.name, run.source, run.max_steps, run.last_step, run.finished) == ("a", "log.jsonl", 40, 40, True)
        assert [row["step"] for row in run.log] == sorted(row["step"] for row in rows())
        assert run.versions == "trl_amft 0.1.0, trl 1.16.0" and run.recipe["mu_init"] == 0.5
        assert run.warmup_steps == 10 and run.last("reward") == 0.4

    def test_a_line_that_a_kill_cut_is_left_out(self, tmp_path):
        run = read_run(run_folder(tmp_path, steps=20))
        assert run.last_step == 20 and not run.finished

    def test_of_a_dead_run_with_checkpoints_only(self, tmp_path):
        run = read_run(checkpoints(tmp_path, 5, 30, 20))
        assert (run.source, run.last_step, run.max_steps) == ("checkpoint-30/trainer_state.json", 30, 40)
        assert run.recipe == {} and run.warmup_steps == 10, "as long as mu stays 1"

    @pytest.mark.parametrize("content", ["[]", "3", '{"log_history": {}}', '{"log_history": [1, {"step": "a"}]}'])
    def test_files_that_hold_something_else(self, tmp_path, content):
        folder = checkpoints(tmp_path, 20)
        (folder / "checkpoint-30").mkdir()
        (folder / "checkpoint-30" / "trainer_state.json").write_text(content)
        (folder / "log_history.json").write_text(content)
        (folder / "samples.jsonl").write_text('{"step": "a"}\n')
        (folder / "resolved_recipe.yaml").write_text("sft_warmup_steps:\n")
        run = read_run(folder)
        assert run.last_step == 20 and run.samples == [] and run.warmup_steps == 0

    def test_a_checkpoint_that_cannot_be_read_is_passed_over(self, tmp_path):
        folder = checkpoints(tmp_path, 20, 30)
        (folder / "checkpoint-30" / "trainer_state.json").write_text("{")
        assert read_run(folder).last_step == 20

    def test_a_checkpoint_without_a_number_is_passed_over(self, tmp_path):
        folder = checkpoints(tmp_path, 20)
        (folder / "checkpoint-best").mkdir()
        assert read_run(folder).last_step == 20

    def test_of_one_checkpoint(self, tmp_path):
        run = read_run(checkpoints(tmp_path, 20) / "checkpoint-20")
        assert run.source == "trainer_state.json" and run.last_step == 20

    def test_of_a_finished_run_without_its_log_file(self, tmp_path):
        (tmp_path / "log_history.json").write_text(json.dumps(rows()))
        run = read_run(tmp_path)
        assert run.source == "log_history.json" and run.last_step == 40 and run.max_steps is None

    def test_run_that_died_before_its_first_log(self, tmp_path):
        (tmp_path / "log.jsonl").write_text('{"max_steps": 40}\n')
        with pytest.raises(NoRunError, match="holds no log"):
            read_run(tmp_path)

    def test_no_folder(self, tmp_path):
        with pytest.raises(NoRunError, match="run='.*nothing' is not a folder; give the output_dir"):
            read_run(tmp_path / "nothing")

    def test_held_out_points(self, tmp_path):
        run = read_run(run_folder(tmp_path))
        assert [point[:2] for point in run.held_out] == [(0, 0.0), (10, 0.1)]
        assert run.held_out[1][2] == 0.02 and run.held_out[0][2] != run.held_out[0][2], "no error is NaN"

    def test_setting_is_of_the_recipe_or_the_default(self, tmp_path):
        run = read_run(run_folder(tmp_path))
        assert run.setting("mu_entropy_lr") == 0.1 and run.setting("mu_max") == 0.95


class TestSamples:
    def test_recorded_ones(self, tmp_path):
        assert [row["step"] for row in read_run(run_folder(tmp_path)).samples] == [20, 40]

    def test_tables_of_trl(self, tmp_path):
        folder = checkpoints(tmp_path, 20)
        (folder / "completions").mkdir()
        table = {"step": [20], "prompt": ["p"], "completion": ["c"], "right": [0.5], "advantage": [0.1], "note": ["x"]}
        pandas.DataFrame(table).to_parquet(folder / "completions" / "completions_00020.parquet")
        (folder / "completions" / "completions_00025.parquet").write_bytes(b"PAR1 half")
        (sample,) = read_run(folder).samples
        assert sample["completion"] == "c" and sample["rewards"] == {"right": 0.5}
