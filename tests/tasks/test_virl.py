import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from trl_amft.tasks import TASKS, load_task, load_virl
from trl_amft.tasks.virl import actions, image_name
from trl_amft.tasks.virl_answers import RouteResult, read_action, score_routes, virl_reward
from trl_amft.tasks.virl_geometry import Geocode
from trl_amft.tasks.virl_prompts import short_prompt
from trl_amft.tasks.virl_routes import Leg, Route, read_route
from trl_amft.tasks.virl_steps import Position, instructions, positions
from trl_amft.tasks.virl_synthetic import synthetic_routes


SMALL = {"train_routes": 20, "held_out_routes": 5}


@pytest.fixture(scope="module")
def task():
    return load_virl(**SMALL)


def route_file(path, count=12) -> str:
    path.write_text(json.dumps([synthetic_routes(count, seed=3), count]))
    return str(path)


def answer(action: str) -> str:
    return json.dumps({"current observation": "a", "current instruction": "b", "action": action})


def content(row: dict) -> str:
    return row["prompt"][0]["content"]


class TestAnswers:
    @pytest.mark.parametrize(
        ("text", "strict", "lenient"),
        [
            (answer("forward()"), True, True),
            (" \n" + answer("forward()"), True, True),
            (answer(" forward() "), False, True),
            ("I go. " + answer("forward()"), False, True),
            (answer("stop()") + answer("forward()"), False, True),
            (answer("forward()").replace('"', "'"), False, True),
            (answer("forward()")[:-1] + ",}", False, True),
            ('{"action": "forward()"}', False, True),
            (answer("Forward()"), False, False),
            (answer("forward"), False, False),
            (answer("forward() "), False, True),
            (answer("forward()forward()"), False, False),
            (answer("forward(); stop()"), False, False),
            (answer("turn_direction(forward())"), False, False),
            (answer("ｆorward()"), False, False),
            ('{"action": ["forward()"]}', False, False),
            ('{"action": "stop()", "action": "forward()"}', False, False),
            ("forward()", False, False),
            ("", False, False),
            ("{" * 1_000_000, False, False),
        ],
        ids=lambda value: ascii(value)[:30],
    )
    def test_hand_made_answers(self, text, strict, lenient):
        assert [read_action(text, mode) == "forward()" for mode in (False, True)] == [strict, lenient]

    def test_rewards(self):
        completions = [answer("stop()"), [{"role": "assistant", "content": answer("stop()")}], answer("forward()"), ""]
        columns = {"completions": completions, "action": ["stop()"] * 4}
        assert virl_reward(**columns, prompts=None) == [1.0, 1.0, 0.0, 0.0]
        assert virl_reward(**columns, reward_scale="original") == [1.0, 1.0, -1.0, -1.0]


class TestRouteScores:
    ACTIONS, ROUTES = ["forward()", "stop()", "forward()", "stop()"], [7, 7, 9, 9]

    def score(self, *answers, **options):
        given = [[answer(action) for action in position] for position in answers]
        return score_routes(given, self.ACTIONS, self.ROUTES, **options)

    def test_all_right(self):
        result = self.score(["forward()"], ["stop()"], ["forward()"], ["stop()"])
        assert result == RouteResult(step_accuracy=1.0, route_success=1.0, num_steps=4, num_routes=2)

    def test_second_answer_saves_the_route_but_not_the_step(self):
        result = self.score(["stop()", "forward()"], ["stop()"], ["forward()"], ["stop()", "forward()"])
        assert result[:2] == (0.75, 1.0)

    def test_one_position_fails_its_route_only(self):
        result = self.score(["stop()", "stop()"], ["stop()"], ["forward()"], ["stop()"])
        assert result[:2] == (0.75, 0.5)

    def test_third_answer_is_not_graded(self):
        answers = (["stop()", "stop()", "forward()"], ["stop()"], ["forward()"], ["stop()"])
        assert self.score(*answers)[:2] == (0.75, 0.5)
        assert self.score(*answers, attempts=3)[:2] == (0.75, 1.0)
        assert self.score(["stop()", "forward()"], ["stop()"], ["forward()"], ["stop()"], attempts=1)[:2] == (
            0.75,
            0.5,
        )

    def test_positions_without_an_answer_are_refused(self):
        with pytest.raises(ValueError, match="at least one completion for each position"):
            self.score(["forward()"], [], ["forward()"], ["stop()"])


