"""Invented rows with the columns of published data sets: what becomes of them, whatever file they lie in."""

import json

import pytest
from choice_rows import CHOICES
from datasets import Dataset, DatasetDict

from trl_amft.grading import maths_reward
from trl_amft.tasks import load_task
from trl_amft.tasks.maths_fields import read_row
from trl_amft.tasks.maths_rows import to_form
from trl_amft.tasks.maths_sets import SETS, SUITES, load_set
from trl_amft.tasks.maths_synthetic import SYSTEM_PROMPT


TRACE = "<think>\n3 and 4 make 7.\n</think>\n\n\\boxed{7}"
WORKED = "We add 3 and 4, which makes $\\boxed{7}$."
SHOWN = [{"role": "assistant", "content": WORKED}]

# Columns of each set as published, with an invented row; then its answer, and whether it brings a demonstration.
MATHS = {
    "Elliott/Openr1-Math-46k-8192": (
        {
            "data_source": "x",
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "3+4?"}],
            "target": SHOWN,
            "ability": "math",
            "reward_model": {"ground_truth": "7", "style": "rule"},
            "extra_info": {"index": 0, "split": "default"},
        },
        "7",
        WORKED,
    ),
    "open-r1/OpenR1-Math-220k": (
        {
            "problem": "3+4?",
            "solution": WORKED,
            "answer": "7",
            "problem_type": "Algebra",
            "generations": ["<think>\n8\n</think>\n\n\\boxed{8}", TRACE, TRACE + "!"],
            "correctness_math_verify": [False, True, True],
            "correctness_llama": None,
        },
        "7",
        TRACE,
    ),
    "openai/gsm8k": (
        {"question": "3 and 1,000?", "answer": "There are 3+1000=<<3+1000=1003>>1003.\n#### 1,003"},
        "1003",
        "There are 3+1000=1003.\n\nThe answer is \\boxed{1003}.",
    ),
    "math-ai/aime24": ({"id": 0, "problem": "3+4?", "solution": "\\boxed{204}", "url": "u"}, "204", None),
    "Maxwell-Jia/AIME_2024": (
        {"ID": "2024-I-1", "Problem": "3+4?", "Solution": WORKED.replace("7", "204"), "Answer": 204},
        "204",
        WORKED.replace("7", "204"),
    ),
    "math-ai/aime25": ({"problem": "3+4?", "answer": "70", "id": "0"}, "70", None),
    "AI-MO/aimo-validation-amc": ({"id": 0, "problem": "3+4?", "answer": 142.0, "url": "u"}, "142.0", None),
    "math-ai/amc23": ({"id": 0, "question": "3+4?", "answer": "27", "url": "u"}, "27", None),
    "HuggingFaceH4/MATH-500": (
        {
            "problem": "3+4?",
            "solution": WORKED,
            "answer": "7",
            "subject": "Algebra",
            "level": 2,
            "unique_id": "test/algebra/1.json",
        },
        "7",
        WORKED,
    ),
    "math-ai/minervamath": ({"question": "How much?", "answer": "4.5e33"}, "4.5e33", None),
    "math-ai/olympiadbench": (
        {
            "id": 1,
            "question": "3+4?",
            "solution": ["First.", "Then."],
            "final_answer": ["$2$", "-3"],
            "subfield": "Algebra",
            "unit": None,
            "answer_type": "Numerical",
        },
        "2, -3",
        "First.\n\nThen.\n\nThe answer is \\boxed{2, -3}.",
    ),
    "own/rows": (
        {"prompt": "3+4?", "answer": "7", "demonstration": "It is 7."},
        "7",
        "It is 7.\n\nThe answer is \\boxed{7}.",
    ),
    "own/solutions": ({"Question": "3+4?", "solution": WORKED}, "7", WORKED),
}  # fmt: skip


