import json
import random
from collections import Counter

import pytest

from trl_amft.tasks import TASKS, load_general_points, load_task
from trl_amft.tasks.general_points_answers import Verdict, judge
from trl_amft.tasks.general_points_demonstrations import choose_expression, work_out
from trl_amft.tasks.general_points_hands import (
    RANKS,
    all_hands,
    choose_suits,
    deal,
    numbers_of,
    reaches,
    split_hands,
)
from trl_amft.tasks.general_points_images import draw_hand


@pytest.fixture(scope="module")
def splits():
    return split_hands(42, 24, 234)


@pytest.fixture(scope="module")
def text():
    return load_general_points(train_hands=400)


@pytest.fixture(scope="module")
def pictures():
    return load_general_points(modality="image", held_out="visual", train_hands=20, held_out_hands=20)


def ranks(dataset) -> set[tuple[str, ...]]:
    return {tuple(sorted(cards)) for cards in dataset["cards"]}


def is_correct(row: dict) -> bool:
    return judge(completion(row), row["cards"], row["numbers"], row["target"]) is Verdict.CORRECT


def completion(row: dict) -> str:
    return row["completion"] if isinstance(row["completion"], str) else row["completion"][0]["content"]


class TestSplits:
    def test_sizes(self, splits):
        assert [len(part) for part in splits[1:]] == [234, 234, 234]
        assert len(splits.train) > 400
        assert all(len(set(part)) == len(part) for part in splits)

    def test_no_hand_is_in_two_splits_not_even_with_a_king_for_a_ten(self, splits):
        numbers = [{numbers_of(hand, "ten") for hand in part} for part in splits]
        assert all(not numbers[a] & numbers[b] for a in range(4) for b in range(a))
        assert len(set().union(*splits)) == sum(map(len, splits))

    def test_each_hand_can_be_solved_under_its_rule(self, splits):
        for hands, rule in zip(splits, ("ten", "ten", "face", "ten"), strict=True):
            assert all(reaches(hand, rule, 24) for hand in hands)
        assert all({"J", "Q", "K"} & set(hand) for hand in splits.rule)

    def test_seed(self, splits):
        assert split_hands(42, 24, 234) == splits
        assert split_hands(43, 24, 234).in_distribution != splits.in_distribution

    def test_too_many_are_refused(self):
        with pytest.raises(ValueError, match=r"^held_out_hands=500 leaves too few .* lower held_out_hands$"):
            split_hands(42, 24, 500)

    def test_data_sets_do_not_leak(self):
        tasks = [
            load_general_points(modality="image", train_hands=200, held_out=name)
            for name in ("in_distribution", "rule", "visual")
        ]
        held_out = [ranks(task.held_out_dataset) for task in tasks]
        assert [len(found) for found in held_out] == [234, 234, 234]
        for task in tasks:
            assert task.train_dataset["cards"] == tasks[0].train_dataset["cards"]
            seen = ranks(task.train_dataset) | ranks(task.demonstration_dataset)
            assert not any(seen & found for found in held_out)
        assert not held_out[0] & held_out[1] and not held_out[0] & held_out[2] and not held_out[1] & held_out[2]


class TestDealing:
    def test_all_orders(self):
        dealt = deal([("A", "A", "8", "8"), ("A", "2", "3", "4")], None, "independent", 4, random.Random(0))
        assert len(dealt) == len(set(dealt)) == 6 + 24

    @pytest.mark.parametrize("suits", [2, 4])
    def test_pairs_are_rarer_from_a_deck(self, suits):
        # In one order, a deck gives A A 8 9 in k (k - 1) k k ways and A 7 8 9 in k k k k; they have 12 and 24 orders.
        hands = [("A", "A", "8", "9"), ("A", "7", "8", "9")]
        first = [deal(hands, 1, "deck", suits, random.Random(seed))[0] for seed in range(300)]
        share = 12 * (suits - 1) / (12 * (suits - 1) + 24 * suits)
        assert abs(sum(len(set(hand)) == 3 for hand in first) / 300 - share) < 0.06

    def test_a_deck_has_no_more_cards_of_a_rank_than_suits(self):
        assert deal([("8", "8", "8", "A")], None, "deck", 2, random.Random(0)) == []
        assert len(deal([("8", "8", "8", "A")], None, "deck", 4, random.Random(0))) == 4

    def test_more_than_there_are(self):
        with pytest.raises(ValueError, match=r"^train_hands=25 is more than the 24 there are; ask for at most that"):
            deal([("A", "2", "3", "4")], 25, "independent", 4, random.Random(0))

    @pytest.mark.parametrize("colour", ["black", "red"])
    def test_suits_are_of_one_colour_and_pairs_differ(self, colour):
        for seed in range(20):
            suits = choose_suits(("8", "8", "A", "A"), colour, random.Random(seed))
            assert set(suits) <= {"black": {"spades", "clubs"}, "red": {"hearts", "diamonds"}}[colour]
            assert suits[0] != suits[1] and suits[2] != suits[3]


