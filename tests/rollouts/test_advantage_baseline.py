"""A baseline from a column: A = r − b per row, GRPO without it, and why a reward function cannot do the same."""

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

import toy
from trl_amft import AMFTConfig, AMFTTrainer
from trl_amft.runtime.checkpoints import ResumableError


# Success probabilities of the prompts; one of the four has none.
P_TERM = [0.25, 0.5, None, 0.75]


def prompts(values=P_TERM):
    rows = [{"prompt": prompt, "p_term": values[index % len(values)]} for index, prompt in enumerate(toy.prompts())]
    return Dataset.from_list(rows)


def recorded(texts):
    """The same completions in every group."""

    def rollouts(asked, trainer):
        tokenizer = trainer.processing_class
        ids = [tokenizer(texts[index % len(texts)])["input_ids"] for index in range(len(asked))]
        return {
            "prompt_ids": tokenizer(asked)["input_ids"],
            "completion_ids": ids,
            "logprobs": [[0.0] * len(row) for row in ids],
        }

    return rollouts


def length_reward(completions, **columns):
    return [len(text) / 8 for text in completions]


def same_reward(completions, **columns):
    return [0.1] * len(completions)


def with_progress(completions, p_term, **columns):
    """r + α (r − p) with α = 3."""
    rewards = length_reward(completions)
    return [reward + 3.0 * (reward - p) for reward, p in zip(rewards, p_term, strict=True)]


def train(
    tmp_path,
    reward=length_reward,
    rows=None,
    steps=2,
    texts=("1", "22", "333", "4444"),
    trainer=AMFTTrainer,
    **options,
):
    """One short run. Returns the trainer and what its loss was given, in the order of the rows."""
    seen = []

    class Watched(trainer):
        def _generate_and_score_completions(self, inputs):
            output = super()._generate_and_score_completions(inputs)
            seen.append(([row.get("p_term") for row in inputs], dict(output)))
            return output

    model, tokenizer = toy.model()
    common = {"mixing_policy": "fixed", "mu_init": 0.0} if trainer is AMFTTrainer else {}
    args = toy.config(
        tmp_path,
        cls=AMFTConfig if trainer is AMFTTrainer else GRPOConfig,
        **{**common, "max_steps": steps, "scale_rewards": "none", **options},
    )
    run = Watched(
        model=model,
        reward_funcs=reward,
        args=args,
        train_dataset=prompts() if rows is None else rows,
        processing_class=tokenizer,
        rollout_func=recorded(texts),
    )
    run.train()
    return run, seen


def test_advantage_is_reward_minus_column(tmp_path):
    run, seen = train(tmp_path, advantage_baseline="column:p_term")
    rewards = torch.tensor([1, 2, 3, 4] * 2) / 8
    met = set()
    for p_terms, output in seen:
        met |= set(p_terms)
        for index, p_term in enumerate(p_terms):
            baseline = 2.5 / 8 if p_term is None else p_term
            assert output["advantages"][index].item() == pytest.approx(rewards[index].item() - baseline, abs=1e-6)
    assert None in met and len(met) > 2
    # What the table of completions shows is what was used.
    assert list(run._logs["advantages"]) == seen[-1][1]["advantages"].tolist()


def test_metrics(tmp_path):
    run, _ = train(tmp_path, rows=prompts([0.25]), advantage_baseline="column:p_term")
    log = next(log for log in run.state.log_history if "baseline/progress" in log)
    assert log["baseline/progress"] == pytest.approx(2.5 / 8 - 0.25)
    assert log["baseline/regret"] == pytest.approx((1 - 2.5 / 8) / 0.75)


