"""What is shown of a run that is under way, and what is written down of it."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

import toy
from trl_amft import AMFTTrainer
from trl_amft.reporting.pace import Pace
from trl_amft.reporting.panels import TIME_PARTS
from trl_amft.reporting.progress import ProgressDisplay
from trl_amft.reporting.run_folder import read_run
from trl_amft.reporting.watch import watch


STEPS, WARMUP = 6, 2


class TestPace:
    def test_time_that_is_left(self):
        pace = Pace(max_steps=100, warmup_steps=10, rollouts=8)
        assert pace.eta(0) == "?"
        pace.add(1, "warm-up", 1.0)
        assert pace.eta(1) == "> 0:00:09", "what a mixed step takes is not known yet"
        pace.add(11, "mixing", 60.0)
        assert pace.eta(11) == "1:29:00" and pace.eta(8) == "1:30:02" and pace.eta(100) == "0:00:00"

    def test_speed_since_the_log_before(self):
        pace = Pace(max_steps=9, warmup_steps=1, rollouts=8, tokens=1000)
        pace.add(1, "warm-up", 1.0)
        pace.add(2, "mixing", 3.0)
        logs = {"num_tokens": 1200.0, "demonstrations/tokens": 50.0}
        assert pace.speed(logs) == {"rollouts": 2.0, "tokens": (200 + 2 * 50) / 4}
        assert pace.speed(logs) == {}, "no step since then"
        pace.add(3, "imitating", 2.0)
        assert pace.speed({"demonstrations/tokens": 50.0}) == {"tokens": 25.0}


def trainer(folder, **settings):
    model, tokenizer = toy.model()
    settings = {"max_steps": STEPS, "sft_warmup_steps": WARMUP, "meta_window": 1, "disable_tqdm": False} | settings
    return AMFTTrainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=toy.config(folder, **settings),
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set(),
    )


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run that was watched without a terminal, with its output."""
    folder = tmp_path_factory.mktemp("watched")
    run = trainer(folder, save_strategy="steps", save_steps=4)
    watch(run, "# trl 1.16\nmax_steps: 6\n")
    (display,) = (callback for callback in run.callback_handler.callbacks if isinstance(callback, ProgressDisplay))
    display._console = Console(file=io.StringIO(), width=200)
    run.train()
    return run, display._console.file.getvalue().splitlines(), Path(folder)


class TestPlainLines:
    def test_one_line_per_log(self, watched):
        _, lines, _ = watched
        assert [line.split(" | ")[0] for line in lines] == [
            f"step {step}/{STEPS} {'warm-up' if step <= WARMUP else 'mixing'}" for step in range(1, STEPS + 1)
        ]

    def test_what_it_shows(self, watched):
        _, lines, _ = watched
        shown = [re.match(r"[A-Za-z_ -]+", part).group().strip() for part in lines[-1].split(" | ")[1:]]
        expected = ["reward", "mu", "entropy", "rl_loss", "sft_loss", "rollouts", "tokens", "ETA"]
        assert shown == expected
        assert "rollouts" not in lines[0] and "mu 1.000" in lines[0]

    def test_it_takes_the_place_of_the_bar(self, watched):
        run, _, _ = watched
        kinds = {type(callback) for callback in run.callback_handler.callbacks}
        assert not kinds & {PrinterCallback, ProgressCallback}


