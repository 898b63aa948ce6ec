"""Demonstrations of Countdown: right ones, each kind of defect, and exact shares of both."""

import random

import pytest
from countdown_prompts import problem_of, strict_reward

from trl_amft.tasks import Task, load_countdown
from trl_amft.tasks.countdown import DEFECTS, Problem, demonstrate
from trl_amft.tasks.countdown_answers import outcome_reward, parse_answer


LONGEST_ANSWER = len("4*12=48,48-10=38")


@pytest.fixture(scope="module")
def clean() -> Task:
    return load_countdown()


class TestDemonstrations:
    def test_every_correct_demonstration_earns_the_full_reward(self, clean):
        rows = clean.demonstration_dataset
        assert len(rows) == len(clean.train_dataset)
        assert set(rows["demonstration_source"]) == {"correct"}
        assert all(map(strict_reward, rows["prompt"], rows["completion"]))
        assert max(map(len, rows["completion"])) <= LONGEST_ANSWER + 1

    @pytest.mark.parametrize("quality", [0.0, 0.3, 0.5, 1.0])
    @pytest.mark.parametrize("defect", DEFECTS[:3])
    def test_share_of_spoilt_problems_is_exact(self, quality, defect):
        task = load_countdown(
            train_problems=200,
            orders_per_problem=1,
            demonstration_quality=quality,
            demonstration_defect=defect,
        )
        sources = task.demonstration_dataset["demonstration_source"]
        assert len(sources) == 200
        assert sources.count("correct") == round(200 * quality)
        assert sources.count(defect) == 200 - round(200 * quality)

    def test_all_orders_of_a_problem_share_its_defect(self):
        rows = load_countdown(train_problems=100, demonstration_quality=0.5).demonstration_dataset.to_list()
        sources: dict[tuple, set[str]] = {}
        for row in rows:
            numbers, target = problem_of(row["prompt"])
            sources.setdefault((tuple(sorted(numbers)), target), set()).add(row["demonstration_source"])
        assert len(sources) == 100
        assert all(len(kinds) == 1 for kinds in sources.values())

    def test_lower_quality_spoils_more_problems_and_leaves_the_others_as_they_were(self):
        def by_prompt(quality):
            rows = load_countdown(train_problems=200, demonstration_quality=quality).demonstration_dataset
            return {row["prompt"]: (row["completion"], row["demonstration_source"]) for row in rows.to_list()}

        best, better, worse = by_prompt(1.0), by_prompt(0.8), by_prompt(0.4)
        assert all(better[prompt] == shown for prompt, shown in worse.items() if shown[1] == "correct")
        assert all(worse[prompt] == shown for prompt, shown in better.items() if shown[1] == "wrong_answer")
        assert all(best[prompt] == shown for prompt, shown in worse.items() if shown[1] == "correct")

    def test_wrong_answer_has_true_steps_with_the_given_numbers_that_end_elsewhere(self):
        rows = load_countdown(orders_per_problem=1, demonstration_quality=0.0).demonstration_dataset.to_list()
        for row in rows:
            numbers, target = problem_of(row["prompt"])
            end = parse_answer(row["completion"])[1].result
            assert end != target
            assert strict_reward(f"{' '.join(map(str, numbers))}:{end}>", row["completion"]) == 1.0

    def test_wrong_steps_begin_falsely_state_the_target_and_pass_the_outcome_reward(self):
        task = load_countdown(orders_per_problem=1, demonstration_quality=0.0, demonstration_defect="wrong_steps")
        for row in task.demonstration_dataset.to_list():
            numbers, target = problem_of(row["prompt"])
            first, second = parse_answer(row["completion"])
            assert not first.is_true
            assert second.result == target
            assert strict_reward(row["prompt"], row["completion"]) == 0.0
            assert outcome_reward(completions=[row["completion"]], numbers=[numbers], target=[target]) == [1.0]

    def test_off_task_demonstrations_are_true_sums_in_words_under_their_own_prompts(self):
        task = load_countdown(demonstration_quality=0.0, demonstration_defect="off_task")
        for row in task.demonstration_dataset.to_list():
            a, plus, b, equals, total = row["completion"].split()
            assert (plus, equals) == ("plus", "is")
            assert int(a) + int(b) == int(total)
            assert row["prompt"] == f"{a} {b}>"
            assert parse_answer(row["completion"]) is None

    def test_easy_only_keeps_exactly_the_problems_that_addition_solves(self):
        task = load_countdown(demonstration_quality=0.0, demonstration_defect="easy_only")
        shown = set()
        for row in task.demonstration_dataset.to_list():
            assert strict_reward(row["prompt"], row["completion"]) == 1.0
            assert [step.operator for step in parse_answer(row["completion"])] == ["+", "+"]
            shown.add(row["prompt"])
        easy = {row["prompt"] for row in task.train_dataset.to_list() if row["target"] == sum(row["numbers"])}
        assert shown == easy

    def test_easy_only_at_half_quality_drops_only_the_hard_half(self):
        task = load_countdown(demonstration_quality=0.5, demonstration_defect="easy_only")
        for row in task.demonstration_dataset.to_list():
            numbers, target = problem_of(row["prompt"])
            assert row["demonstration_source"] == "correct" or target == sum(numbers)
        assert 0.5 < len(task.demonstration_dataset) / len(task.train_dataset) < 0.65

    def test_demonstration_of_a_single_problem_by_hand(self):
        problem = Problem((1, 2, 4), 9)
        assert demonstrate(problem, None, random.Random(0)) == (None, "4*2=8,8+1=9")
        assert demonstrate(problem, "easy_only", random.Random(0)) is None
        assert demonstrate(Problem((1, 1, 1), 3), "easy_only", random.Random(0)) == (None, "1+1=2,2+1=3")

    def test_paired_column_holds_the_demonstration_of_the_row(self):
        task = load_countdown(paired=True)
        paired = dict(zip(task.train_dataset["prompt"], task.train_dataset["demonstration"], strict=True))
        separate = dict(
            zip(task.demonstration_dataset["prompt"], task.demonstration_dataset["completion"], strict=True)
        )
        assert paired == separate

    def test_paired_column_is_none_where_the_prompt_has_no_demonstration(self):
        for defect in ("off_task", "easy_only"):
            rows = load_countdown(
                train_problems=600, demonstration_quality=0.5, demonstration_defect=defect, paired=True
            ).train_dataset.to_list()
            for row in rows:
                if row["demonstration"] is not None:
                    assert strict_reward(row["prompt"], row["demonstration"]) == 1.0
            missing = sum(row["demonstration"] is None for row in rows) / len(rows)
            assert 0.4 < missing < 0.55
