import time
from itertools import combinations_with_replacement, permutations, product

import pytest
from countdown_prompts import problem_of

from trl_amft.tasks import TASKS, Task, load_countdown, load_task
from trl_amft.tasks.countdown import Problem, domain_of
from trl_amft.tasks.countdown_answers import Step, calculate, outcome_reward, parse_answer, solve, steps_reward


MULTISETS = list(combinations_with_replacement(range(1, 13), 3))


@pytest.fixture(scope="module")
def clean() -> Task:
    return load_countdown()


def multisets(dataset) -> set[tuple[int, ...]]:
    return {tuple(sorted(numbers)) for numbers in dataset["numbers"]}


def problem_keys(dataset) -> set[tuple[tuple[int, ...], int]]:
    return {
        (tuple(sorted(numbers)), target) for numbers, target in zip(dataset["numbers"], dataset["target"], strict=True)
    }


class TestProblems:
    def test_there_are_364_multisets_and_2799_problems(self):
        assert len(MULTISETS) == 364
        assert sum(len(solve(numbers)) for numbers in MULTISETS) == 2799

    def test_solver_reaches_what_brute_force_over_all_integers_reaches(self):
        for numbers in MULTISETS:
            reachable = set()
            for (a, b, c), first, second in product(permutations(numbers), "+-*", "+-*"):
                result = calculate(a, first, b)
                reachable |= {calculate(result, second, c), calculate(c, second, result)}
            assert set(solve(numbers)) == {target for target in reachable if 1 <= target <= 40}

    def test_solutions_of_a_problem_by_hand(self):
        # 1 2 4 -> 9: 4*2=8 and one more; (4+... )*2 gives 10, (2+1)*4 gives 12, nothing else gives 9.
        assert solve((1, 2, 4))[9] == [(Step(4, "*", 2, 8), Step(8, "+", 1, 9))]

    @pytest.mark.parametrize(
        ("numbers", "target", "domain"),
        [
            ((1, 2, 3), 6, "sums"),  # also 1 * 2 * 3
            ((2, 3, 9), 8, "differences"),
            ((2, 3, 9), 4, "differences"),
            ((1, 2, 4), 9, "products"),
            ((3, 4, 5), 35, "products"),
        ],
    )
    def test_domains_by_hand(self, numbers, target, domain):
        assert domain_of(Problem(numbers, target)) == domain

    def test_first_results_of_solutions_are_positive(self):
        assert all(
            first.result > 0 for numbers in MULTISETS for listed in solve(numbers).values() for first, _ in listed
        )


class TestSplit:
    def test_100_multisets_are_held_out_and_none_is_trained_on(self):
        everything = load_countdown(held_out_problems=None, orders_per_problem=1)
        assert len(multisets(everything.held_out_dataset)) == 100
        assert len(multisets(everything.train_dataset)) == 264
        assert not multisets(everything.train_dataset) & multisets(everything.held_out_dataset)
        together = problem_keys(everything.train_dataset) | problem_keys(everything.held_out_dataset)
        assert len(together) == 2799

    def test_demonstrations_never_touch_a_held_out_multiset(self, clean):
        held_out = multisets(load_countdown(held_out_problems=None, train_problems=1).held_out_dataset)
        shown = {tuple(sorted(problem_of(prompt)[0])) for prompt in clean.demonstration_dataset["prompt"]}
        assert len(shown) == 264
        assert not shown & held_out

    @pytest.mark.parametrize("seed", range(20))
    def test_every_seed_holds_out_at_least_500_problems(self, seed):
        dataset = load_countdown(seed=seed, train_problems=1).held_out_dataset
        assert len(dataset) == 500
        assert len(problem_keys(dataset)) == 500

    def test_prompt_spells_the_row(self, clean):
        for dataset in (clean.train_dataset, clean.held_out_dataset):
            for row in dataset.to_list():
                assert problem_of(row["prompt"]) == (row["numbers"], row["target"])

    def test_order_of_the_numbers_is_random(self, clean):
        for dataset in (clean.held_out_dataset, load_countdown(orders_per_problem=1).train_dataset):
            ascending = sum(numbers == sorted(numbers) for numbers in dataset["numbers"])
            assert 0.1 < ascending / len(dataset) < 0.35

    def test_each_training_problem_appears_in_the_orders_asked_for(self):
        for orders in (1, 2, 6):
            rows = load_countdown(train_problems=200, orders_per_problem=orders).train_dataset
            prompts = rows["prompt"]
            assert len(set(prompts)) == len(prompts)
            counts: dict[tuple, int] = {}
            for numbers, target in zip(rows["numbers"], rows["target"], strict=True):
                key = (tuple(sorted(numbers)), target)
                counts[key] = counts.get(key, 0) + 1
            assert len(counts) == 200
            for (numbers, _), count in counts.items():
                assert count == min(orders, len(set(permutations(numbers))))

    def test_same_seed_same_data_other_seed_other_split(self, clean):
        again, other = load_countdown(), load_countdown(seed=1, train_problems=1)
        assert again.train_dataset[:] == clean.train_dataset[:]
        assert again.held_out_dataset[:] == clean.held_out_dataset[:]
        assert again.demonstration_dataset[:] == clean.demonstration_dataset[:]
        assert problem_keys(other.held_out_dataset) != problem_keys(clean.held_out_dataset)

    def test_numbers_of_problems_can_be_chosen(self):
        task = load_countdown(train_problems=50, held_out_problems=700)
        assert len(problem_keys(task.train_dataset)) == 50
        assert len(task.held_out_dataset) == 700