def write(rows, path, form):
    rows = Dataset.from_list(rows)
    if form == "splits":
        DatasetDict({"train": rows, "test": rows}).save_to_disk(path)
    elif form == "saved":
        rows.save_to_disk(path)
    else:
        {"jsonl": rows.to_json, "parquet": rows.to_parquet}[form](path)


@pytest.mark.parametrize("name", MATHS)
class TestMaths:
    def test_row(self, name):
        row, answer, demonstration = MATHS[name]
        read = read_row(row)
        assert read["solution"] == f"\\boxed{{{answer}}}"
        assert read["prompt"][-1]["role"] == "user" and read["prompt"][0]["role"] == "system"
        if "Openr1" not in name:
            assert read["prompt"][0]["content"] == SYSTEM_PROMPT
        assert read["demonstration"] == (demonstration and [{"role": "assistant", "content": demonstration}])

    def test_own_answer_and_demonstration_are_right(self, name):
        row, answer, demonstration = MATHS[name]
        said = [f"\\boxed{{{answer}}}", "\\boxed{99}", *([demonstration] if demonstration else [])]
        rewards = maths_reward(completions=said, solution=[read_row(row)["solution"]] * len(said))
        assert rewards[:2] == [1.0, 0.0] and rewards[2:] in ([], [1.0])

    def test_as_a_file(self, name, tmp_path):
        row, answer, _ = MATHS[name]
        question = next(key for key in ("prompt", "problem", "Problem", "question", "Question") if key in row)
        rows = []
        for n in range(3):
            asked = [{"role": "user", "content": str(n)}] if isinstance(row[question], list) else str(n)
            rows.append(row | {question: asked})
        write(rows, tmp_path / "rows.parquet", "parquet")
        task = load_task("maths", dataset=str(tmp_path / "rows.parquet"), held_out_problems=1)
        assert task.train_dataset.column_names == ["prompt", "demonstration", "solution"]
        assert task.train_dataset["solution"][:] == [f"\\boxed{{{answer}}}"] * 2


