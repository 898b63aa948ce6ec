"""The start-up check: printed once, names every problem in one line, and changes nothing."""

import random

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets

import toy
from trl_amft import AMFTTrainer
from trl_amft.runtime.self_check import filter_by_reward, run_self_check, score_demonstrations


TITLE = "AMFT start-up check"
THINKING = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"


def trainer(
    tmp_path, demonstrations=None, train=None, reward=toy.reward, eval_dataset=None, tokenizer=None, **settings
):
    model, default = toy.model()
    return AMFTTrainer(
        model=model,
        reward_funcs=reward,
        args=toy.config(tmp_path, **settings),
        train_dataset=toy.prompt_set() if train is None else train,
        eval_dataset=eval_dataset,
        processing_class=tokenizer or default,
        demonstration_dataset=toy.demonstration_set() if demonstrations is None else demonstrations,
    )


def pairs(prompt, completion, count=3):
    return Dataset.from_dict({"prompt": [prompt] * count, "completion": [completion] * count})


def check(run, capsys):
    """Problems found, and what was printed."""
    capsys.readouterr()
    problems = run_self_check(run)
    printed = capsys.readouterr().out
    assert all(f"\n  PROBLEM: {problem}\n" in printed for problem in problems)
    assert all("\n" not in problem for problem in problems) and printed.count("PROBLEM") == len(problems)
    return problems, printed


def test_printed_once_and_training_goes_on(tmp_path, capsys):
    run = trainer(tmp_path, max_steps=3)
    run.train()
    assert capsys.readouterr().out.count(TITLE) == 1
    assert run.state.global_step == 3


def test_trackers_are_not_told_before_they_have_begun(tmp_path, capsys):
    told = []

    def reward(completions, **columns):
        told.append(list(run.args.report_to))
        return [1.0] * len(completions)

    run = trainer(tmp_path, reward=reward, report_to=["tensorboard"])
    check(run, capsys)
    assert told == [[]] and run.args.report_to == ["tensorboard"]


def test_report_of_a_sound_set(tmp_path, capsys):
    problems, printed = check(trainer(tmp_path), capsys)
    assert problems == []
    for part in (
        "  versions: trl 1.16",
        "  per step: 8 rollouts of 2 prompts, 2 demonstrations\n",
        "  demonstrations: 64 used\n",
        "  completion tokens of 64: median 2, max 2, limit 4\n",
        "  rewards of 64 demonstrations: mean 1\n",
        "  example, without loss: '0a:'\n",
        "  example, with loss:    '3<eos>'\n",
    ):
        assert part in printed


def test_it_leaves_no_trace(tmp_path, capsys):
    def logging_reward(completions, log_extra, log_metric, **kwargs):
        log_extra("seen", completions)
        log_metric("noise", torch.rand(()).item())
        return torch.rand(len(completions)).tolist()

    run = trainer(tmp_path, reward=logging_reward)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    check(run, capsys)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    assert not run._pending_extra_logs and not run._pending_metrics and not run._metrics["train"]
    assert run.demonstrations.consumed == 0


def test_dropped_rows_are_counted(tmp_path, capsys):
    train = Dataset.from_dict({"prompt": toy.prompts(5), "demonstration": ["3", None, "4", "", "x" * 9]})
    model, tokenizer = toy.model()
    run = AMFTTrainer(
        model=model,
        reward_funcs=toy.reward,
        args=toy.config(tmp_path),
        train_dataset=train,
        processing_class=tokenizer,
    )
    assert "  demonstrations: 2 absent, 1 too_long, 2 used\n" in check(run, capsys)[1]


def test_thinking_tag_is_doubled(tmp_path, capsys):
    def run(content, prompt=None):
        tokenizer = toy.model()[1]
        tokenizer.chat_template = THINKING
        demonstrations = pairs([{"role": "user", "content": "0a:"}], [{"role": "assistant", "content": content}])
        if prompt is not None:
            demonstrations = pairs(prompt, content)
        return trainer(
            tmp_path,
            demonstrations,
            reward=lambda completions, **kwargs: [1.0] * len(completions),
            tokenizer=tokenizer,
            max_demonstration_length=40,
        )

    problems, printed = check(run("<think>a</think>3", prompt="0a:<think>\n"), capsys)
    assert len(problems) == 1 and "<think> is doubled" in problems[0] and "strip it" in problems[0]
    assert "  example, without loss: '0a:<think>\\n'\n" in printed
    assert "  example, with loss:    '<think>a</think>3<eos>'\n" in printed
    # A conversation is rendered without the tag that the generation prompt has opened.
    for content in ("a</think>3", "<think>a</think>3", "<think>\na</think>3"):
        problems, printed = check(run(content), capsys)
        assert problems == [] and "  example, with loss:    'a</think>3<eos>'\n" in printed


