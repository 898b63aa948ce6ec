"""Where solutions are cut, what a prefix is worth, and that a command that was broken off loses nothing."""

import json

import pytest

from trl_amft.cli import make_prefixes
from trl_amft.evaluation.samplers import Sample
from trl_amft.prefixes import MOST_CUTS, TIME_IS_UP, prefixes_of, split_episodes, without_bos
from trl_amft.tasks import load_task
from trl_amft.tasks.prefixes import copy_reward
from trl_amft.tiny_model import build_character_tokenizer


THOUGHT = "one\n\ntwo\n\nWait, early\n\nWait, three\n\nfour\n\nfive\n\nAlternatively six\n\nseven"


class TestEpisodes:
    def test_cuts(self):
        episodes = split_episodes(THOUGHT)
        assert [episode.split(",")[0].split()[0] for episode in episodes] == ["one", "Wait", "Alternatively"]
        assert episodes[1].startswith("Wait, three") and "".join(episodes) == THOUGHT

    def test_grouped(self):
        assert split_episodes(THOUGHT, group=2) == [THOUGHT[: THOUGHT.index("Alt")], THOUGHT[THOUGHT.index("Alt") :]]

    def test_at_most_so_many_cuts(self):
        episodes = split_episodes("\n\n".join(["x", "y", "z", *["Wait", "a", "b"] * 80]))
        assert len(episodes) == MOST_CUTS + 1

    @pytest.mark.parametrize("text", ["", "Wait", "one\n\ntwo", "one\nWait\ntwo\nWait\nthree\nWait"])
    def test_nothing_to_cut(self, text):
        assert split_episodes(text) == [text]