class TestTask:
    def test_is_registered(self):
        assert TASKS["general_points"] is load_general_points
        assert len(load_task("general_points", train_hands=8, held_out_hands=4).train_dataset) == 8

    def test_prompt_tells_the_cards_the_rule_and_the_target(self, text):
        for row in text.train_dataset.to_list()[:50]:
            content = row["prompt"][0]["content"]
            assert f"four playing cards: {', '.join(row['cards'])}." in content
            assert "J, Q and K each count 10" in content and "=24" in content
        face = load_general_points(train_hands=1, held_out="rule").held_out_dataset[0]
        assert "K counts 13" in face["prompt"][0]["content"]
        assert face["numbers"] == list(numbers_of(tuple(face["cards"]), "face"))

    def test_own_demonstrations_earn_the_full_reward(self, text):
        rows = text.demonstration_dataset
        columns = {name: rows[name] for name in ("cards", "numbers", "target")}
        assert set(text.reward_funcs[0](completions=rows["completion"], **columns)) == {1.0}
        strict = load_general_points(train_hands=400, parsing="strict").reward_funcs[0]
        assert set(strict(completions=rows["completion"], **columns)) == {1.0}
        assert strict.__name__ == "general_points_reward"

    def test_same_seed_same_data(self, text):
        again = load_general_points(train_hands=400)
        assert again.train_dataset[:] == text.train_dataset[:]
        assert again.demonstration_dataset[:] == text.demonstration_dataset[:]
        assert again.held_out_dataset[:] == text.held_out_dataset[:]

    def test_short_style(self):
        task = load_general_points(train_hands=300, style="short", worked_steps=True)
        for row in task.demonstration_dataset.to_list():
            values = {"J": "J=10", "Q": "Q=10", "K": "K=10"}
            assert row["prompt"] == f"{' '.join(values.get(card, card) for card in row['cards'])}>"
            steps, answer = row["completion"].split("\n")
            assert (
                steps.count(",") == steps.count("[") == 2
                and steps.endswith("=24")
                and answer.startswith('{"formula":"')
            )
            assert is_correct(row)

    def test_short_style_names_the_rule(self):
        for modality in ("text", "image"):
            task = load_general_points(style="short", held_out="rule", modality=modality, train_hands=20)
            prompts = task.held_out_dataset["prompt"]
            texts = [prompt if modality == "text" else prompt[0]["content"] for prompt in prompts]
            assert not any("=10" in text for text in texts)
            for rank, value in (("J", 11), ("Q", 12), ("K", 13)):
                with_rank = [rank in cards or modality == "image" for cards in task.held_out_dataset["cards"]]
                assert [f"{rank}={value}" in text for text in texts] == with_rank

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"modality": "video"}, r"modality='video' is not known; choose one of: text, image"),
            ({"held_out": "test"}, r"held_out='test' is not known; choose one of: in_distribution, rule, visual"),
            ({"dealing": "fair"}, r"dealing='fair' is not known"),
            ({"parsing": "loose"}, r"parsing='loose' is not known"),
            ({"reward_scale": "0"}, r"reward_scale='0' is not known; choose one of: unit, original"),
            ({"held_out_hands": 0}, r"held_out_hands=0 must be at least 1"),
            ({"target": 0}, r"target=0 must be at least 1"),
            ({"demonstration_quality": 1.5}, r"demonstration_quality=1.5 must lie between 0 and 1"),
            ({"reward_scale": "original", "format_credit": 0.1}, r"format_credit=0.1 is for reward_scale='unit'; set"),
            ({"held_out": "visual"}, r"held_out='visual' is a matter of pictures; set modality to 'image'"),
            ({"parsing": "strict", "worked_steps": True}, r"parsing='strict' takes one whole JSON object; set style"),
            ({"train_hands": 100_000}, r"train_hands=100000 is more than the \d+ there are"),
        ],
    )
    def test_mistakes_are_answered_in_one_line(self, arguments, message):
        with pytest.raises(ValueError, match=f"^{message}") as error:
            load_general_points(**arguments)
        assert "\n" not in str(error.value)


