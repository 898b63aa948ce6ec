"""Where solutions are cut, what a completion is worth there, and the task that reads what the command writes."""

import json

import pytest

from trl_amft.data.prefixes import MOST_CUTS, TIME_IS_UP, mean_reward, prefixes_of, split_episodes, without_bos
from trl_amft.grading import maths_reward
from trl_amft.tasks import load_task
from trl_amft.tasks.prefixes import copy_reward, prefix_reward
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
        # What a template writes where thinking is switched off.
        assert prefixes_of("<think>\n\n</think>\n\n", THOUGHT, 1, 0)[0].termination == TIME_IS_UP

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


class TestMeanReward:
    ROW = {"prompt": "?", "answer": "3"}

    @staticmethod
    def mean(values, weights=None, row=ROW, texts=("a", "b", "c")):
        functions = [lambda value=value, **given: value for value in values]
        return mean_reward(row, list(texts), [[0]] * len(texts), functions, weights or [1.0] * len(values))

    def test_weighted_sum_of_what_applies(self):
        # As TRL: (2·1 + ½·4) + (½·2) + nothing, over the two that have a reward.
        assert self.mean([[1.0, None, None], [4, 2, None]], [2.0, 0.5]) == pytest.approx((4.0 + 1.0) / 2)
        assert self.mean([[None] * 3, [None] * 3]) is None

    def test_what_a_reward_is_given(self):
        seen = []

        def reward(**given):
            seen.append(given)
            given["log_metric"]("length", 1.0)
            given["log_extra"]("text", ["a", "b"])
            return [0.0, 0.0]

        chat = [{"role": "user", "content": "?"}]
        for prompt in ("?", chat):
            mean_reward({"prompt": prompt, "answer": "3", "completion": "3"}, ["a", "b"], [[1], [2]], [reward], [1.0])
        text, messages = seen
        assert text["completions"] == ["a", "b"] and text["completion_ids"] == [[1], [2]]
        assert text["answer"] == ["3", "3"] and "completion" not in text and "prompt" not in text
        assert messages["completions"] == [[{"role": "assistant", "content": content}] for content in "ab"]
        assert messages["prompts"] == [chat, chat]

    @pytest.mark.parametrize(
        ("values", "line"),
        [
            ([1.0, 2.0], "returned 2 rewards, not 3; return one per completion"),
            ([1.0, float("nan"), 1.0], "returned nan; return a finite number, or None if it does not apply"),
            ([1.0, float("inf"), 1.0], "returned inf; return a finite number"),
            (["a", "b", "c"], r"failed \(ValueError: could not convert string to float: 'a'\)"),
            (None, r"failed \(TypeError: .*\); there are the columns answer, prompt"),
        ],
    )
    def test_what_cannot_be_used(self, values, line):
        with pytest.raises(ValueError, match=f"the reward '<lambda>' {line}"):
            self.mean([values])


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
        row = {"p_term": 0.5, "solution": "\\boxed{3}", "demonstration": None}
        rows = [
            row | {"prompt": f"{n}? Wait", "row": n, "problem_prompt": [{"role": "user", "content": f"{n % 3}?"}]}
            for n in range(9)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for seed in range(4):
            task = load_task("prefixes", dataset=str(path), held_out_problems=1, seed=seed)
            held_out, trained = (
                {row["row"] % 3 for row in part} for part in (task.held_out_dataset, task.train_dataset)
            )
            assert len(held_out) == 1 and len(trained) == 2 and not held_out & trained, "a problem is on one side"
            assert len(task.train_dataset) == 6

    def test_reward_is_that_of_p_term(self):
        """A part of a solution is no problem: its formulas may be the answer, and its words ask for nothing."""
        for solution, answer, problem, part in (
            (r"2\sqrt{3}", r"\boxed{\sqrt{12}}", "How long is the side?", r"It is \sqrt{12}."),
            ("x^2+2", "\\boxed{(x+1)(x-1)+3}", "Simplify $(x+1)(x-1)+3$.", "either this or that"),
        ):
            chat = [{"role": "user", "content": problem}]
            (measured,) = maths_reward([answer], [solution], prompts=[chat])
            (trained,) = prefix_reward([answer], [solution], [chat], prompts=[f"user: {problem}\nassistant: {part}"])
            (other,) = maths_reward([answer], [solution], prompts=[f"user: {problem}\nassistant: {part}"])
            assert trained == measured != other

    @pytest.mark.parametrize("text", ["", "{\n", "[]"])
    def test_files_without_rows(self, tmp_path, text):
        path = tmp_path / "rows.jsonl"
        path.write_text(text)
        for task, field, script in (
            ("prefixes", "dataset", "make_prefixes"),
            ("twenty_questions", "dialogues", "imagine"),
        ):
            with pytest.raises(
                ValueError, match=f"^{field}='.*' holds no rows that can be read .*scripts/{script}"
            ) as e:
                load_task(task, **{field: str(path)})
            assert "\n" not in str(e.value)

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
