"""Imagined conversations through a real endpoint on this machine: same bytes, nothing lost, one line per mistake."""

import importlib.util
import json
import resource
import threading
from pathlib import Path

import pytest

from trl_amft.cli.imagine import main, read_scenario
from trl_amft.cli.kept_steps import KeptSteps
from trl_amft.data.imagination import demonstration_rows
from trl_amft.tasks import load_task
from trl_amft.tasks.twenty_questions import ORDERS, THINGS, name_reward, play, script


ROOT = Path(__file__).parents[2]
SCENARIO = ROOT / "examples" / "imagined" / "twenty_questions.yaml"


@pytest.fixture
def endpoint():
    """The endpoint of the example; `broken` and `changed` are told the number of the request and give what it says."""
    path = ROOT / "examples" / "imagined" / "scripted_endpoint.py"
    spec = importlib.util.spec_from_file_location("scripted_endpoint", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    calls = []

    class Endpoint(module.Endpoint):
        broken = changed = None

        def answer(self, request):
            calls.append(request)
            status, whole = super().answer(request)
            content = Endpoint.broken(len(calls)) if Endpoint.broken is not None else None
            if content is not None:
                status, whole["choices"][0]["message"]["content"] = (200 if content else 500), content
            if Endpoint.changed is not None:
                whole = Endpoint.changed(len(calls), whole)
            return status, whole

    server = module.Server(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Endpoint.url, Endpoint.calls = f"http://127.0.0.1:{server.server_port}/v1", calls
    yield Endpoint
    server.shutdown()
    server.server_close()


def imagine(endpoint, output, *more):
    url = endpoint.url if endpoint else "http://127.0.0.1:1/v1"
    argv = ["--scenario", str(SCENARIO), "--output", str(output), "--base_url", url, "--model", "scripted"]
    return main([*argv, "--dialogues", "25", "--retries", "0", *more])


class TestCommand:
    def test_same_bytes_whatever_the_order(self, endpoint, tmp_path, capsys):
        assert imagine(endpoint, tmp_path / "one.jsonl", "--concurrency", "1", "--price_out", "2000000") == 0
        printed = capsys.readouterr().out
        assert imagine(endpoint, tmp_path / "many.jsonl", "--concurrency", "12") == 0
        assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "many.jsonl").read_bytes()
        rows = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
        assert len(rows) == 25 * 4 and {row["reward"] for row in rows} == {0.0, 1.0}
        for row in rows:
            right = row["reward"] == 1.0
            assert (row["demonstration_weight"] > 1.0) == right
            assert len(row["prompt"]) == 2 * row["turn"] + 1 and row["completion"][0]["role"] == "assistant"
        # Three requests for ten people each, a dialogue and a judgement for each of 25, twice.
        assert len(endpoint.calls) == 2 * (3 + 2 * 25)
        kept = [json.loads(line) for line in (tmp_path / "one.jsonl.steps.jsonl").read_text().splitlines()[1:]]
        sent, received = (sum(line["tokens"][way] for line in kept) for way in (0, 1))
        assert received > 500 and f"{sent:,}" in printed and f"{received:,}" in printed
        assert f"{2 * received:.4f}" in printed

    def test_a_failing_endpoint_loses_nothing(self, endpoint, tmp_path, capsys):
        assert imagine(endpoint, tmp_path / "whole.jsonl") == 0
        calls = len(endpoint.calls)
        # An error for every third request; an answer that cannot be read for every seventh.
        endpoint.broken = lambda count: "" if count % 3 == 0 else "?" if count % 7 == 0 else None
        assert imagine(endpoint, tmp_path / "parts.jsonl") == 1
        assert "dialogues are missing" in capsys.readouterr().err
        steps = tmp_path / "parts.jsonl.steps.jsonl"
        kept = [json.loads(line) for line in steps.read_text().splitlines()[1:]]
        assert sum(line["value"] is not None for line in kept) > 10
        # A line that a dying process left.
        with steps.open("a") as file:
            file.write('{"kind": "dialogue", "number"')
        endpoint.broken = None
        asked = len(endpoint.calls)
        assert imagine(endpoint, tmp_path / "parts.jsonl") == 0
        assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
        answered = sum(line["value"] is not None and line["kind"] != "person" for line in kept)
        assert len(endpoint.calls) - asked == calls - answered
        # Finished: nobody is asked again.
        assert imagine(endpoint, tmp_path / "parts.jsonl") == 0 and len(endpoint.calls) - asked == calls - answered

    def test_what_cannot_be_read_is_asked_again_and_paid_for(self, endpoint, tmp_path):
        endpoint.broken = lambda count: "no list" if count == 1 else None
        assert imagine(endpoint, tmp_path / "some.jsonl", "--retries", "1", "--concurrency", "1") == 0
        steps = (tmp_path / "some.jsonl.steps.jsonl").read_text().splitlines()
        assert json.loads(steps[1])["value"] is None and json.loads(steps[2])["kind"] == "people"

    @pytest.mark.parametrize(
        "change",
        [
            {"choices": []},
            {"choices": None},
            {"choices": [{}]},
            {"choices": [{"finish_reason": "stop", "message": {"content": ["a"]}}]},
            {"usage": {"prompt_tokens": None, "completion_tokens": "3"}, "choices": []},
            None,
        ],
    )
    def test_malformed_answers_are_asked_again(self, endpoint, tmp_path, change):
        endpoint.changed = lambda count, whole: whole if count > 1 else change and whole | change
        assert imagine(endpoint, tmp_path / "some.jsonl", "--retries", "1", "--concurrency", "1") == 0
        first, second = (tmp_path / "some.jsonl.steps.jsonl").read_text().splitlines()[1:3]
        assert json.loads(first)["value"] is None and json.loads(second)["value"] is not None
        if change is None or "usage" in change:
            assert json.loads(first)["tokens"] == [0, 0]

    def test_no_counts_of_tokens(self, endpoint, tmp_path, capsys):
        unknown = {"usage": {"prompt_tokens": None, "completion_tokens": 1, "total_tokens": None}}
        endpoint.changed = lambda count, whole: whole | unknown
        assert imagine(endpoint, tmp_path / "some.jsonl", "--dialogues", "2") == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "tokens received" in line]
        assert line.strip("│ ").endswith(" 5")

    def test_what_was_cut_is_asked_again(self, endpoint, tmp_path, capsys):
        def cut(count, whole):
            whole["choices"][0]["finish_reason"] = "length"
            return whole

        endpoint.changed = lambda count, whole: cut(count, whole) if count == 2 else whole
        assert imagine(endpoint, tmp_path / "some.jsonl", "--dialogues", "1", "--retries", "1") == 0
        kinds = [(call["seed"], call["messages"][0]["content"]) for call in endpoint.calls]
        assert len(kinds) == 4 and kinds[1][1] == kinds[2][1] and kinds[1][0] != kinds[2][0]
        endpoint.changed = cut
        assert imagine(endpoint, tmp_path / "more.jsonl", "--max_tokens", "9") == 1
        assert "people 0: the answer was cut at max_tokens=9; raise it" in " ".join(capsys.readouterr().err.split())

    def test_a_full_disk_takes_nothing_away(self, tmp_path):
        """Nothing that is there is written again, and half a line does not stay."""
        path = tmp_path / "steps.jsonl"
        kept = KeptSteps(path, {"seed": 1})
        for number in range(9):
            kept.add("person", number, "somebody" * 99, 1, 1)
        before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 100, limits[1]))
            again = KeptSteps(path, {"seed": 1})
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
            with pytest.raises(OSError, match="File too large"):
                again.add("person", 9, "somebody else" * 99, 1, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        again.add("person", 10, "a third", 1, 1)
        assert KeptSteps(path, {"seed": 1}).steps.keys() == {("person", number) for number in (*range(9), 10)}

    def test_no_endpoint(self, tmp_path, capsys):
        assert imagine(None, tmp_path / "none.jsonl") == 1
        assert "25 of 25 dialogues are missing (APIConnectionError" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("more", "line"),
        [
            (["--dialogues", "0"], "dialogues=0 must be at least 1"),
            (["--weight_temperature", "0"], "weight_temperature=0.0 must be above 0"),
            (["--retries", "-1"], "retries=-1 must be at least 0"),
            (["--scenario", "nothing.yaml"], "scenario='nothing.yaml' is not a file"),
            (["--base_url", "localhost"], "base_url='localhost' must begin with http:// or https:// and a host"),
            (["--base_url", "localhost:8000/v1"], "base_url='localhost:8000/v1' must begin with http://"),
            (["--base_url", "http://"], "base_url='http://' must begin with http://"),
            (["--dialogue", "3"], "--dialogue is not a known argument"),
            (["--temperature", "nan"], "temperature=nan must be a finite number"),
            (["--price_in", "nan"], "price_in=nan must be a finite number"),
            (["--timeout", "inf"], "timeout=inf must be a finite number"),
            (["--output", "."], "output='.' is a folder; give the name of a file"),
            (["--output", f"{__file__}/rows.jsonl"], "test_imagination.py', which is a file; give another name"),
        ],
    )
    def test_mistakes_are_one_line(self, tmp_path, capsys, more, line):
        with pytest.raises(SystemExit) as caught:
            imagine(None, tmp_path / "never.jsonl", *more)
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count("\n") == 1 and line in error

    @pytest.mark.parametrize(
        "kept",
        [
            "hello",
            "hello\n",
            "{}\n",
            "[1]\n",
            '{"settings": 1}\n',
            '{"settings": {}}\n{"a": 1}\n',
            '{"settings": {}}\n{"kind": "person", "number": 0, "value": 1, "tokens": [0, 0]}\n',
        ],
    )
    def test_a_foreign_file_of_steps_is_left_alone(self, endpoint, tmp_path, capsys, kept):
        path = tmp_path / "some.jsonl.steps.jsonl"
        path.write_text(kept)
        with pytest.raises(SystemExit) as caught:
            imagine(endpoint, tmp_path / "some.jsonl")
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count("\n") == 1 and "does not hold the answers of this" in error
        assert path.read_text() == kept and not endpoint.calls

    def test_an_output_of_something_else_is_left_alone(self, endpoint, tmp_path, capsys):
        output = tmp_path / "rows.jsonl"
        output.write_text("mine\n")
        with pytest.raises(SystemExit):
            imagine(endpoint, output)
        assert "exists without 'rows.jsonl.steps.jsonl', the answers it is made of" in capsys.readouterr().err
        assert output.read_text() == "mine\n" and not endpoint.calls and len(list(tmp_path.iterdir())) == 1

    def test_other_settings_are_refused(self, endpoint, tmp_path, capsys):
        imagine(endpoint, tmp_path / "some.jsonl", "--dialogues", "1")
        with pytest.raises(SystemExit):
            imagine(endpoint, tmp_path / "some.jsonl", "--seed", "1")
        assert "was begun with seed=0, not 1" in capsys.readouterr().err

    def test_without_the_client(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(SystemExit) as caught:
            imagine(None, tmp_path / "rows.jsonl")
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count("\n") == 1 and "pip install 'trl_amft[imagine]'" in error

    def test_scenario(self, tmp_path, capsys):
        path = tmp_path / "scenario.yaml"
        path.write_text("situation: a\nuser: b\nagent: c\n")
        with pytest.raises(ValueError, match="goal.*it needs situation, user, agent and goal"):
            read_scenario(str(path))
        path.write_text("situation: a\nuser: b\nagent: c\ngaol: d\n")
        with pytest.raises(ValueError, match="unknown key 'gaol'; did you mean 'goal'"):
            read_scenario(str(path))


class TestTask:
    def test_held_out_orders_are_nowhere_else(self):
        task = load_task("twenty_questions", scripted=200)
        assert (len(task.train_dataset), len(task.held_out_dataset)) == (40, 8)
        held_out = list(task.held_out_dataset["prompt"])
        assert not any(prompt in held_out for prompt in task.train_dataset["prompt"])
        assert not any(prompt in held_out for prompt in task.demonstration_dataset["prompt"])

    def test_weights_follow_from_the_outcome(self):
        rows = load_task("twenty_questions", scripted=200).demonstration_dataset
        weights = {
            source: {
                weight
                for name, weight in zip(rows["demonstration_source"], rows["demonstration_weight"], strict=True)
                if name == source
            }
            for source in ("right", "wrong")
        }
        assert all(len(found) == 1 for found in weights.values()) and min(weights["right"]) > 1 > max(weights["wrong"])
        plain = load_task("twenty_questions", scripted=20, weighted=False).demonstration_dataset
        assert "demonstration_weight" not in plain.column_names

    def test_reads_what_the_command_writes(self, endpoint, tmp_path):
        imagine(endpoint, tmp_path / "imagined.jsonl")
        task = load_task("twenty_questions", dialogues=str(tmp_path / "imagined.jsonl"))
        assert set(task.demonstration_dataset["demonstration_source"]) == {"imagined"}
        assert 90 <= len(task.demonstration_dataset) <= 100

    def test_held_out_orders_behind_a_system_message(self, tmp_path):
        entries = [{"number": n, "person": "p", "dialogue": script(n, 1.0)[0], "reward": 1.0} for n in range(200)]
        kept = []
        for system in (None, "Be brief."):
            path = tmp_path / "rows.jsonl"
            rows = demonstration_rows(entries, system, 1.0, 5.0)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            kept.append(len(load_task("twenty_questions", dialogues=str(path)).demonstration_dataset))
        assert kept[0] == kept[1] < 800

    def test_reward(self):
        assert len({tuple(answers) for answers in THINGS.values()}) == 8
        said = [play("cow", ORDERS[0], guess)[-1:] for guess in ("cow", "ant")]
        assert name_reward(said, ["cow", "cow"]) == [1.0, 0.0]
        assert name_reward([[{"role": "assistant", "content": "cow\n"}]], ["cow"]) == [1.0]

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            ({"dialogues": "nowhere.jsonl"}, "is not a file; make one with scripts/imagine.py"),
            ({"scripted": 0}, "scripted=0 must be at least 1"),
            ({"demonstration_quality": 2}, "must lie between 0 and 1"),
        ],
    )
    def test_refusals(self, options, line):
        with pytest.raises(ValueError, match=line):
            load_task("twenty_questions", **options)