class TestQuality:
    @pytest.mark.parametrize("quality", [0.0, 0.3, 1.0])
    def test_share_of_hands_and_what_the_source_says(self, quality):
        rows = load_general_points(train_hands=400, demonstration_quality=quality).demonstration_dataset.to_list()
        assert all(is_correct(row) == (row["demonstration_source"] == "correct") for row in rows)
        sources: dict[tuple, set] = {}
        for row in rows:
            sources.setdefault(tuple(sorted(row["cards"])), set()).add(row["demonstration_source"])
        assert all(len(kinds) == 1 for kinds in sources.values())
        right = sum(kinds == {"correct"} for kinds in sources.values())
        assert right == len(sources) - round((1 - quality) * len(sources))

    def test_wrong_ones_look_legal(self):
        for steps in (False, True):
            task = load_general_points(train_hands=200, demonstration_quality=0.0, worked_steps=steps)
            for row in task.demonstration_dataset.to_list():
                found = judge(completion(row), row["cards"], row["numbers"], row["target"])
                assert found is Verdict.WRONG_VALUE and '=24"' in completion(row)
                assert not steps or completion(row).split("\n")[0].endswith("=24")

    @pytest.mark.parametrize("style", ["chat", "short"])
    def test_paired_column_holds_the_demonstration_of_the_row(self, style):
        task = load_general_points(train_hands=50, demonstration_quality=0.5, style=style, paired=True)
        paired = {tuple(row["cards"]): row["demonstration"] for row in task.train_dataset.to_list()}
        assert paired == {tuple(row["cards"]): row["completion"] for row in task.demonstration_dataset.to_list()}
        assert "demonstration" not in {*task.demonstration_dataset.column_names, *task.held_out_dataset.column_names}

    def test_lower_quality_leaves_the_others_as_they_were(self):
        def by_cards(quality):
            rows = load_general_points(train_hands=200, demonstration_quality=quality).demonstration_dataset.to_list()
            return {tuple(row["cards"]): (completion(row), row["demonstration_source"]) for row in rows}

        high, low = by_cards(0.7), by_cards(0.4)
        for cards, (shown, source) in low.items():
            if source == "correct":
                assert high[cards] == (shown, "correct")

    def test_steps_by_hand(self):
        only = choose_expression((3, 3, 8, 8), 24, True, random.Random(0))
        assert str(only) == "8/(3-8/3)"
        assert work_out(only, (3, 8, 3, 8), 24) == "8/3=8/3[3 8 (8/3)],3-(8/3)=1/3[8 (1/3)],8/(1/3)=24"

    def test_whole_results_are_preferred(self):
        for seed in range(50):
            shown = choose_expression((2, 3, 5, 6), 24, True, random.Random(seed))
            assert all(step.value >= 0 and step.value.denominator == 1 for step in shown.operations())


class TestImages:
    def test_picture_beside_a_prompt_that_does_not_name_the_cards(self, pictures):
        for dataset in (pictures.train_dataset, pictures.held_out_dataset):
            row = dataset[0]
            assert row["image"].size == (328, 120)
            assert row["prompt"][0]["content"].startswith("The picture shows four playing cards.\n")

    def test_demonstrations_show_the_pictures_of_the_prompts(self, pictures):
        shown = {tuple(row["cards"]): row for row in pictures.train_dataset}
        assert len(pictures.demonstration_dataset) == len(shown)
        for row in pictures.demonstration_dataset:
            asked = shown[tuple(row["cards"])]
            assert row["image"].tobytes() == asked["image"].tobytes() and row["prompt"] == asked["prompt"]
            assert is_correct(row)

    def test_short_answers_tell_what_is_shown(self):
        task = load_general_points(modality="image", train_hands=20, held_out_hands=2, style="short")
        for row in task.demonstration_dataset:
            numbers = json.dumps(row["numbers"], separators=(",", ":"))
            assert completion(row).startswith(f'{{"number":{numbers},"formula":"') and is_correct(row)

    def test_worked_steps_begin_with_what_is_shown(self):
        for style in ("short", "chat"):
            task = load_general_points(
                modality="image", train_hands=20, held_out_hands=2, worked_steps=True, style=style
            )
            for row in task.demonstration_dataset:
                assert completion(row).startswith(f"[{' '.join(map(str, row['numbers']))}],") and is_correct(row)

    def test_train_in_black_held_out_in_red(self, pictures):
        def reddish(image):
            return sum(count for count, (r, g, b) in image.convert("RGB").getcolors(40_000) if r > 150 and b < 90)

        assert all(reddish(image) == 0 for image in pictures.train_dataset["image"])
        assert all(reddish(image) > 500 for image in pictures.held_out_dataset["image"])

    def test_all_52_cards_differ(self):
        suits = ("spades", "clubs", "hearts", "diamonds")
        drawn = Counter(draw_hand((rank,), [suit]).tobytes() for rank in RANKS for suit in suits)
        assert len(drawn) == 52

    def test_same_hand_same_picture(self):
        hand, suits = all_hands()[700], ["clubs", "spades", "clubs", "spades"]
        assert draw_hand(hand, suits).tobytes() == draw_hand(hand, suits).tobytes()