class TestTask:
    def test_is_registered(self):
        assert TASKS["virl"] is load_virl
        assert set(load_task("virl", **SMALL).train_dataset["route"]) <= set(range(510))

    def test_own_demonstrations_earn_the_full_reward(self, task):
        rows = task.demonstration_dataset
        assert len(rows) == len(task.train_dataset)
        for parsing in ("lenient", "strict"):
            (reward,) = load_virl(**SMALL, parsing=parsing).reward_funcs
            assert set(reward(completions=rows["completion"], action=rows["action"])) == {1.0}
            assert reward.__name__ == "virl_reward"

    def test_routes_of_the_splits_differ(self, task):
        rule = load_virl(**SMALL, held_out="rule")
        parts = [set(dataset["route"]) for dataset in (task.train_dataset, task.held_out_dataset)]
        parts += [set(rule.held_out_dataset["route"]), set(task.demonstration_dataset["route"])]
        assert [len(part) for part in parts] == [20, 5, 5, 20]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2] and parts[0] == parts[3]
        assert rule.train_dataset[:] == task.train_dataset[:]

    def test_held_out_routes_do_not_depend_on_how_many_are_trained_on(self):
        """The suite `virl` of an evaluation has the default, a recipe another number."""
        tasks = [load_virl(train_routes=count, held_out_routes=20, style="short") for count in (3, 500, 560)]
        held_out = [task.held_out_dataset["prompt"][:] for task in tasks]
        assert held_out[0] == held_out[1] == held_out[2]
        trained = [set(task.train_dataset["route"]) for task in tasks]
        # Of short routes some are left out, because a held-out one is told in the same words.
        assert trained[0] < trained[1] < trained[2] and len(trained[0]) == 3 and len(trained[2]) > 500
        for task in tasks:
            assert not set(held_out[0]) & set(task.train_dataset["prompt"])
            assert not set(held_out[0]) & set(task.demonstration_dataset["prompt"])

    def test_no_held_out_prompt_is_trained_on_where_short_routes_are_told_alike(self):
        task = load_virl(train_routes=300, style="short")
        held_out = set(task.held_out_dataset["prompt"])
        assert not held_out & set(task.train_dataset["prompt"])
        assert not held_out & set(task.demonstration_dataset["prompt"])
        assert len(task.train_dataset) == len(task.demonstration_dataset) > 4000

    def test_default_holds_out_48_routes(self):
        assert len(set(load_virl(train_routes=1).held_out_dataset["route"])) == 48

    def test_rule_changes_the_actions_and_nothing_in_the_words(self):
        rule = load_virl(**SMALL, held_out="rule").held_out_dataset
        turns = {action for action in rule["action"] if action.startswith("turn")}
        assert turns <= set(actions("relative")) and len(turns) > 1
        for row in rule.to_list():
            assert "one of: left, right, slightly left, slightly right\n" in content(row)
            if row["action"].startswith("turn"):
                # Every sentence tells both, so that either action can be read off it.
                assert f"urn {row['action'][15:-1]} to face " in content(row)

    def test_prompt_has_the_route_the_past_and_the_present(self, task):
        rows = sorted(task.train_dataset.to_list(), key=lambda row: (row["route"], row["step"]))
        past = []
        for row in rows:
            if row["step"] == 0:
                past = []
            for number, action in enumerate(past, 1):
                assert f"\n{number}. " in content(row) and action in content(row)
            assert content(row).count(": forward()\n") == past.count("forward()")
            assert ("Nothing yet." in content(row)) == (not past)
            past.append(row["action"])
        assert rows[-1]["action"] == "stop()"

    def test_instruction_of_an_answer_is_one_of_the_prompt(self, task):
        for row in task.demonstration_dataset.to_list():
            given = json.loads(row["completion"][0]["content"])
            assert f". {given['current instruction']}\n" in content(row)
            assert f"What you see now: {given['current observation']}.\n" in content(row)

    def test_short_style(self):
        task, told = load_virl(**SMALL, style="short"), {}
        for row in task.demonstration_dataset.to_list():
            done, left, here = row["prompt"].removesuffix(">").split(";")
            done, left = (part.split(",") if part else [] for part in (done, left))
            turns = told.setdefault(row["route"], [made.rstrip("f") for made in done] + left)
            assert [made.rstrip("f") for made in done] + left == turns
            assert sum(len(made) - len(made.rstrip("f")) + 1 for made in done) == row["step"]
            assert row["completion"] == f'{{"action":"{row["action"]}"}}'
            assert (here == "x") == (row["action"] == "stop()") and here in "cfx"
            if here == "c":
                assert (left[0] == "-") == (row["action"] == "forward()")

    def test_short_prompt_by_hand(self):
        legs = [(90, "east", None), (315, "northwest", None), (320, "northwest", "A is ahead of you")]
        route = Route((0.0, 0.0), 0, [Leg(heading, word, (0.0, 0.0), seen) for heading, word, seen in legs])
        places = positions(route, SimpleNamespace(random=lambda: 0.9))
        assert len(places) == 3 * 6 + 1
        for step, prompt in (
            (0, ";E,NW,-;c>"),
            (1, "E;NW,-;f>"),
            (3, "Eff;NW,-;f>"),
            (6, "Efffff;NW,-;c>"),
            (8, "Efffff,NWf;-;f>"),
            (12, "Efffff,NWfffff;-;c>"),
            (18, "Efffff,NWfffff,-fffff;;x>"),
        ):
            assert short_prompt(route, places[: step + 1], places) == prompt

    def test_quality(self):
        task = load_virl(**SMALL, demonstration_quality=0.25)
        rows = task.demonstration_dataset.to_list()
        sources = {row["route"]: row["demonstration_source"] for row in rows}
        assert sorted(sources.values()).count("correct") == 5
        for row in rows:
            shown = json.loads(row["completion"][0]["content"])["action"]
            assert shown in actions("absolute")
            assert (shown == row["action"]) == (row["demonstration_source"] == "correct")
            assert sources[row["route"]] == row["demonstration_source"]

    @pytest.mark.parametrize("style", ["chat", "short"])
    def test_paired_column_holds_the_demonstration_of_the_row(self, style):
        task = load_virl(**SMALL, demonstration_quality=0.5, style=style, paired=True)
        paired = {(row["route"], row["step"]): row["demonstration"] for row in task.train_dataset.to_list()}
        separate = {(row["route"], row["step"]): row["completion"] for row in task.demonstration_dataset.to_list()}
        assert paired == separate
        assert "demonstration" not in {*task.demonstration_dataset.column_names, *task.held_out_dataset.column_names}

    def test_same_seed_same_data(self, task):
        again, other = load_virl(**SMALL), load_virl(**SMALL, seed=1)
        assert again.train_dataset[:] == task.train_dataset[:]
        assert again.demonstration_dataset[:] == task.demonstration_dataset[:]
        assert other.train_dataset[:] != task.train_dataset[:]

    def test_route_file(self, tmp_path):
        path = route_file(tmp_path / "routes.json")
        task = load_virl(routes=path, held_out_routes=3)
        assert len(set(task.train_dataset["route"])) == 6
        assert len(set(load_virl(routes=path, held_out_routes=3, train_routes=2).train_dataset["route"])) == 2
        with pytest.raises(ValueError, match="ask for at least 13 routes, routes='.*' has 12; lower them"):
            load_virl(routes=path, held_out_routes=6)

    def test_a_route_that_is_there_twice_is_one(self, tmp_path):
        path = tmp_path / "twice.json"
        path.write_text(json.dumps([synthetic_routes(12, seed=3) * 2, 24]))
        once = load_virl(routes=route_file(tmp_path / "once.json"), held_out_routes=3)
        twice = load_virl(routes=str(path), held_out_routes=3)
        assert twice.train_dataset[:] == once.train_dataset[:]
        assert twice.held_out_dataset[:] == once.held_out_dataset[:]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"held_out": "visual"}, "held_out='visual' is not known; choose one of: in_distribution, rule"),
            ({"style": "long"}, "style='long' is not known; choose one of: chat, short"),
            ({"parsing": "loose"}, "parsing='loose' is not known"),
            ({"reward_scale": "0"}, "reward_scale='0' is not known; choose one of: unit, original"),
            ({"train_routes": 0}, "train_routes=0 must be at least 1"),
            ({"demonstration_quality": -0.1}, "demonstration_quality=-0.1 must lie between 0 and 1"),
            ({"imagery": "/none"}, "imagery='/none' is no folder; give one with a picture for each position"),
            ({"style": "short", "parsing": "strict"}, "parsing='strict' takes three keys, style='short' has one; set"),
            ({"style": "short", "held_out": "rule"}, "style='short' has no room for pictures or another rule; set"),
        ],
    )
    def test_mistakes_are_answered_in_one_line(self, arguments, message):
        with pytest.raises(ValueError, match=f"^{message}") as error:
            load_virl(**arguments)
        assert "\n" not in str(error.value)