def test_first_token_is_doubled(tmp_path, capsys):
    tokenizer = toy.model()[1]
    tokenizer.bos_token = "!"
    problems, _ = check(trainer(tmp_path, pairs("!!0a:", "3"), tokenizer=tokenizer), capsys)
    assert len(problems) == 1 and "two BOS tokens" in problems[0] and "remove" in problems[0]
    assert check(trainer(tmp_path, pairs("!0a:", "3"), tokenizer=tokenizer), capsys)[0] == []


def test_cut_demonstrations_have_no_end(tmp_path, capsys):
    long = pairs("0a:", "3 because")
    run = trainer(tmp_path, long, demonstration_truncation="truncate")
    problems, printed = check(run, capsys)
    assert len(problems) == 1
    assert problems[0].startswith("3 of 3 demonstrations are cut and have no EOS: raise max_demonstration_length=4")
    assert "  example, with loss:    '3 be'\n" in printed


def test_long_texts_are_shortened_where_it_does_not_matter(tmp_path, capsys):
    """Of a prompt the end is shown, which is the generation prompt; of a completion both ends."""
    run = trainer(tmp_path, pairs("0" + "a" * 400 + ":", "3" + "b" * 400), max_demonstration_length=500)
    printed = check(run, capsys)[1]
    assert f"  example, without loss: '…{'a' * 299}:'\n" in printed
    assert f"  example, with loss:    '3{'b' * 149} … {'b' * 145}<eos>'\n" in printed


def test_no_positive_reward(tmp_path, capsys):
    problems, printed = check(trainer(tmp_path, toy.demonstration_set(right=False)), capsys)
    assert len(problems) == 1 and "no demonstration of the sample has a positive reward" in problems[0]
    assert "rewards of 64 demonstrations: mean 0\n" in printed


@pytest.mark.parametrize("keys", [(), ("role", "content"), ("content", "role")])
def test_prompts_shared_with_evaluation(tmp_path, capsys, keys):
    demonstrations, held_out = toy.demonstration_set(), Dataset.from_dict({"prompt": ["0a:", "9z:", "1a:"]})
    if keys:
        # The same messages, their keys in one or the other order.
        message = {"role": "user"}
        prompts = [[{key: message.get(key, text) for key in keys}] for text in held_out["prompt"]]
        held_out = Dataset.from_dict({"prompt": prompts})
        assert list(held_out[0]["prompt"][0]) == list(keys)
        demonstrations = demonstrations.map(
            lambda row: {
                "prompt": [{"role": "user", "content": row["prompt"]}],
                "completion": [{"role": "assistant", "content": row["completion"]}],
            }
        )
    settings = {"max_demonstration_length": 9, "reward": lambda completions, **kwargs: [1.0] * len(completions)}
    problems, _ = check(trainer(tmp_path, demonstrations, eval_dataset=held_out, **settings), capsys)
    assert problems == ["2 of 3 prompts of eval_dataset also have a demonstration: remove them there"]
    several = {"easy": held_out, "hard": held_out.select([1])}
    problems, _ = check(trainer(tmp_path, demonstrations, eval_dataset=several, **settings), capsys)
    assert problems == ["2 of 3 prompts of easy also have a demonstration: remove them there"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"scale_rewards": "group", "beta": 0.1}, "exact only without scale_rewards='group', beta=0.1"),
        ({}, "exact only without scale_rewards='group'\n"),
        ({"scale_rewards": "none"}, None),
        ({"scale_rewards": "none", "beta": 0.1}, "exact only without beta=0.1\n"),
        ({"mixing_policy": "fixed"}, None),
    ],
)
def test_note_on_the_surrogate(tmp_path, capsys, settings, expected):
    beta = settings.get("beta", 0.0)
    run = trainer(tmp_path, **{**settings, "beta": 0.0})
    run.args.beta = beta  # as an argument it would make TRL load a reference model from a hub
    printed = check(run, capsys)[1]
    assert ("stands in for the utility's" in printed) == (expected is not None)
    assert expected is None or expected in printed


