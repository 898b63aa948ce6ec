"""The grader as a reward: from any thread, in a forked process, within its budget, and never fooled."""

import multiprocessing
import threading
import time

import psutil
import pytest
from hostile import hostile_pairs

from trl_amft.grading import Grader, default_grader, grader, maths_reward
from trl_amft.grading.grader import is_monster


def graded(answers, golds, **kwargs):
    made = Grader(**{"batch_seconds": 60, "workers": 1, **kwargs})
    try:
        return made.grade([f"\\boxed{{{answer}}}" for answer in answers], golds), made
    finally:
        made.close()


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


class TestGrading:
    def test_cheap_comparisons_start_no_process(self):
        made = Grader()
        verdicts = made.grade(
            ["\\boxed{5}", "\\boxed{6}", "ANSWER: B", "", "\\boxed{x+1}", "\\boxed{" + "(" * 99 + ")" * 99 + "}"],
            ["5", "5", "\\boxed{B}", "5", "x + 1", "5"],
        )
        assert [verdict.correct for verdict in verdicts] == [True, False, True, False, True, False]
        assert made.process_ids() == [] and made._pool is None

    def test_each_pair_is_compared_once(self, monkeypatch):
        calls = []

        class Recorder:
            def __init__(self, **kwargs):
                pass

            def compare(self, pairs, budget):
                calls.append(list(pairs))
                return ["same" if answer == "\\sqrt{12}" else "budget" for _, answer in pairs]

        monkeypatch.setattr(grader, "FormulaPool", Recorder)
        made = Grader()
        texts, golds = ["\\boxed{\\sqrt{12}}", "\\boxed{\\sqrt{13}}"] * 3, ["2\\sqrt{3}"] * 6
        for _ in range(2):
            verdicts = made.grade(texts, golds)
            assert [v.correct for v in verdicts] == [True, False] * 3
            assert [v.undecided for v in verdicts] == [None, "budget"] * 3
        # What had no time is tried again, what was decided is not.
        assert calls == [[("2\\sqrt{3}", "\\sqrt{12}"), ("2\\sqrt{3}", "\\sqrt{13}")], [("2\\sqrt{3}", "\\sqrt{13}")]]

    def test_what_may_take_long_comes_last(self, monkeypatch):
        order = []

        class Recorder:
            def __init__(self, **kwargs):
                pass

            def compare(self, pairs, budget):
                order.extend(answer for _, answer in pairs)
                return ["different"] * len(pairs)

        monkeypatch.setattr(grader, "FormulaPool", Recorder)
        Grader().grade([f"\\boxed{{{a}}}" for a in ("9^{9^9}", "9!", "\\sqrt{123}", "\\pi")], ["x"] * 4)
        assert order == ["\\pi", "\\sqrt{123}", "9!", "9^{9^9}"]

    def test_cache_is_bounded(self):
        _, made = graded([f"x+{n}+1" for n in range(5)], ["x"] * 5, cache_size=3)
        assert [answer for _, answer in made._cache] == ["x+2+1", "x+3+1", "x+4+1"]

    def test_timeouts_are_told_apart_from_wrong_answers(self):
        (slow, wrong, right), _ = graded(
            ["9^{9^{9}}+1", "\\sqrt{11}", "\\sqrt{12}"], ["2\\sqrt{3}"] * 3, item_seconds=0.5
        )
        assert (slow.correct, slow.undecided) == (False, "time")
        assert (wrong.correct, wrong.undecided) == (False, None) and right.correct

    @pytest.mark.parametrize(
        ("answer", "monster"),
        [
            ("9^{9^{9^9}}", True),
            ("(((9^9)^9)^9)", False),
            ("9" * 400, True),
            ("2^{1000000}", True),
            ("99999!", True),
            ("(9!)!", True),
            ("(" * 26 + ")" * 26, True),
            ("(" * 25 + ")" * 25, False),
            ("2^{2023}", False),
            ("2023!", False),
            ("e^{x^{2}}", False),
            ("\\frac{x^{2}+y^{2}}{z^{2}}", False),
            ("9^9^9^9", True),
            ("a^2+b^2+c^2", False),
            ("2^3 \\cdot 3^2 \\cdot 5^2", False),
            ("x^3+3x^2y+3xy^2+y^3", False),
        ],
    )
    def test_monsters(self, answer, monster):
        assert is_monster(answer) == monster

    def test_a_monster_is_right_where_the_gold_is_one(self):
        (same, other), made = graded(["7^{7^{7^7}}", "7^{7^{7^8}}"], ["7^{7^{7^7}}"] * 2, item_seconds=0.5)
        assert same.correct and not other.correct

    def test_arguments(self):
        with pytest.raises(ValueError, match="batch_seconds=0 must be positive"):
            Grader(batch_seconds=0)


