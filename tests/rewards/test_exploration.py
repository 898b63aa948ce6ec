"""The exploration reward: exact values, defects of the published form, and that hopeless prompts teach no length."""

from types import SimpleNamespace

import pytest
import torch

import toy
from trl_amft import AMFTTrainer
from trl_amft.cli.rewards import with_exploration
from trl_amft.cli.usage import UsageError
from trl_amft.rewards import ExplorationReward, exploration
from trl_amft.rewards.exploration import exploration_term, groups_vary


def given(completions, correct, **columns):
    return correct


def reward(correct, tokens, prompts=None, **options):
    around = ExplorationReward(given, **options)
    prompts = ["p"] * len(correct) if prompts is None else prompts
    ids = [[0] * count for count in tokens]
    return around(prompts=prompts, completions=["x"] * len(correct), completion_ids=ids, correct=correct)


class TestValues:
    @pytest.mark.parametrize(
        ("correct", "tokens", "expected"),
        [
            # Right and wrong, short and long: the term is .2 · min(tokens / 1000, 1).
            ([1, 0], [100, 1000], [1.02, 0.2]),
            ([1, 0, 0, 1], [0, 1, 500, 5000], [1.0, 0.0002, 0.1, 1.2]),
            # Nothing varies: nothing is added.
            ([0, 0, 0], [10, 500, 5000], [0, 0, 0]),
            ([1, 1], [10, 5000], [1, 1]),
            # Not applicable.
            ([None, 1, 0], [10, 500, 500], [None, 1.1, 0.1]),
            ([None, 1], [10, 500], [None, 1]),
        ],
    )
    def test_table(self, correct, tokens, expected):
        assert reward(correct, tokens, weight=0.2, full_length=1000) == pytest.approx(expected)

    def test_right_is_always_worth_more_than_wrong(self):
        """The published form gives −9 to a right answer of 100 tokens and −1 to a wrong one of 1,000."""
        short_and_right, long_and_wrong = reward([1, 0], [1, 10**5], weight=0.99, full_length=1)
        assert short_and_right > long_and_wrong and 0.0 <= long_and_wrong < 1.0

    def test_an_empty_completion_is_an_ordinary_one(self):
        """The published form divides by zero and then gives it more than other wrong answers."""
        empty, longer = reward([0, 0, 1], [0, 10, 10])[:2]
        assert empty == 0.0 < longer

    def test_groups_are_neighbours_with_the_same_prompt(self):
        assert groups_vary(["a", "a", "b", "b", "a", "a"], [0, 1, 0, 0, 1, 1]) == [True, True, *[False] * 4]
        rewards = reward([1, 0, 0, 0], [500] * 4, ["a", "a", "b", "b"], full_length=1000)
        assert rewards == pytest.approx([1.1, 0.1, 0.0, 0.0])

    def test_messages_and_pictures_are_told_apart(self):
        prompt = [{"role": "user", "content": "which?"}]
        around = ExplorationReward(given)
        columns = {"completions": ["x"] * 4, "completion_ids": [[0]] * 4, "correct": [1, 0, 0, 0]}
        rewards = around(prompts=[prompt] * 4, image=["a.png", "a.png", "b.png", "b.png"], **columns)
        assert [value > floor for value, floor in zip(rewards, (1, 0, 0, 0), strict=True)] == [
            True,
            True,
            False,
            False,
        ]


class TestTwoProcesses:
    """The second process, with what the first one would send."""

    @pytest.fixture
    def gathered(self, monkeypatch):
        calls = []

        def gather(own):
            calls.append(own)
            if isinstance(own[0], int):
                return [3, *own]
            # Another prompt, and two rollouts of the group that goes on here, one of them right.
            return [("other", 0.0), (own[0][0], 1.0), (own[0][0], 0.0), *own]

        monkeypatch.setattr(exploration, "gather_object", gather)
        monkeypatch.setattr(exploration, "PartialState", lambda: SimpleNamespace(process_index=1))
        return calls

    def test_a_group_may_lie_on_both(self, gathered):
        rewards = reward([0, 0, 0, 0], [500] * 4, ["a", "a", "b", "b"], full_length=1000)
        assert rewards == pytest.approx([0.1, 0.1, 0.0, 0.0])

    def test_a_process_that_fails_does_not_keep_the_other_waiting(self, gathered):
        def fails(**given):
            raise ZeroDivisionError("no answer")

        with pytest.raises(ZeroDivisionError):
            ExplorationReward(fails)(prompts=["p"] * 2, completions=["x"] * 2, completion_ids=[[0]] * 2)
        assert [len(own) for own in gathered] == [1, 2]