class TestColumns:
    def test_level_and_subject(self):
        read = read_row(MATHS["HuggingFaceH4/MATH-500"][0])
        assert (read["level"], read["subject"]) == ("2", "Algebra")
        assert read_row(MATHS["math-ai/olympiadbench"][0])["subject"] == "Algebra"
        assert read_row(MATHS["math-ai/aime25"][0])["level"] is None

    @pytest.mark.parametrize(
        "row",
        [
            {"problem": "?", "answer": None},
            {"problem": "?", "answer": ""},
            {"problem": "", "answer": "1"},
            {"problem": None, "answer": "1"},
            {"problem": "?", "final_answer": []},
            {"problem": "?", "solution": "no box"},
        ],
    )
    def test_rows_without_problem_or_answer_are_left_out(self, row):
        assert read_row(row)["solution"] == ""
        usable = dict.fromkeys(row) | {"problem": "?", "answer": "1"}
        rows = Dataset.from_list([usable, dict.fromkeys(usable) | row])
        assert to_form("rows", rows)["solution"][:] == ["\\boxed{1}"]

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            (
                {"prompt": ["3+4?"]},
                r"prompt=\['3\+4\?'\] must be a text, or a list of messages with the texts role and",
            ),
            ({"prompt": [{"content": "3+4?"}]}, "prompt=.* must be a text, or a list of messages"),
            ({"prompt": [{"role": "user", "content": ["3+4?"]}]}, r"prompt: \['3\+4\?'\] must be a text; it is the"),
            ({"target": ["7"]}, r"target=\['7'\] must be a text, or a list of messages"),
        ],
    )
    def test_conversations_of_another_form_are_refused(self, change, line):
        row = MATHS["Elliott/Openr1-Math-46k-8192"][0] | change
        with pytest.raises(ValueError, match=line):
            read_row(row)
        with pytest.raises(ValueError, match=f"^dataset='rows': {line}"):
            to_form("rows", Dataset.from_list([row]))

    @pytest.mark.parametrize("message", [{"role": "user", "content": None}, {"role": None, "content": "7"}])
    def test_messages_with_a_gap(self, message):
        """A prompt leaves its row out, a demonstration leaves its row without one."""
        row = MATHS["Elliott/Openr1-Math-46k-8192"][0]
        rows = Dataset.from_list([row, row | {"prompt": [message]}, row | {"target": [message]}])
        assert to_form("rows", rows)["demonstration"][:] == [SHOWN, None]

    def test_a_first_row_without_a_ground_truth(self):
        row = MATHS["Elliott/Openr1-Math-46k-8192"][0]
        rows = [row | {"reward_model": None}, row, row | {"reward_model": None}]
        assert to_form("rows", Dataset.from_list(rows))["solution"][:] == ["\\boxed{7}"]
        rows = [row | {"reward_model": None, "answer": "7"}] * 2
        assert to_form("rows", Dataset.from_list(rows))["solution"][:] == ["\\boxed{7}"] * 2
        rows = [row | {"reward_model": None}, row | {"reward_model": {"truth": "7"}}]
        with pytest.raises(ValueError, match="missing: reward_model.ground_truth"):
            to_form("rows", Dataset.from_list(rows))

    @pytest.mark.parametrize("answer", ["proof", "notfound", " Proof", "NOTFOUND"])
    def test_markers_in_the_place_of_an_answer(self, answer):
        row = {"problem": "Show that 3+4=7.", "solution": WORKED, "answer": answer}
        assert read_row(row)["solution"] == ""
        assert to_form("rows", Dataset.from_list([row, row | {"answer": "7"}]))["solution"][:] == ["\\boxed{7}"]

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"correctness_math_verify": None, "correctness_llama": [False, False, True]}, TRACE + "!"),
            ({"correctness_math_verify": [False] * 3}, WORKED),
            ({"correctness_math_verify": None}, WORKED),
            ({"correctness_math_verify": [True]}, "<think>\n8\n</think>\n\n\\boxed{8}"),
            ({"generations": [None, None, TRACE]}, TRACE),
            ({"generations": None}, WORKED),
            ({"target": SHOWN}, WORKED),
        ],
    )
    def test_generations_with_marks(self, change, expected):
        row = MATHS["open-r1/OpenR1-Math-220k"][0] | change
        assert read_row(row)["demonstration"] == [{"role": "assistant", "content": expected}]

    def test_the_first_column_that_is_not_empty_counts(self):
        assert read_row({"problem": "?", "answer": None, "final_answer": ["3"]})["solution"] == "\\boxed{3}"


class TestSets:
    def test_suites_name_sets(self):
        assert {name for names in SUITES.values() for name in names} <= set(SETS)

    @pytest.mark.parametrize("name", SETS)
    @pytest.mark.parametrize("form", ["jsonl", "splits"])
    def test_local_copy(self, name, form, tmp_path):
        row = CHOICES[SETS[name].hub] if SETS[name].hub in CHOICES else MATHS[SETS[name].hub][0]
        write([row], tmp_path / (name if form == "splits" else f"{name}.{form}"), form)
        rows = load_set(name, tmp_path)
        assert rows.column_names == ["prompt", "solution", "level", "subject"] and len(rows) == 1

    def test_unreachable(self, tmp_path):
        with pytest.raises(
            ValueError, match="dataset='math-ai/aime24' with split='test' cannot be loaded .*; give"
        ) as e:
            load_set("aime24", tmp_path)
        assert "\n" not in str(e.value)
        with pytest.raises(ValueError, match="set='aime' is not known; choose from: aime24"):
            load_set("aime")

    def test_json_list(self, tmp_path):
        (tmp_path / "aime25.json").write_text(json.dumps([MATHS["math-ai/aime25"][0]]))
        assert load_set("aime25", tmp_path)[0]["solution"] == "\\boxed{70}"
