import asyncio
import math
import warnings

import pytest
import torch
from datasets import Dataset

from trl_amft.evaluation import HeldOutResult, evaluate_held_out
from trl_amft.tiny_model import build_tiny_model


PROMPTS = ["1>", "22 22>", "333 3 33>"]


@pytest.fixture(scope="module")
def model_and_tokenizer():
    return build_tiny_model(hidden_size=16, num_hidden_layers=2, num_attention_heads=2)


@pytest.fixture(scope="module")
def dataset():
    return Dataset.from_dict({"prompt": PROMPTS, "worth": [0.0, 0.5, 1.0]})


def worth_reward(worth, **kwargs):
    return worth


def evaluate(model_and_tokenizer, dataset, reward_funcs, **kwargs):
    return evaluate_held_out(*model_and_tokenizer, dataset, reward_funcs, **{"max_completion_length": 6, **kwargs})


class Recorder:
    """Reward function that keeps what it was called with and pays nothing."""

    __name__ = "recorder"

    def __init__(self):
        self.prompts, self.completions, self.completion_ids = [], [], []

    def __call__(self, prompts, completions, completion_ids, **kwargs):
        self.prompts += prompts
        self.completions += completions
        self.completion_ids += completion_ids
        return [0.0] * len(prompts)


def test_mean_and_standard_error_over_problems_by_hand(model_and_tokenizer, dataset):
    result = evaluate(model_and_tokenizer, dataset, [worth_reward], num_samples=4)
    # Problems earn 0, .5 and 1: mean .5, sample deviation .5, standard error .5/sqrt(3).
    assert isinstance(result, HeldOutResult)
    assert result.accuracy == pytest.approx(0.5)
    assert result.standard_error == pytest.approx(0.5 / math.sqrt(3))
    assert (result.num_problems, result.num_samples) == (3, 4)


def test_samples_of_a_problem_are_averaged_before_the_standard_error(model_and_tokenizer, dataset):
    def every_second(prompts, **kwargs):
        return [float(index % 2) for index in range(len(prompts))]

    result = evaluate(model_and_tokenizer, dataset, [every_second], num_samples=4)
    assert result.accuracy == pytest.approx(0.5)
    assert result.standard_error == pytest.approx(0.0)


def test_single_problem_has_no_standard_error(model_and_tokenizer, dataset):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate(model_and_tokenizer, dataset.select([1]), [worth_reward])
    assert result.accuracy == 0.5
    assert math.isnan(result.standard_error)


def test_rewards_are_weighted_and_missing_ones_count_as_zero(model_and_tokenizer, dataset):
    def not_applicable_to_the_last(prompts, **kwargs):
        return [None if prompt == PROMPTS[-1] else 1.0 for prompt in prompts]

    result = evaluate(
        model_and_tokenizer, dataset, [worth_reward, not_applicable_to_the_last], reward_weights=[2.0, 3.0]
    )
    assert result.accuracy == pytest.approx((0 + 3 + 1 + 3 + 2) / 3)


def test_rewards_are_handed_what_trl_hands_them(model_and_tokenizer, dataset):
    """Nothing is trained here, and nothing logged. What is connected in one loop can be used in no other."""
    loops = []

    def strict(prompts, completions, completion_ids, worth, trainer_state, log_extra, log_metric):
        assert trainer_state is None
        log_extra("worth", worth)
        log_metric("worth", 1.0)
        return worth

    async def waiting(worth, **kwargs):
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return worth

    result = evaluate(model_and_tokenizer, dataset, [strict, waiting], num_samples=2, batch_size=4)
    assert result.accuracy == pytest.approx(1.0) and len(loops) == 2 and len(set(loops)) == 1
    row_with_ids = dataset.add_column("completion_ids", [[1]] * 3)
    assert evaluate(model_and_tokenizer, row_with_ids, [worth_reward]).accuracy == pytest.approx(0.5)


def test_prompts_keep_their_order_across_batches(model_and_tokenizer, dataset):
    recorder = Recorder()
    evaluate(model_and_tokenizer, dataset, [recorder], num_samples=2, batch_size=4)
    assert recorder.prompts == [prompt for prompt in PROMPTS for _ in range(2)]


def test_same_seed_same_samples_and_another_seed_others(model_and_tokenizer, dataset):
    recorders = [Recorder() for _ in range(3)]
    for recorder, seed in zip(recorders, (3, 3, 4), strict=True):
        evaluate(model_and_tokenizer, dataset, [recorder], seed=seed)
    assert recorders[0].completions == recorders[1].completions
    assert recorders[0].completions != recorders[2].completions