class TestJudge:
    def test_shares_the_term_and_sees_active_rows_only(self):
        seen = []

        def judge(prompts, completions, completion_ids, correct, **columns):
            seen.append((prompts, correct))
            return [0.5, 7.0]

        rewards = reward(
            [1, 0, 0, 0], [100, 0, 9, 9], ["a", "a", "b", "b"], full_length=100, judge=judge, judge_share=0.25
        )
        assert seen == [(["a", "a"], [1, 0])]
        # .2 · (.75 · 1 + .25 · .5), and an opinion above 1 counts 1.
        assert rewards == pytest.approx([1.175, 0.05, 0.0, 0.0])

    def test_without_an_opinion_length_counts(self):
        assert reward([1, 0], [50, 50], full_length=100, judge=lambda **given: [None, 0.0]) == pytest.approx(
            [1.1, 0.08]
        )

    def test_term(self):
        assert exploration_term(30, 10) == 1.0 and exploration_term(5, 10, -3.0, 0.5) == 0.25


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "line"),
        [
            ({"weight": 1.0}, r"weight=1.0 is out of range"),
            ({"weight": -0.1}, r"weight=-0.1 is out of range"),
            ({"full_length": 0}, r"full_length=0 is out of range"),
            ({"full_length": 2.5}, r"full_length=2.5 is out of range"),
            ({"judge_share": 1.1}, r"judge_share=1.1 is out of range"),
            ({"wieght": 0.1}, r"no argument wieght=0.1; did you mean 'weight'\?"),
            ({"judge": "toy:nobody"}, r"has no 'nobody'"),
        ],
    )
    def test_one_line(self, options, line):
        with pytest.raises(UsageError, match=line):
            with_exploration([given], [given], options)

    def test_needs_one_notion_of_right(self):
        with pytest.raises(UsageError, match="needs one reward that says what is right, found 2"):
            with_exploration([given, given], [given, given], {})

    def test_a_judge_writes_beside_all_completions(self):
        def judge(completions, log_extra, **given):
            log_extra("opinion", [f"{completion}?" for completion in completions])
            return [0.5] * len(completions)

        written = {}
        reward = ExplorationReward(lambda answers, **given: answers, judge=judge)
        given = {"prompts": ["p", "p", "q", "q"], "completions": list("abcd"), "completion_ids": [[0]] * 4}
        reward(**given, answers=[1.0, 1.0, 0.0, 1.0], log_extra=written.__setitem__)
        # Nothing of the group that is not active.
        assert written == {"opinion": [None, None, "c?", "d?"]}

    def test_takes_the_place_of_correctness(self):
        other, around = with_exploration([toy.reward, given], [given], {"judge": "toy:dense_reward"})
        assert other is toy.reward and around.correctness is given and around.judge is toy.dense_reward

    @pytest.mark.parametrize("answer", [[1.0], ["x", object()]])
    def test_a_failing_correctness_is_told(self, answer):
        def fails(**given):
            if len(answer) == 2:
                raise ZeroDivisionError("no answer")
            return answer

        with pytest.raises((ValueError, ZeroDivisionError), match="1 values for 2 completions|no answer"):
            ExplorationReward(fails)(prompts=["p"] * 2, completions=["x"] * 2, completion_ids=[[0]] * 2)


def hopeless(completions, **columns):
    return [0.0] * len(completions)


def length_alone(completion_ids, **columns):
    return [exploration_term(len(ids), 8) for ids in completion_ids]


def run(tmp_path, reward_func):
    """Ends of completions are learned in a run before, so that there is a length to change."""
    model, tokenizer = toy.model()
    common = {"mixing_policy": "fixed", "max_steps": 12, "max_completion_length": 8, "scale_rewards": "none"}
    common |= {"per_device_train_batch_size": 16, "per_device_demonstration_batch_size": 16}
    data = {"train_dataset": toy.prompt_set(), "processing_class": tokenizer, "reward_funcs": reward_func}
    AMFTTrainer(
        model=model,
        args=toy.config(tmp_path, sft_warmup_steps=12, **common),
        demonstration_dataset=toy.demonstration_set(lengths=True),
        **data,
    ).train()
    trainer = AMFTTrainer(model=model, args=toy.config(tmp_path, mu_init=0.0, **common), **data)
    before = toy.parameters(trainer)
    trainer.train()
    after = toy.parameters(trainer)
    rows = [log for log in trainer.state.log_history if "completions/mean_length" in log]
    return all(torch.equal(before[name], after[name]) for name in before), rows


def test_where_every_answer_is_wrong_no_length_is_learned(tmp_path):
    unchanged, rows = run(tmp_path, ExplorationReward(hopeless, weight=0.5, full_length=8))
    assert unchanged
    assert len(rows) == 12 and all(row["exploration/active"] == 0.0 for row in rows)
    assert "exploration/term" not in rows[0] and rows[0]["rewards/exploration_reward/mean"] == 0.0


def test_the_same_run_learns_length_where_it_is_the_reward(tmp_path):
    """Otherwise the test above would show nothing."""
    unchanged, rows = run(tmp_path, length_alone)
    lengths = [row["completions/mean_length"] for row in rows]
    assert not unchanged and sum(lengths[-3:]) > sum(lengths[:3]) + 3.0
