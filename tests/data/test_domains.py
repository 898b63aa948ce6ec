"""Domains: shares of the prompts, the same order everywhere, and rewards that see the rows of their domain only."""

import math
from collections import Counter
from itertools import islice

import pytest
from datasets import Dataset

import toy
from trl_amft import AMFTTrainer
from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.data import load_data
from trl_amft.cli.usage import UsageError
from trl_amft.data.domains import DomainReward, LoggedByDomain, mix_domains, shares_of
from trl_amft.rewards import ExplorationReward


WEIGHTS = {"letters": 6.0, "digits": 3.0, "words": 1.0, "noise": 0}


def rows(count=400):
    """Domains of unequal size, one of them without a weight."""
    sizes = {"letters": count // 8, "digits": count // 2, "words": count // 4, "noise": count // 8}
    return [{"prompt": f"{name} {n}", "domain": name} for name, size in sizes.items() for n in range(size)]


class TestMixture:
    @pytest.mark.parametrize("streamed", [False, True])
    def test_shares_are_the_weights(self, streamed):
        dataset = Dataset.from_list(rows())
        mixed = mix_domains(dataset.to_iterable_dataset() if streamed else dataset, WEIGHTS, seed=3)
        drawn = [row["domain"] for row in islice(mixed, 2000)]
        counts, total = Counter(drawn), len(drawn)
        assert total >= 900 and set(counts) == {"letters", "digits", "words"}
        for name, share in {"letters": 0.6, "digits": 0.3, "words": 0.1}.items():
            assert abs(counts[name] / total - share) < 3 * math.sqrt(share * (1 - share) / total)
        assert len({row["prompt"] for row in mixed}) == 350  # Every row of every domain that has a weight.

    def test_order_depends_on_the_seed_alone(self):
        dataset = Dataset.from_list(rows())
        one, same, other = (list(mix_domains(dataset, WEIGHTS, seed)["prompt"]) for seed in (3, 3, 4))
        assert one == same != other
        turned = dict(reversed(WEIGHTS.items()))
        assert list(mix_domains(dataset, turned, 3)["prompt"]) == one

    def test_order_and_groups_of_the_sampler(self, tmp_path):
        """TRL's sampler gives the same order each time, with whole groups, and the shares survive it."""
        mixed = mix_domains(Dataset.from_list(rows(1600)), WEIGHTS, seed=0)
        orders = []
        for _ in range(2):
            model, tokenizer = toy.model(hidden_size=16, layers=1)
            trainer = AMFTTrainer(
                model=model,
                reward_funcs=toy.reward,
                args=toy.config(tmp_path, mixing_policy="fixed", mu_init=0.0),
                train_dataset=mixed,
                processing_class=tokenizer,
            )
            orders.append(list(trainer._get_train_sampler()))
        assert orders[0] == orders[1]
        groups = [orders[0][start : start + 4] for start in range(0, len(orders[0]), 4)]
        assert all(len(set(group)) == 1 for group in groups)
        drawn = Counter(mixed[group[0]]["domain"] for group in groups[:500])
        assert abs(drawn["letters"] / 500 - 0.6) < 3 * math.sqrt(0.24 / 500)

    def test_one_domain(self):
        assert len(mix_domains(Dataset.from_list(rows()), {**dict.fromkeys(WEIGHTS, 0), "words": 2}, 0)) == 100

    @pytest.mark.parametrize(
        ("weights", "line"),
        [
            ({}, "leaves no domain"),
            (dict.fromkeys(WEIGHTS, 0.0), "leaves no domain"),
            ({"letters": -1.0}, "letters=-1.0 must be a number from 0 on"),
            ({"letters": "1"}, "letters='1' must be a number"),
            ({"letters": math.inf}, "letters=inf must be a number"),
            ({1: 1.0, 2: 1.0}, "the domain 1 is no text; put it in quotes, here and in the rows"),
            ({"letters": 1.0, 2: 1.0}, "the domain 2 is no text; put it in quotes"),
            ({"letters": 1.0}, "has no weight for the domain 'digits' of a row: give one, 0 leaves it out"),
            ({**WEIGHTS, "sums": 1.0}, "names the domain 'sums', of which there is no row"),
        ],
    )
    @pytest.mark.parametrize("streamed", [False, True])
    def test_refusals(self, weights, line, streamed):
        dataset = Dataset.from_list(rows())
        with pytest.raises(ValueError, match=line):
            list(mix_domains(dataset.to_iterable_dataset() if streamed else dataset, weights, 0))

    def test_no_column(self):
        with pytest.raises(ValueError, match=r"needs a column 'domain', found \['prompt'\]"):
            mix_domains(toy.prompt_set(), WEIGHTS, 0)

    def test_shares(self):
        assert shares_of({"b": 1, "a": 3.0, "c": 0}) == {"a": 0.75, "b": 0.25}


def length_reward(completions, limit, domain, **columns):
    assert set(domain) == {"letters"} and len(limit) == len(completions)
    return [len(text) / most for text, most in zip(completions, limit, strict=True)]


class TestRewards:
    def test_only_its_rows(self):
        logged = []
        reward = DomainReward("letters", length_reward)
        domains = ["letters", "digits", "letters", "letters"]
        rewards = reward(
            domain=domains,
            prompts=["p"] * 4,
            completions=["a", "bb", "ccc", ""],
            limit=[1, 2, 6, 4],
            trainer_state=None,
            log_metric=lambda *metric: logged.append(metric),
        )
        assert rewards == [1.0, None, 0.5, 0.0] and reward.__name__ == "letters_length_reward"
        assert [value for name, value in logged if name == "domains/letters/length_reward"] == [1.0, 0.5, 0.0]
        assert [value for name, value in logged if name == "domains/letters/share"] == [1.0, 0.0, 1.0, 1.0]
        assert reward(domain=["digits"], prompts=["p"], completions=["x"], limit=[1]) == [None]

    def test_all_rows_and_their_means_by_domain(self):
        logged = []
        reward = LoggedByDomain(["even", "odd"], toy.dense_reward)
        given = {"prompts": ["p"] * 3, "completions": ["a", "b", "c"], "trainer_state": None}
        expected = toy.dense_reward(**given)
        assert (
            reward(log_metric=lambda *metric: logged.append(metric), domain=["odd", "even", "odd"], **given)
            == expected
        )
        assert [value for name, value in logged if name == "domains/odd/dense_reward"] == expected[::2]
        assert [value for name, value in logged if name == "domains/even/dense_reward"] == expected[1:2]
        assert [value for name, value in logged if name == "domains/odd/share"] == [1.0, 0.0, 1.0]
        # Held-out rows need no domain.
        assert reward(log_metric=None, **given) == reward(log_metric=lambda *_: 1 / 0, **given) == expected

    def test_what_a_reward_writes_beside_completions_has_a_value_for_each(self):
        def noted(completions, log_extra=None, **given):
            if log_extra is not None:
                log_extra("length", [len(completion) for completion in completions])
            return [1.0] * len(completions)

        written = {}
        for name in ("letters", "digits"):
            DomainReward(name, noted)(
                domain=["letters", "digits", "letters"], completions=["a", "bb", "ccc"], log_extra=written.__setitem__
            )
        assert written == {"letters/length": [1, None, 3], "digits/length": [None, 2, None]}
        assert DomainReward("letters", noted)(domain=["letters"], completions=["a"]) == [1.0]

    def test_asynchronous_is_refused(self):
        async def later(**given):
            return []

        with pytest.raises(ValueError, match="'later' of domain 'letters' is asynchronous"):
            DomainReward("letters", later)

    def test_what_gathers_is_refused(self):
        with pytest.raises(ValueError, match=r"domain 'letters' is an ExplorationReward.*put it around"):
            DomainReward("letters", ExplorationReward(length_reward))


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Two domains in a file, and a recipe on the command line."""
    monkeypatch.chdir(tmp_path)
    data = [
        {"prompt": prompt, "domain": name, "demonstration": "1", "demonstration_source": name}
        for name in ("even", "odd")
        for prompt in toy.prompts(32)
    ]
    Dataset.from_list(data).to_json("rows.jsonl")

    def load(*more, weights='{"even": 3, "odd": 1}'):
        argv = ["--dataset_name", "rows.jsonl", "--domain_weights", weights, *more]
        model = ["--tiny_model", '{"hidden_size": 16}', "--bf16", "false", "--output_dir", str(tmp_path / "run")]
        recipe = parse_recipe([*argv, *model])
        return recipe, load_data(recipe.run, recipe.training)

    return load


REWARDS = '{"even": ["toy:reward"], "odd": ["toy:dense_reward", "toy:reward"]}'


class TestRecipe:
    def test_a_run_with_domains_and_a_weight_per_source(self, prepared, tmp_path):
        recipe, data = prepared("--domain_rewards", REWARDS)
        assert Counter(data.train_dataset["domain"])["even"] > 64
        assert [reward.__name__ for reward in data.accuracy_funcs] == ["even_reward", "odd_dense_reward", "odd_reward"]
        model, tokenizer = toy.model()
        demonstrations = data.train_dataset.rename_column("demonstration", "completion")
        trainer = AMFTTrainer(
            model=model,
            reward_funcs=data.reward_funcs,
            args=toy.config(tmp_path, max_steps=3, mixing_policy="amft_sources", per_device_train_batch_size=16),
            train_dataset=data.train_dataset,
            processing_class=tokenizer,
            demonstration_dataset=demonstrations,
        )
        trainer.train()
        logs = [log for log in trainer.state.log_history if "domains/even/share" in log]
        assert len(logs) == 3 and {"amft/mu/even", "amft/mu/odd"} <= set(logs[0])
        for log in logs:
            assert log["domains/even/share"] + log["domains/odd/share"] == pytest.approx(1.0)
            # A domain that was not drawn has no reward.
            assert ("domains/odd/dense_reward" in log) == (log["domains/odd/share"] > 0.0)

    def test_off_is_the_same_data(self, prepared):
        recipe, data = prepared("--reward_funcs", "toy:reward", weights="null")
        assert data.train_dataset["prompt"] == toy.prompts(32) * 2 and data.reward_funcs == [toy.reward]

    def test_streamed(self, prepared):
        _, data = prepared("--reward_funcs", "toy:reward", "--dataset_streaming", "true", "--method", "grpo")
        assert isinstance(data.reward_funcs[0], LoggedByDomain) and data.accuracy_funcs == data.reward_funcs
        drawn = Counter(row["domain"] for row in islice(data.train_dataset, 100))
        assert abs(drawn["even"] / 100 - 0.75) < 3 * math.sqrt(0.75 * 0.25 / 100)

    @pytest.mark.parametrize(
        ("more", "weights", "line"),
        [
            ((), '{"even": 1, "odd": 1}', "reward_funcs=None: a dataset needs at least one"),
            (
                ("--domain_rewards", '{"evn": ["toy:reward"]}'),
                None,
                "domain_rewards has no domain 'evn' in domain_weights; did you mean 'even'",
            ),
            (("--domain_rewards", '{"even": "toy:reward"}'), None, "domain_rewards: even='toy:reward' must be a list"),
            (("--domain_rewards", '{"even": ["toy:nobody"]}'), None, "has no 'nobody'"),
            (("--domain_rewards", '{"even": [3]}'), None, "has 3, which is no text"),
            (("--reward_funcs", "toy:reward"), '{"even": 1}', "has no weight for the domain 'odd'"),
            (("--reward_funcs", "toy:reward"), '{"even": -1, "odd": 1}', "even=-1 must be a number from 0 on"),
        ],
    )
    def test_mistakes_are_one_line(self, prepared, more, weights, line):
        with pytest.raises(UsageError, match=line):
            prepared(*more, **({} if weights is None else {"weights": weights}))