@pytest.mark.parametrize("settings", [{"num_iterations": 2}, {"steps_per_generation": 2}, {}])
def test_note_on_reused_rollouts(tmp_path, capsys, settings):
    assert ("only the first of them judges mu" in check(trainer(tmp_path, **settings), capsys)[1]) == bool(settings)


def test_demonstrations_that_cannot_be_scored_do_not_stop_the_run(tmp_path, capsys):
    def needs_answer(completions, answer, **kwargs):
        return [float(text == right) for text, right in zip(completions, answer, strict=True)]

    train = toy.prompt_set().add_column("answer", [toy.right_answer(p) for p in toy.prompts()])
    run = trainer(tmp_path, train=train, reward=needs_answer, max_steps=2)
    run.train()
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if "rewards of demonstrations" in line)
    assert "not scored (TypeError: " in line and "'answer'" in line and "step 0" not in line
    assert run.state.global_step == 2


@pytest.mark.parametrize(("beta", "steps", "found"), [(0.1, 2, True), (0.0, 2, False), (0.1, 0, False)])
def test_reference_of_the_penalty(tmp_path, capsys, beta, steps, found):
    run = trainer(tmp_path, sft_warmup_steps=steps)
    # The reference itself would be read from the folder of the model.
    run.args.beta = beta
    problems = check(run, capsys)[0]
    assert len(problems) == found
    assert all(part in problem for problem in problems for part in ("beta=0.1", "sft_warmup_steps=2", "set beta=0"))


def test_environments_are_not_asked(tmp_path, capsys):
    run = trainer(tmp_path)
    run.environment_factories = {None: object}
    assert "not scored (they come from an environment)" in check(run, capsys)[1]


def test_streamed_demonstrations(tmp_path, capsys):
    printed = check(trainer(tmp_path, toy.demonstration_set().to_iterable_dataset()), capsys)[1]
    assert "  demonstrations: streamed\n" in printed and "rewards of 64 demonstrations: mean 1\n" in printed


def test_scores_are_weighted_and_silent_rows_are_nan(tmp_path):
    def right(prompts, completions, **kwargs):
        values = toy.reward(prompts, completions)
        return [None if p.startswith("1") else value for p, value in zip(prompts, values, strict=True)]

    def length(completions, **kwargs):
        return [None if c == toy.right_answer("1") else float(len(c)) for c in completions]

    run = trainer(tmp_path, reward=[right, length], reward_weights=[1.0, 0.5])
    scores = score_demonstrations(run, run.demonstrations.sample(300))
    assert scores[:3] == pytest.approx([1.5, float("nan"), 1.5], nan_ok=True) and len(scores) == 64


def test_a_reward_that_is_the_minimum_is_not_below_it(tmp_path):
    """As float32 .9 is less than .9, and a sum of weights that is 1 may be less than 1."""

    def always(completions, **kwargs):
        return [1.0] * len(completions)

    for weights, minimum in (([0.9], 0.9), ([0.15, 0.5, 0.15, 0.2], 1.0)):
        run = trainer(
            tmp_path, reward=[always] * len(weights), reward_weights=weights, demonstration_min_reward=minimum
        )
        assert run.demonstrations.counts == {"used": 64}
    with pytest.raises(ValueError, match="64 low_reward"):
        trainer(tmp_path, reward=[always], reward_weights=[0.9], demonstration_min_reward=0.901)


def test_minimum_reward_drops_and_counts(tmp_path, capsys):
    right, wrong = toy.demonstration_set(count=12), toy.demonstration_set(right=False, count=12)
    mixed = concatenate_datasets([right.select(range(8)), wrong.select(range(8, 12))])
    run = trainer(tmp_path, mixed, demonstration_min_reward=1.0, max_steps=2)
    run.train()
    assert run.demonstrations.counts == {"used": 8, "low_reward": 4} and len(run.demonstrations) == 8
    assert set(run.demonstrations.rows["prompt"]) == set(toy.prompts(8))
    assert "  demonstrations: 4 low_reward, 8 used\n" in capsys.readouterr().out
    filter_by_reward(run)
    assert len(run.demonstrations) == 8 and run.demonstrations.counts["low_reward"] == 4