class TestPrefixes:
    def test_text_goes_on_where_it_stops(self):
        solution = f"<think>\n{THOUGHT}\n</think>\n\nThe answer is 3."
        found = prefixes_of("user: ?\nassistant: ", solution, count=9, seed=0)
        assert [(prefix.episode, prefix.episodes) for prefix in found] == [(1, 3), (2, 3)]
        for prefix in found:
            assert prefix.prompt + prefix.rest == f"user: ?\nassistant: {solution}"
            assert prefix.termination == f"{TIME_IS_UP}</think>\n\n"

    def test_no_thinking_block_is_closed_that_was_not_opened(self):
        assert {prefix.termination for prefix in prefixes_of("?", THOUGHT, 9, 0)} == {TIME_IS_UP}
        assert "</think>" in prefixes_of("assistant: <think>\n", THOUGHT, 1, 0)[0].termination

    def test_drawn_places_depend_on_the_seed_alone(self):
        long = "\n\n".join(["x", "y", "z", *["Wait", "a", "b"] * 20])
        drawn = [[prefix.episode for prefix in prefixes_of("?", long, 3, seed)] for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 3 and drawn[0] == sorted(drawn[0])

    def test_bos_is_not_doubled(self):
        tokenizer = build_character_tokenizer()
        assert without_bos(tokenizer, "<eos>x") == "<eos>x"
        tokenizer.bos_token = "<eos>"
        assert without_bos(tokenizer, "<eos>x") == "<eos>x"  # This one adds none by itself.

        class Adds:
            bos_token, bos_token_id = "<eos>", 1

            def __call__(self, text):
                return {"input_ids": [1, *tokenizer(text)["input_ids"]]}

        assert without_bos(Adds(), "<eos>x") == "x" and without_bos(Adds(), "x") == "x"


class KnownSampler:
    """Right as often as there are episodes in the prefix, of four answers."""

    sampling = None

    def __init__(self, fail_after=None):
        self.left = fail_after

    def sample(self, prompts, count, seed):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        right = [prompt.count("Wait, three") + prompt.count("Alternatively") + 1 for prompt in prompts]
        return [[Sample("right" if n < good else "wrong", [0], False) for n in range(count)] for good in right]


def right_reward(completions, **columns):
    return [float(text.endswith("right")) for text in completions]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs the command on 40 problems; every third solution is wrong, every tenth missing."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "problems.jsonl"
    rows = [
        {
            "prompt": f"{n}?",
            "demonstration": None if n % 10 == 9 else f"{THOUGHT}\n\n{'wrong' if n % 3 == 2 else 'right'}",
            "answer": n,
        }
        for n in range(40)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "their_rewards.py").write_text("from test_prefixes import right_reward\n")

    def run(output, sampler, *more):
        monkeypatch.setattr(make_prefixes, "_load", lambda *_: (sampler, build_character_tokenizer()))
        argv = ["--output", str(tmp_path / output), "--answers", "4", "--dataset_name", str(data), *more]
        model = ["--tiny_model", '{"hidden_size": 32}', "--bf16", "false"]
        return make_prefixes.main([*argv, "--reward_funcs", "test_prefixes:right_reward", *model])

    return run


class TestCommand:
    def test_p_term_is_the_known_probability(self, tmp_path, command, capsys):
        assert command("whole.jsonl", KnownSampler()) == 0
        rows = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
        assert len(rows) == 36 * 2 * 2 and {row["row"] for row in rows} == {n for n in range(40) if n % 10 != 9}
        for row in rows:
            assert row["p_term"] == row["episode"] / 4 and row["answer"] == row["row"]
            assert row["prompt"].startswith(f"{row['row']}?one")
            assert row["prompt"].endswith(TIME_IS_UP) == (row["mode"] == "terminate")
            # A wrong solution makes no progress, and nobody goes on from where time is up.
            given = row["mode"] == "continue" and row["row"] % 3 != 2
            assert (row["demonstration"] is not None) == given
        printed = capsys.readouterr().out
        assert "0.375" in printed and "0.625" in printed

    def test_goes_on_after_it_was_broken_off(self, tmp_path, command):
        command("whole.jsonl", KnownSampler())
        with pytest.raises(KeyboardInterrupt):
            command("parts.jsonl", KnownSampler(fail_after=1))
        # What a dying process may leave behind.
        with (tmp_path / "parts.jsonl").open("a") as file:
            file.write('{"prompt": "torn')
        command("parts.jsonl", KnownSampler())
        assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()

    @pytest.mark.parametrize(
        ("more", "line"),
        [
            (["--answers", "0"], "answers=0 must be at least 1"),
            (["--answer_top_p", "0"], r"answer_top_p=0.0 in"),
            (["--method", "grpo", "--demonstration_column", "nothing"], "demonstration_column='nothing' is no column"),
            (["--modes", "both"], "invalid choice: 'both'"),
            (["--anwers", "2"], "--anwers is not a known field"),
        ],
    )
    def test_mistakes_are_one_line(self, command, capsys, more, line):
        with pytest.raises(SystemExit) as caught:
            command("never.jsonl", KnownSampler(), *more)
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count("error: ") == 1 and line in error.splitlines()[-1]

    def test_other_settings_are_refused(self, tmp_path, command, capsys):
        command("whole.jsonl", KnownSampler(), "--max_rows", "2")
        with pytest.raises(SystemExit):
            command("whole.jsonl", KnownSampler(), "--max_rows", "2", "--prefixes", "1")
        assert "was begun with prefixes=4, not 1" in capsys.readouterr().err
        (tmp_path / "foreign.jsonl").write_text("{}\n")
        with pytest.raises(SystemExit):
            command("foreign.jsonl", KnownSampler())
        assert "exists and is not of this command" in capsys.readouterr().err


class TestTask:
    def test_synthetic_probabilities(self):
        task = load_task("prefixes", held_out_problems=8)
        for row in task.train_dataset:
            assert row["p_term"] == 0.5 ** len(row["rest"]) and row["prompt"][7:] + row["rest"] == row["prompt"][:6]
        assert len(task.train_dataset) == 56 * 6 and len(task.held_out_dataset) == 8 * 6
        assert not set(task.train_dataset["row"]) & set(task.held_out_dataset["row"])
        assert len(load_task("prefixes", train_problems=3).train_dataset) == 18
        assert copy_reward(["ab", "b"], ["ab", "a"]) == [1.0, 0.0]

    def test_reads_what_the_command_writes(self, tmp_path):
        path = tmp_path / "prefixes.jsonl"
        row = {"prompt": "?", "p_term": 0.5, "solution": "\\boxed{3}", "demonstration": None}
        path.write_text("".join(json.dumps({**row, "row": n}) + "\n" for n in range(3)))
        task = load_task("prefixes", dataset=str(path), held_out_problems=1)
        assert len(task.train_dataset) == 2 and task.reward_funcs[0].__name__ == "maths_reward"

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            ({"dataset": "nowhere.jsonl"}, "is not a file; make one with scripts/make_prefixes.py"),
            ({"held_out_problems": 64}, "must lie between 1 and 63"),
            ({"train_problems": 0}, "train_problems=0 must be at least 1"),
        ],
    )
    def test_refusals(self, options, line):
        with pytest.raises(ValueError, match=line):
            load_task("prefixes", **options)