class TestRewards:
    @pytest.mark.parametrize(
        ("answer", "steps", "outcome"),
        [
            ("3+4=7,7*5=35", 1.0, 1.0),
            ("4+3=7,5*7=35", 1.0, 1.0),
            ("3+4=7,7*5=36", 0.0, 0.0),  # false second step, other target
            ("3+4=8,8*5=35", 0.0, 1.0),  # false steps, the target stated
            ("3*4=12,12+5=35", 0.0, 1.0),  # only the last step is false
            ("3+4=8,7*5=35", 0.0, 0.0),  # second step ignores the first
            ("3*5=15,15+4=19", 0.0, 0.0),  # true, elsewhere
            ("3+4=7,7*7=35", 0.0, 0.0),  # a number used twice
            ("30+5=35,35*1=35", 0.0, 0.0),  # numbers that were not given
            ("7*5=35,35+0=35", 0.0, 0.0),
            ("3+4=7", 0.0, 0.0),
            ("7*5=35", 0.0, 0.0),
            ("3+4=7,7*5=35,", 0.0, 0.0),
            ("3+4=7,7*5=35\n", 0.0, 0.0),
            ("3 + 4 = 7, 7 * 5 = 35", 0.0, 0.0),
            ("03+4=7,7*5=35", 0.0, 0.0),
            ("3+4=7,7*5=35,35+0=35", 0.0, 0.0),
        ],
    )
    def test_hand_made_answers_to_3_4_5_35(self, answer, steps, outcome):
        problem = {"completions": [answer], "numbers": [[5, 3, 4]], "target": [35]}
        assert steps_reward(**problem) == [steps]
        assert outcome_reward(**problem) == [outcome]

    @pytest.mark.parametrize("answer", ["3-5=-2,-2+8=6", "3-5=-2,8+-2=6", "5-3=2,8-2=6", "3-8=-5,-5--5=6"])
    def test_negative_intermediate_results_are_read_with_their_sign(self, answer):
        right = 0.0 if answer == "3-8=-5,-5--5=6" else 1.0
        assert steps_reward(completions=[answer], numbers=[[3, 5, 8]], target=[6]) == [right]

    def test_minus_a_negative_result(self):
        assert steps_reward(completions=["3-5=-2,8--2=10"], numbers=[[3, 5, 8]], target=[10]) == [1.0]

    def test_repeated_numbers_are_counted(self):
        assert steps_reward(completions=["4+4=8,8*2=16"], numbers=[[4, 2, 4]], target=[16]) == [1.0]
        assert steps_reward(completions=["4+4=8,8*2=16"], numbers=[[4, 2, 2]], target=[16]) == [0.0]

    def test_result_equal_to_a_number_may_stand_on_either_side(self):
        # 4*1=4 leaves a 4 on both sides of the second step: one is the result, the other the third number.
        assert steps_reward(completions=["4*1=4,4+4=8"], numbers=[[1, 4, 4]], target=[8]) == [1.0]
        assert steps_reward(completions=["4*1=4,4+4=8"], numbers=[[1, 4, 3]], target=[8]) == [0.0]

    def test_one_reward_per_completion_and_other_columns_are_ignored(self):
        rewards = steps_reward(
            prompts=["a", "b"],
            completions=["3+4=7,7*5=35", "nonsense"],
            numbers=[[3, 4, 5], [3, 4, 5]],
            target=[35, 35],
            trainer_state=None,
        )
        assert rewards == [1.0, 0.0]

    def test_format_credit_goes_to_incorrect_answers_of_the_right_form(self):
        task = load_countdown(train_problems=1, format_credit=0.1)
        (reward_func,) = task.reward_funcs
        assert reward_func.__name__ == "steps_reward"
        completions = ["3+4=7,7*5=35", "3+4=7,7*5=36", "thirty-five"]
        columns = {"numbers": [[3, 4, 5]] * 3, "target": [35] * 3}
        assert reward_func(completions=completions, **columns) == [1.0, 0.1, 0.0]
        assert steps_reward(completions=completions, **columns) == [1.0, 0.0, 0.0]

    @pytest.mark.parametrize(
        "hostile",
        [
            "",
            "1" * 1_000_000,
            "3+4=7,7*5=" + "9" * 1_000_000,
            "9" * 5_000 + "*" + "9" * 5_000 + "=1,1+1=2",
            "3+4=7,7*5=35" * 100_000,
            "٣+٤=٧,٧*٥=٣٥",
            "３+４=７,７*５=３５",
            "3+4=7,7*5=3٥",
            "3²+4=7,7*5=35",
            "__import__('os').system('true')",
            "-0+4=4,4*5=20",
            "3+4=7\x00,7*5=35",
        ],
        ids=lambda text: ascii(text[:12]),
    )
    def test_hostile_text_is_worth_nothing_and_costs_nothing(self, hostile):
        start = time.perf_counter()
        columns = {"completions": [hostile], "numbers": [[3, 4, 5]], "target": [35]}
        assert steps_reward(**columns) == [0.0]
        assert outcome_reward(**columns) == [0.0]
        assert time.perf_counter() - start < 0.1

    def test_parser_reads_exact_integers(self):
        assert parse_answer("12*12=144,144-9999=-9855") == (Step(12, "*", 12, 144), Step(144, "-", 9999, -9855))
        assert parse_answer("12*12=144,144-99999=0") is None


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"demonstration_quality": 1.5}, "demonstration_quality=1.5 must lie between 0 and 1"),
            ({"format_credit": -0.1}, "format_credit=-0.1 must lie between 0 and 1"),
            ({"demonstration_defect": "typos"}, "demonstration_defect='typos'.*wrong_answer, wrong_steps, off_task"),
            ({"reward": "vibes"}, "reward='vibes'.*steps, outcome"),
            ({"orders_per_problem": 0}, "orders_per_problem=0 must be at least 1"),
            ({"train_problems": 0}, "train_problems=0 must be at least 1"),
            ({"held_out_problems": 2000}, "held_out_problems=2000 is more than the"),
            ({"train_problems": 9999}, "train_problems=9999 is more than the"),
        ],
    )
    def test_refused_in_one_line(self, arguments, message):
        with pytest.raises(ValueError, match=message) as refusal:
            load_countdown(**arguments)
        assert "\n" not in str(refusal.value)

    def test_tasks_are_loaded_by_name(self):
        task = load_task("countdown", train_problems=5)
        assert isinstance(task, Task)
        assert len(problem_keys(task.train_dataset)) == 5
        assert TASKS["countdown"] is load_countdown

    def test_unknown_task_and_unknown_argument_are_refused_in_one_line(self):
        with pytest.raises(ValueError, match="task='chess' is not known; choose one of: countdown"):
            load_task("chess")
        with pytest.raises(ValueError, match="task argument colour='red'.*demonstration_quality") as refusal:
            load_task("countdown", colour="red")
        assert "\n" not in str(refusal.value)

    def test_outcome_reward_is_chosen_by_name(self):
        assert load_countdown(train_problems=1, reward="outcome").reward_funcs == [outcome_reward]
        assert load_countdown(train_problems=1).reward_funcs == [steps_reward]