class TestReward:
    def test_conversations_and_texts(self):
        messages = [[{"role": "assistant", "content": "\\boxed{5}"}], [{"role": "assistant", "content": None}]]
        assert maths_reward(prompts=["?"] * 2, completions=messages, solution=["5", "5"]) == [1.0, 0.0]
        assert maths_reward(completions=["\\boxed{5}", "ANSWER: C"], solution=["\\boxed{5}", "C"]) == [1.0, 1.0]

    def test_without_a_gold(self):
        assert maths_reward(completions=["\\boxed{5}"] * 2, solution=["", None]) == [None, None]

    def test_number_of_timeouts_is_logged(self, monkeypatch):
        made, logged = Grader(workers=1, item_seconds=0.5), []
        monkeypatch.setattr("trl_amft.grading.rewards.default_grader", lambda: made)
        rewards = maths_reward(
            completions=["\\boxed{9^{9^{9}}+1}", "\\boxed{5}", "\\boxed{8^{8^{9}}}"],
            solution=["5"] * 3,
            log_metric=lambda *pair: logged.append(pair),
        )
        made.close()
        assert rewards == [0.0, 1.0, 0.0] and logged == [("grader/timed_out", 2.0)]

    def test_one_grader_per_process(self):
        assert default_grader() is default_grader()

    def test_forked_process_makes_its_own(self):
        def child(results):
            # A pair that the parent has not compared: the answer takes a pool of its own.
            results.put(maths_reward(completions=["\\boxed{\\sqrt{12}+1}"], solution=["2\\sqrt{3}+1"]))
            default_grader().close()

        assert maths_reward(completions=["\\boxed{\\sqrt{12}}"], solution=["2\\sqrt{3}"]) == [1.0]
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        process = context.Process(target=child, args=(results,))
        process.start()
        try:
            assert results.get(timeout=60) == [1.0]
            process.join(60)
        finally:
            process.kill()
        # The parent's pool is still its own.
        assert maths_reward(completions=["\\boxed{\\sqrt{12}+0}"], solution=["2\\sqrt{3}"]) == [1.0]


class TestUndone:
    @pytest.mark.parametrize(
        ("problem", "gold", "answer"),
        [
            ("Compute $\\frac{10}{7} + \\frac{7}{2}$.", "\\frac{69}{14}", "\\frac{10}{7} + \\frac{7}{2}"),
            ("Compute 10/7 + 7/2.", "\\frac{69}{14}", "\\frac{7}{2}+\\frac{10}{7}"),
            ("Compute $\\gcd(308,44)$.", "44", "\\gcd(44,308)"),
            ("Solve $-72 \\le 7x + 26 < 12$.", "[-14,-2)", "-72 <= 7x + 26 < 12"),
            ("Solve $x^2-x-6<0$.", "(-2,3)", "x^2-x-6<0"),
            ("Solve $|2x-1|<5$.", "(-2,3)", "\\{x : |2x-1|<5\\}"),
            ("Factor $x^{2} - 1$.", "(x-1)(x+1)", "x^2-1"),
            ("Solve $|x| \\le 3$.", "[-3,3]", "|x| \\leq 3"),
            ("Compute 5!", "120", "5!"),
            ("Compute $2^{10}$.", "1024", "2^{10}"),
            ("Tom has 5 apples and buys 7.", "12", "5+7"),
        ],
    )
    def test_the_problem_again_is_no_answer(self, problem, gold, answer):
        completion = [[{"role": "assistant", "content": f"\\boxed{{{answer}}}"}]]
        assert maths_reward(completion, [gold], prompts=[[{"role": "user", "content": problem}]]) == [0.0]

    @pytest.mark.parametrize(
        ("problem", "gold", "answer"),
        [
            ("Compute 10/7 + 7/2.", "\\frac{69}{14}", "\\frac{10}{7}+\\frac{7}{2}=\\frac{69}{14}"),
            ("Subsets of ten things but the empty one? 10 hints.", "1023", "2^{10}-1"),
            ("12 dogs and no other pet: how many pets?", "12", "(12)"),
            ("Solve $x^2-x-6<0$, 2 and 3.", "(-2,3)", "-2<x<3"),
            ("Solve $2x>6$, not 3.", "(3,\\infty)", "x > 3"),
            ("Which is irreducible, $x^2+1$ or $x^2-1$?", "x^{2}+1", "x^2+1"),
            ("Which equals it, $1/(x+1)$ or $1/(x-1)$?", "\\frac{1}{x+1}", "1/(x+1)"),
            ("Find the range of $f(x)=x^2+3$.", "[3,\\infty)", "f(x) \\ge 3"),
            ("Where is $x^2<2$?", "(-\\sqrt{2},\\sqrt{2})", "-\\sqrt{2}<x<\\sqrt{2}"),
        ],
    )
    def test_what_is_worked_out_is_right(self, problem, gold, answer):
        assert maths_reward([f"\\boxed{{{answer}}}"], [gold], prompts=[problem]) == [1.0]


class TestHostile:
    """A part of what `benchmarks/grader.py hostile` runs in full."""

    def test_set(self):
        pairs = hostile_pairs()
        assert len(set(pairs)) == 1_000 and hostile_pairs(50) == pairs[:50]

    @pytest.mark.parametrize("threads", [1, 8])
    def test_none_is_correct_none_hangs_and_none_is_left(self, threads):
        pairs = hostile_pairs(200)
        made = Grader(batch_seconds=4, item_seconds=1.0, workers=2)
        verdicts, others = [], children()

        def work(part):
            verdicts.extend(made.grade([text for _, text, _ in part], [gold for _, _, gold in part]))

        # Its start is not part of the budget.
        made.grade(["\\boxed{\\sqrt{4}+0}"], ["2"])
        running = [threading.Thread(target=work, args=(pairs[first::threads],)) for first in range(threads)]
        started = time.monotonic()
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert time.monotonic() - started < 20
        assert len(verdicts) == 200 and not any(verdict.correct for verdict in verdicts)
        assert {verdict.undecided for verdict in verdicts} <= {None, "time", "budget"}
        assert len(children() - others) >= 2
        made.close()
        end = time.monotonic() + 10
        while children() - others and time.monotonic() < end:
            time.sleep(0.05)
        assert not children() - others