class TestTerminal:
    def console(self):
        return Console(file=io.StringIO(), force_terminal=True, width=100)

    def test_bar_and_table(self, tmp_path):
        class LogsAfterwards(TrainerCallback):
            def on_train_end(self, args, state, control, **kwargs):
                run.log({"held_out/accuracy": 0.5})

        run = trainer(tmp_path, max_steps=3)
        display = ProgressDisplay(run, self.console())
        run.add_callback(display)
        run.add_callback(LogsAfterwards())
        run.train()
        shown = display._console.file.getvalue()
        assert "step 3 of 3" in shown and "ETA" in shown and "mixing" in shown and "reward" in shown
        assert shown.rstrip().endswith("\x1b[?25h") and display._live is None, "the cursor is back"

    def test_a_run_that_fails_gives_the_cursor_back(self, tmp_path):
        class Fails(TrainerCallback):
            def on_step_end(self, *args, **kwargs):
                raise RuntimeError("stop")

        run = trainer(tmp_path, max_steps=3)
        display = ProgressDisplay(run, self.console())
        run.add_callback(display)
        run.add_callback(Fails())
        with pytest.raises(RuntimeError, match="stop"):
            run.train()
        display._stop()  # As at the end of the process.
        assert display._console.file.getvalue().rstrip().endswith("\x1b[?25h")

    def test_other_processes_show_nothing(self, tmp_path):
        run = trainer(tmp_path)
        display = ProgressDisplay(run, self.console())
        run.state.max_steps, run.state.is_world_process_zero = STEPS, False
        display.on_train_begin(run.args, run.state, None)
        display.on_step_begin(run.args, run.state, None)
        display.on_step_end(run.args, run.state, None)
        display.on_log(run.args, run.state, None, {"reward": 1.0, "learning_rate": 0.1})
        display.on_train_end(run.args, run.state, None)
        assert display._console.file.getvalue() == ""


class TestRecord:
    def test_every_log_is_in_the_folder(self, watched):
        run, _, folder = watched
        recorded = read_run(folder)
        assert recorded.source == "log.jsonl" and recorded.finished and recorded.recipe == {"max_steps": 6}
        assert [row["step"] for row in recorded.log] == [row["step"] for row in run.state.log_history]
        for row, kept in zip(recorded.log, run.state.log_history, strict=True):
            assert {key: row[key] for key in kept if kept[key] == kept[key]} == {
                key: value for key, value in kept.items() if value == value
            }

    def test_samples_are_whole_groups_with_their_rewards(self, watched):
        samples = read_run(watched[2]).samples
        last = [row for row in samples if row["step"] == STEPS]
        assert len(last) == 8 and len({row["prompt"] for row in last}) == 2
        for row in last:
            assert (
                row["rewards"]["dense_reward"]
                == pytest.approx(toy.dense_reward(None, [row["completion"]])[0], abs=1e-6)
                or "\ufffd" in row["completion"]
            )

    def test_a_resumed_run_goes_on_where_its_checkpoint_is(self, watched, tmp_path):
        _, _, folder = watched
        run = trainer(tmp_path)
        watch(run)
        (tmp_path / "log.jsonl").write_text('{"step": 99}\n')
        # Separators that Python takes for ends of lines, and JSON does not; the end of a line that was cut off.
        strange = json.dumps({"step": 2, "completion": "a\u2028b\x85c"}, ensure_ascii=False) + "\n"
        (tmp_path / "samples.jsonl").write_text(
            strange + (folder / "samples.jsonl").read_text() + '{"step": 3, "rewards": {"a": 1}'
        )
        run.train(resume_from_checkpoint=str(folder / "checkpoint-4"))
        lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert lines[0]["max_steps"] == STEPS
        assert [row["step"] for row in lines[1:] if "learning_rate" in row] == [1, 2, 3, 4, 5, 6]
        samples = (tmp_path / "samples.jsonl").read_text().split("\n")[:-1]
        steps = [json.loads(line)["step"] for line in samples]
        assert steps[0] == 2 and steps[1:] == sorted(steps[1:]) and steps.count(6) == 8, (
            "those of the first run after step 4 are gone"
        )


class TestTimes:
    def test_parts_sum_up_to_the_step(self, watched):
        log = [row for row in watched[0].state.log_history if "time/step" in row]
        assert len(log) == STEPS
        for row in log:
            parts = [value for key, value in row.items() if key.startswith("time/") and key != "time/step"]
            assert sum(parts) == pytest.approx(row["time/step"], rel=1e-6) and min(parts) >= -1e-6

    def test_each_part_is_counted_where_it_is(self, watched):
        log = [row for row in watched[0].state.log_history if "time/step" in row]
        assert "time/rollouts" not in log[0] and log[0]["time/sft"] > 0.0
        mixed = {"time/rollouts", "time/rewards", "time/rl", "time/sft", "time/controller", "time/optimizer"}
        assert {key for key in log[-1] if key.startswith("time/")} == mixed | {"time/step"}
        assert mixed | {"time/sync"} == set(TIME_PARTS)
        assert log[-1]["time/rollouts"] > log[-1]["time/rewards"] > 0.0