class TestImagery:
    def placeholders(self, folder, routes: str) -> None:
        """Grey pictures where a user has photographs: one for every place and heading that may occur."""
        folder.mkdir()
        for record in json.loads(Path(routes).read_text())[0]:
            route = read_route(record)
            start, heading = route.start, route.init_heading
            for leg in route.legs:
                self.picture(folder, start, heading)
                for point in range(1, 6):
                    place = tuple(a + point / 6 * (b - a) for a, b in zip(start, leg.end, strict=True))
                    self.picture(folder, place, leg.heading)
                start, heading = leg.end, leg.heading
            self.picture(folder, start, heading)

    def picture(self, folder, place: Geocode, heading: int) -> None:
        name = image_name(Position(place, heading, "", 0, "", "", ""))
        Image.new("RGB", (8, 8), (128, heading % 256, 128)).save(folder / f"{name}.png")

    def test_pictures_instead_of_observations(self, tmp_path):
        routes = route_file(tmp_path / "routes.json", count=6)
        self.placeholders(tmp_path / "pictures", routes)
        task = load_virl(routes=routes, held_out_routes=1, imagery=str(tmp_path / "pictures"))
        words = load_virl(routes=routes, held_out_routes=1)
        assert task.train_dataset["action"] == words.train_dataset["action"]
        for row in task.train_dataset:
            assert row["image"].size == (8, 8) and "The picture shows what you see now." in content(row)
            assert "No landmarks nearby" not in content(row) and "You see an" not in content(row)
        shown = {(row["route"], row["step"]): row for row in task.train_dataset}
        assert len(task.demonstration_dataset) == len(shown)
        for row, told in zip(task.demonstration_dataset, words.demonstration_dataset, strict=True):
            asked = shown[row["route"], row["step"]]
            assert row["image"].tobytes() == asked["image"].tobytes() and row["prompt"] == asked["prompt"]
            assert row["completion"] == told["completion"]

    def test_missing_picture(self, tmp_path):
        routes = route_file(tmp_path / "routes.json", count=6)
        with pytest.raises(
            ValueError, match=r"^imagery='.*' has no -?[\d.]+_-?[\d.]+_\d{3}\.jpg \(or \.png\) for route"
        ):
            load_virl(routes=routes, held_out_routes=1, imagery=str(tmp_path))

    def test_name(self):
        position = Position((40.758, -73.9855), 90, "", 0, "", "", "node")
        assert image_name(position) == "40.758000_-73.985500_090"


def test_sentences_are_two_per_leg():
    for route in map(read_route, synthetic_routes(20)):
        assert len(instructions(route)) == 2 * len(route.legs)
