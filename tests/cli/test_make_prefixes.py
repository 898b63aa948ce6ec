"""What a prefix is worth, that a command that was broken off loses nothing, and what it says of what it cannot use."""

import json

import pytest
from prefix_problems import THOUGHT, KnownSampler, read, write_problems
from transformers import AutoTokenizer

from trl_amft.cli import make_prefixes, prefix_model
from trl_amft.cli.arguments import parse_recipe
from trl_amft.data.prefixes import TIME_IS_UP
from trl_amft.evaluation.samplers import Sampling
from trl_amft.tiny_model import build_character_tokenizer, save_tiny_model


TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs the command on 40 problems, with answers that are known where a sampler is given."""
    monkeypatch.chdir(tmp_path)
    write_problems(tmp_path / "problems.jsonl")

    def run(output, sampler, *more, rewards=("right_reward",), model=TINY):
        if sampler is not None:
            loaded = sampler, build_character_tokenizer(), None
            monkeypatch.setattr(make_prefixes, "load_sampler", lambda *_: loaded)
        chosen = ["--model_name_or_path", str(model)] if not isinstance(model, dict) else []
        argv = ["--output", str(tmp_path / output), "--dataset_name", str(tmp_path / "problems.jsonl"), *chosen]
        argv += ["--answers", "4", "--output_dir", str(tmp_path / "run"), "--bf16", "false"]
        if not chosen:
            argv += ["--tiny_model", json.dumps(model)]
        argv += ["--reward_funcs", *(f"prefix_problems:{name}" for name in rewards)]
        return make_prefixes.main([*argv, *more])

    return run


@pytest.fixture
def refusal(command, capsys):
    """The one line with which the command ends."""

    def run(*args, **kwargs):
        with pytest.raises(SystemExit) as caught:
            command(*args, **kwargs)
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count("error: ") == 1
        return error.splitlines()[-1]

    return run


class TestRows:
    def test_p_term_is_the_known_probability(self, tmp_path, command, capsys):
        assert command("whole.jsonl", KnownSampler()) == 0
        rows = read(tmp_path / "whole.jsonl")
        assert len(rows) == 36 * 2 * 2 and {row["row"] for row in rows} == {n for n in range(40) if n % 10 != 9}
        for row in rows:
            assert row["p_term"] == row["episode"] / 4 and row["answer"] == row["row"]
            assert row["problem_prompt"] == f"{row['row']}?"
            assert row["prompt"].startswith(f"{row['row']}?one")
            assert row["prompt"].endswith(TIME_IS_UP) == (row["mode"] == "terminate")
            # A wrong solution makes no progress, and nobody goes on from where time is up.
            given = row["mode"] == "continue" and row["row"] % 3 != 2
            assert (row["demonstration"] is not None) == given
        printed = capsys.readouterr().out
        assert "0.375" in printed and "0.625" in printed

    def test_p_term_is_the_weighted_sum_of_all_rewards(self, tmp_path, command):
        command("rows.jsonl", KnownSampler(), "--reward_weights", "2", "0.5", rewards=("right_reward", "bonus_reward"))
        for row in read(tmp_path / "rows.jsonl"):
            assert row["p_term"] == pytest.approx(2.5 * row["episode"] / 4)
            assert row["solution_reward"] == (0.0 if row["row"] % 3 == 2 else 2.5)

    def test_a_reward_of_chats(self, tmp_path, command):
        write_problems(
            tmp_path / "problems.jsonl", 4, lambda row: row | {"prompt": [{"role": "user", "content": "?"}]}
        )
        command("rows.jsonl", KnownSampler(), rewards=("chat_reward",))
        rows = read(tmp_path / "rows.jsonl")
        assert rows and all(row["p_term"] == row["episode"] / 4 for row in rows)
        assert all(row["prompt"].startswith("user: ?\nassistant: one") for row in rows)

    def test_the_length_of_a_solution_counts(self, tmp_path, command):
        command("rows.jsonl", KnownSampler(), "--max_rows", "1", rewards=("length_reward",))
        # One token per character, and answers of one token.
        assert {row["solution_reward"] for row in read(tmp_path / "rows.jsonl")} == {len(THOUGHT + "\n\nright") / 8}
        assert {row["p_term"] for row in read(tmp_path / "rows.jsonl")} == {1 / 8}

    def test_correctness_without_exploration(self, tmp_path, command, refusal):
        exploration = ("--exploration_reward", '{"weight": 0.2}')
        assert "exploration_reward={'weight': 0.2} depends on the other answers" in refusal("x", None, *exploration)
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("exploration_reward: {weight: 0.2}\n")
        command("rows.jsonl", KnownSampler(), "--recipe", str(recipe), "--exploration_reward", "null")
        assert read(tmp_path / "rows.jsonl")[0]["p_term"] == 0.25


class TestModel:
    """With a real model, drawn from by transformers."""

    MORE = ("--answers", "2", "--answer_tokens", "4", "--max_rows", "3")

    @pytest.fixture
    def folder(self, tmp_path):
        """A checkpoint whose tokenizer has no token for padding."""
        save_tiny_model(tmp_path / "model", **TINY, model_type="llama", max_position_embeddings=128)
        path = tmp_path / "model" / "tokenizer_config.json"
        options = json.loads(path.read_text())
        del options["pad_token"]
        path.write_text(json.dumps(options))
        assert AutoTokenizer.from_pretrained(tmp_path / "model").pad_token is None
        return tmp_path / "model"

    @pytest.mark.parametrize("more", [(), ("--sample_solutions", "--max_completion_length", "8")])
    def test_rows(self, tmp_path, command, capsys, more):
        for output in ("one.jsonl", "two.jsonl"):
            command(output, None, *self.MORE, *more, rewards=("length_reward",))
        assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
        rows = read(tmp_path / "one.jsonl")
        # Eight tokens of a random model hold no second episode.
        assert len(rows) == (0 if more else 3 * 2 * 2)
        assert ("no solution that fits has a second episode" in capsys.readouterr().out) == bool(more)
        assert all(0.0 < row["p_term"] <= 0.5 for row in rows)

    def test_configuration_and_padding(self, tmp_path, command, refusal, folder):
        long = refusal("long.jsonl", None, "--answers", "2", "--answer_tokens", "128", model=folder)
        assert "answer_tokens=128 do not fit: row 0 of the training set has a prompt of 2 tokens, and the" in long
        longer = ("--answer_tokens", "128", "--max_rows", "3", "--model_config", '{"max_position_embeddings": 512}')
        command("rows.jsonl", None, *longer, rewards=("length_reward",), model=folder)
        rows = read(tmp_path / "rows.jsonl")
        assert len(rows) == 3 * 2 * 2 and max(row["p_term"] for row in rows) > 4 / 8

    def test_prefixes_without_room_are_left_out(self, tmp_path, command, folder):
        # The first prefix and "time is up" have 78 tokens, the second more than 100.
        command("rows.jsonl", None, "--answer_tokens", "40", "--max_rows", "3", model=folder)
        assert {(row["episode"], row["episodes"]) for row in read(tmp_path / "rows.jsonl")} == {(1, 3)}

    def test_what_vllm_is_given(self, tmp_path, monkeypatch, folder):
        given = {}

        class Engine:
            def __init__(self, name, tokenizer, sampling, **options):
                given.update(options, name=name)

        monkeypatch.setattr(prefix_model, "gpu_with_vllm", lambda: True)
        monkeypatch.setattr(prefix_model, "VllmSampler", Engine)
        recipe = ["--model_name_or_path", str(folder), "--model_config", '{"max_position_embeddings": 256}']
        recipe += ["--dtype", "bfloat16", "--model_revision", "v2", "--vllm_max_model_length", "200", "--seed", "7"]
        recipe += ["--task", "countdown", "--output_dir", str(tmp_path / "run"), "--bf16", "false"]
        positions = prefix_model.load_sampler(parse_recipe(recipe), Sampling())[2]
        config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
        assert given["name"] == str(tmp_path / "run" / "model") and config["max_position_embeddings"] == 256
        assert given["revision"] == "v2" and given["dtype"] == "bfloat16" and given["seed"] == 7
        assert given["max_model_len"] == positions == 200

    def test_a_model_that_vllm_refuses(self, monkeypatch, refusal, folder):
        def engine(*args, **kwargs):
            raise ValueError("no such architecture")

        monkeypatch.setattr(prefix_model, "gpu_with_vllm", lambda: True)
        monkeypatch.setattr(prefix_model, "VllmSampler", engine)
        line = refusal("never.jsonl", None, model=folder)
        assert "by vLLM (no such architecture); give" in line and "CUDA_VISIBLE_DEVICES=" in line

    def test_no_template_for_a_chat(self, tmp_path, refusal, folder):
        (folder / "chat_template.jinja").unlink()
        write_problems(
            tmp_path / "problems.jsonl", 4, lambda row: row | {"prompt": [{"role": "user", "content": "?"}]}
        )
        assert "its chat template fails" in refusal("never.jsonl", None, model=folder)

    def test_no_model(self, refusal):
        assert "tiny_model: hidden_size=30 cannot be split" in refusal("x", None, model=TINY | {"hidden_size": 30})
        assert "model_name_or_path='nowhere' cannot be loaded" in refusal("x", None, model="nowhere")


class TestGoingOn:
    def test_goes_on_after_it_was_broken_off(self, tmp_path, command):
        command("whole.jsonl", KnownSampler())
        with pytest.raises(KeyboardInterrupt):
            command("parts.jsonl", KnownSampler(fail_after=1))
        # What a dying process may leave behind.
        with (tmp_path / "parts.jsonl").open("a") as file:
            file.write('{"prompt": "torn')
        command("parts.jsonl", KnownSampler())
        assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()

    @pytest.mark.parametrize("fail_after", [None, 1])
    def test_other_settings_are_refused(self, tmp_path, command, refusal, fail_after):
        """Of a file that is finished, and of one that is not."""
        more = ("--sample_solutions", "--temperature", "1.0") if fail_after is None else ()
        if fail_after is None:
            command("rows.jsonl", KnownSampler(), *more)
        else:
            with pytest.raises(KeyboardInterrupt):
                command("rows.jsonl", KnownSampler(fail_after), *more)
        before = (tmp_path / "rows.jsonl").read_bytes()
        others = [
            (("--prefixes", "1"), "prefixes=4, not 1"),
            (("--answer_temperature", "0.5"), "answer_temperature=0.7, not 0.5"),
            (("--reward_weights", "2"), "reward_weights=None, not [2.0]"),
            (("--chat_template_kwargs", '{"enable_thinking": false}'), "chat_template_kwargs=None, not"),
            (("--seed", "1"), "seed=42, not 1"),
        ]
        if fail_after is None:
            others += [(("--temperature", "0.5"), "temperature=1.0, not 0.5")]
            others += [(("--max_completion_length", "64"), "max_completion_length=512, not 64")]
        for other, line in others:
            assert f"was begun with {line}" in refusal("rows.jsonl", KnownSampler(), *more, *other)
        named = refusal("rows.jsonl", KnownSampler(), *more, rewards=("length_reward",))
        assert "was begun with reward_funcs=['prefix_problems:right_reward'], not" in named
        write_problems(tmp_path / "problems.jsonl", change=lambda row: row | {"answer": row["answer"] // 39})
        assert "was begun with problems='" in refusal("rows.jsonl", KnownSampler(), *more)
        assert (tmp_path / "rows.jsonl").read_bytes() == before

    def test_a_file_of_its_own(self, tmp_path, command, refusal):
        (tmp_path / "foreign.jsonl").write_text("{}\n")
        assert "exists and is not of this command" in refusal("foreign.jsonl", KnownSampler())
        below = refusal("foreign.jsonl/rows.jsonl", KnownSampler())
        assert "foreign.jsonl/rows.jsonl' lies below" in below and "give another name" in below
        command("rows.jsonl", KnownSampler())
        (tmp_path / "rows.jsonl").write_text("{}\n")
        assert "is shorter than it was" in refusal("rows.jsonl", KnownSampler())

    @pytest.mark.parametrize("text", ["", "[]", '{"settings": {}}', '{"settings": 1, "next_row": 1, "bytes": 1}'])
    def test_a_broken_note(self, tmp_path, command, refusal, text):
        command("rows.jsonl", KnownSampler(), "--max_rows", "2")
        (tmp_path / "rows.jsonl.progress.json").write_text(text)
        line = refusal("rows.jsonl", KnownSampler(), "--max_rows", "2")
        assert "rows.jsonl.progress.json beside it is broken; delete both" in line


class TestMistakes:
    @pytest.mark.parametrize(
        ("more", "line"),
        [
            (["--answers", "0"], "answers=0 must be at least 1"),
            (["--answer_top_p", "0"], "answer_top_p=0.0 in"),
            (["--answer_temperature", "nan"], "answer_temperature=nan must be at least 0"),
            (["--answer_temperature", "inf"], "answer_temperature=inf must be"),
            (["--method", "grpo", "--demonstration_column", "nothing"], "demonstration_column='nothing' is no column"),
            (["--modes", "both"], "invalid choice: 'both'"),
            (["--anwers", "2"], "--anwers is not a known field"),
            (["--output", "."], "output='.' is a folder; give the name of a file"),
            (["--output", ".", "--dataset_name", "nothing.jsonl"], "output='.' is a folder"),
            (["--reward_weights", "1", "2"], "reward_weights=[1.0, 2.0] "),
        ],
    )
    def test_arguments(self, refusal, more, line):
        assert line in refusal("never.jsonl", KnownSampler(), *more)

    @pytest.mark.parametrize(
        ("reward", "line"),
        [
            ("answer_reward", "row 0 of the training set: the reward 'answer_reward' failed (KeyError: "),
            ("chat_reward", "the reward 'chat_reward' failed (TypeError: "),
            ("broken_reward", "the reward 'broken_reward' returned nan"),
            ("slow_reward", "reward_funcs has 'slow_reward', which is asynchronous"),
        ],
    )
    def test_rewards(self, tmp_path, refusal, reward, line):
        found = refusal("rows.jsonl", KnownSampler(), rewards=(reward,))
        assert line in found
        assert not (tmp_path / "rows.jsonl").exists() or not read(tmp_path / "rows.jsonl")

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            ({"demonstration": 3}, "row 0 of the training set has demonstration=3; give text, or messages of text"),
            ({"demonstration": 0}, "has demonstration=0; give text"),
            ({"demonstration": [{"role": "assistant", "content": [{"type": "image"}]}]}, "give text, or messages"),
            ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "has a prompt that is not text"),
        ],
    )
    def test_data(self, tmp_path, refusal, change, line):
        write_problems(tmp_path / "problems.jsonl", 3, lambda row: row | change)
        assert line in refusal(
            "never.jsonl", KnownSampler(), "--method", "grpo", "--demonstration_column", "demonstration"
        )
        assert not (tmp_path / "never.jsonl").exists()