@pytest.mark.parametrize("values", [P_TERM, [None, None]])
def test_without_a_number_it_is_grpo(tmp_path, values):
    """Neither a column that is not named nor one that is empty changes a bit."""
    baseline = "group" if values is P_TERM else "column:p_term"
    rows = prompts(values).cast_column("p_term", prompts().features["p_term"])
    plain, _ = train(tmp_path / "grpo", trainer=GRPOTrainer, rows=rows)
    own, _ = train(tmp_path / "own", rows=rows, advantage_baseline=baseline)
    start = toy.parameters(own)
    for name, parameter in toy.parameters(plain).items():
        assert torch.equal(parameter, start[name])
    assert not any("baseline" in name for log in own.state.log_history for name in log)


def test_a_dead_group_has_a_signal(tmp_path):
    dead, [(_, lost), *_] = train(tmp_path / "dead", reward=same_reward, rows=prompts([0.5]), steps=1)
    run, [(_, output), *_] = train(
        tmp_path / "run", reward=same_reward, rows=prompts([0.5]), steps=1, advantage_baseline="column:p_term"
    )
    assert lost["advantages"].abs().max() < 1e-6 and not lost["group_varies"].any()
    assert output["advantages"].tolist() == pytest.approx([-0.4] * 8) and output["group_varies"].all()
    before, untouched, moved = toy.model()[0].state_dict(), toy.parameters(dead), toy.parameters(run)
    assert all(torch.equal(before[name], value) for name, value in untouched.items() if name in before)
    assert any(not torch.equal(before[name], value) for name, value in moved.items() if name in before)


def test_as_a_reward_function_it_does_nothing(tmp_path):
    """All rollouts of a group share their prefix: p cancels in the mean and 1 + α in the standard deviation."""
    rows = prompts([0.25, 0.5, 0.75])
    _, plain = train(tmp_path / "plain", rows=rows, scale_rewards="group")
    _, shaped = train(tmp_path / "shaped", rows=rows, scale_rewards="group", reward=with_progress)
    _, hooked = train(tmp_path / "hooked", rows=rows, advantage_baseline="column:p_term")
    for (_, one), (_, two), (_, other) in zip(plain, shaped, hooked, strict=True):
        # What is left comes from the 1e-4 that TRL adds to the standard deviation.
        assert 0.0 < (one["advantages"] - two["advantages"]).abs().max() < 1e-3
        assert (one["advantages"] - other["advantages"]).abs().max() > 0.1


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "line"),
        [
            ({"advantage_baseline": "p_term"}, r"advantage_baseline='p_term' is unknown: give 'group', or 'column:'"),
            ({"advantage_baseline": "column:"}, r"advantage_baseline='column:' is unknown"),
            ({"scale_rewards": "group"}, r"needs scale_rewards='none', got 'group'"),
            (
                {"multi_objective_aggregation": "normalize_then_sum"},
                r"needs multi_objective_aggregation='sum_then_normalize'",
            ),
            ({"mixing_policy": "luffy"}, r"and mixing_policy='luffy' are two baselines"),
        ],
    )
    def test_arguments(self, tmp_path, options, line):
        settings = {"advantage_baseline": "column:p_term", "scale_rewards": "none", **options}
        with pytest.raises(ValueError, match=line):
            toy.config(tmp_path, **settings)

    @pytest.mark.parametrize(
        ("rows", "line"),
        [
            (toy.prompt_set(), r"train_dataset has no column 'p_term', only \['prompt'\]; add it"),
            (prompts([0.5, float("nan")]), r"row 1 of train_dataset has p_term=nan: give a finite number"),
            (prompts(["a"]), r"row 0 of train_dataset has p_term='a'"),
        ],
    )
    def test_data(self, tmp_path, rows, line):
        with pytest.raises(ValueError, match=line):
            train(tmp_path, rows=rows, advantage_baseline="column:p_term")

    @pytest.mark.parametrize("value", ["nan", "1e39", "inf"])
    def test_stream(self, tmp_path, value):
        """A stream is judged when its rows come."""
        rows = prompts([0.5, float(value)]).to_iterable_dataset()
        with pytest.raises(ResumableError, match=r"a row has p_term=.*: give a finite number, or nothing"):
            train(tmp_path, rows=rows, advantage_baseline="column:p_term")