def test_nothing_of_the_training_state_changes(dataset):
    model, tokenizer = build_tiny_model(hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    model.train()
    model.model.layers[0].eval()
    flags = [module.training for module in model.modules()]
    model(**tokenizer("1>", return_tensors="pt")).logits.sum().backward()
    parameters = [parameter.detach().clone() for parameter in model.parameters()]
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    seen = []

    def watch(prompts, **kwargs):
        seen.append((model.training, torch.is_grad_enabled()))
        return [0.0] * len(prompts)

    evaluate((model, tokenizer), dataset, [watch])

    assert seen == [(False, False)]
    assert torch.equal(torch.rand(2), expected)
    assert [module.training for module in model.modules()] == flags
    assert torch.is_grad_enabled()
    assert all(map(torch.equal, parameters, model.parameters()))
    assert all(torch.equal(old, new.grad) for old, new in zip(gradients, model.parameters(), strict=True))


def test_training_flags_and_random_state_survive_a_failing_reward(model_and_tokenizer, dataset):
    model, _ = model_and_tokenizer
    model.train()
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)

    def broken(**kwargs):
        raise RuntimeError("verifier is down")

    with pytest.raises(RuntimeError, match="verifier is down"):
        evaluate(model_and_tokenizer, dataset, [broken])
    assert model.training
    assert torch.equal(torch.rand(2), expected)


def test_lengths_and_truncation_are_counted_in_tokens(model_and_tokenizer, dataset):
    recorder = Recorder()
    result = evaluate(model_and_tokenizer, dataset, [recorder], num_samples=100, max_completion_length=40)
    eos = model_and_tokenizer[1].eos_token_id
    ended = [eos in ids for ids in recorder.completion_ids]
    assert 0 < sum(ended) < 300
    assert result.truncated_share == pytest.approx(ended.count(False) / 300)
    assert result.mean_completion_tokens == pytest.approx(sum(map(len, recorder.completion_ids)) / 300)
    for ids, has_ended in zip(recorder.completion_ids, ended, strict=True):
        assert ids.index(eos) == len(ids) - 1 if has_ended else len(ids) == 40


def test_left_padding_does_not_change_what_a_prompt_yields(dataset):
    # A model that has learnt the continuation of each prompt must give it also when padded to the longest prompt.
    model, tokenizer = build_tiny_model(hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    answers = {"1>": "a", "22 22>": "b", "333 3 33>": "c"}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(50):
        for prompt, answer in answers.items():
            batch = tokenizer(f"{prompt}{answer}<eos>", return_tensors="pt")
            model(**batch, labels=batch["input_ids"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def answered(prompts, completions, **kwargs):
        return [float(answers[p] == c) for p, c in zip(prompts, completions, strict=True)]

    assert tokenizer.padding_side == "right"
    assert evaluate((model, tokenizer), dataset, [answered], temperature=0.1).accuracy == 1.0
    assert tokenizer.padding_side == "right"


def test_conversational_prompts_yield_conversational_completions(model_and_tokenizer):
    prompts = [[{"role": "user", "content": text}] for text in PROMPTS]
    recorder = Recorder()
    evaluate(model_and_tokenizer, Dataset.from_dict({"prompt": prompts}), [recorder], num_samples=2)
    assert recorder.prompts == [prompt for prompt in prompts for _ in range(2)]
    assert all(len(c) == 1 and c[0]["role"] == "assistant" for c in recorder.completions)

    # Same samples as from the text that the chat template renders.
    rendered = model_and_tokenizer[1].apply_chat_template(prompts, tokenize=False, add_generation_prompt=True)
    plain = Recorder()
    evaluate(model_and_tokenizer, Dataset.from_dict({"prompt": rendered}), [plain], num_samples=2)
    assert [c[0]["content"] for c in recorder.completions] == plain.completions
    assert any(plain.completions)


def test_temperature_is_the_sampling_temperature(model_and_tokenizer, dataset):
    cold = [Recorder(), Recorder()]
    for seed, recorder in enumerate(cold):
        evaluate(model_and_tokenizer, dataset, [recorder], temperature=1e-4, seed=seed)
    assert cold[0].completions == cold[1].completions


def test_arguments_that_cannot_work_are_refused(model_and_tokenizer, dataset):
    with pytest.raises(ValueError, match="dataset is empty"):
        evaluate(model_and_tokenizer, dataset.select([]), [worth_reward])
    with pytest.raises(ValueError, match=r"reward_weights=\[1.0, 2.0\] does not match the 1 reward functions"):
        evaluate(model_and_tokenizer, dataset, [worth_reward], reward_weights=[1.0, 2.0])
