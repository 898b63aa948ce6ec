"""V-IRL: follow a route, one action per position, from what is seen in words (V-IRL-L) or in pictures (V-IRL-VL).

A task of arXiv 2501.17161, rebuilt here from its description. Training has the eight words of the compass as
directions (`absolute`); held out are routes with the same actions, and with `left` and `right` instead (`relative`,
another rule), 48 of each. Routes are synthetic, or those of a file in the public schema; pictures are the user's own.

A row is one position of a route, with what was done before, done right. Answers are JSON with the action in it.
"""

import random
from functools import partial, update_wrapper
from pathlib import Path

from datasets import Dataset
from datasets import Image as ImageFeature

from .task import Task
from .virl_answers import REWARD_SCALES, virl_reward
from .virl_prompts import chat_prompt, short_prompt, write_answer
from .virl_routes import Route, load_routes, read_route
from .virl_steps import ACTION_SPACES, FORWARD, STOP, Position, positions, turn
from .virl_synthetic import synthetic_routes


SYNTHETIC = "synthetic"
SYNTHETIC_ROUTES = 500
TRAIN_SPACE = "absolute"
HELD_OUT = {"in_distribution": "absolute", "rule": "relative"}
STYLES = ("chat", "short")
PARSINGS = ("lenient", "strict")
PICTURES = (".jpg", ".jpeg", ".png")


def load_virl(
    routes: str = SYNTHETIC,
    seed: int = 42,
    held_out: str = "in_distribution",
    held_out_routes: int = 48,
    train_routes: int | None = None,
    imagery: str | None = None,
    style: str = "chat",
    parsing: str = "lenient",
    demonstration_quality: float = 1.0,
    reward_scale: str = "unit",
    paired: bool = False,
) -> Task:
    """
    V-IRL, see the head of this file.

    Args:
        routes (`str`, *optional*, defaults to `"synthetic"`):
            A file for [`~trl_amft.tasks.virl_routes.load_routes`], or `"synthetic"` for
            [`~trl_amft.tasks.virl_synthetic.synthetic_routes`].
        seed (`int`, *optional*, defaults to `42`):
            Seed of synthetic routes, of the division, of what lies between intersections and of wrong demonstrations.
            Not the seed of training.
        held_out (`str`, *optional*, defaults to `"in_distribution"`):
            Which split is `held_out_dataset`: `"in_distribution"` or `"rule"`. The training routes are the same.
        held_out_routes (`int`, *optional*, defaults to `48`):
            Routes in each of the two. Which ones does not depend on `train_routes`.
        train_routes (`int`, *optional*):
            Routes to train on. All the others of a file if not given; 500 synthetic ones.
        imagery (`str`, *optional*):
            Folder with a picture for each position, named by [`image_name`]. The prompts then have no observations,
            and a column `"image"` shows them, in demonstrations as well.
        style (`str`, *optional*, defaults to `"chat"`):
            `"chat"`: conversational prompts with instructions. `"short"`:
            [`~trl_amft.tasks.virl_prompts.short_prompt`] and answers with the action only, for models that are trained
            from nothing; no pictures, no other rule.
        parsing (`str`, *optional*, defaults to `"lenient"`):
            `"lenient"` or `"strict"`, see [`~trl_amft.tasks.virl_answers.read_action`].
        demonstration_quality (`float`, *optional*, defaults to `1.0`):
            Share of the training routes, between 0 and 1, whose demonstrations are right. The others show an action
            of the action space that is wrong, at every position.
        reward_scale (`str`, *optional*, defaults to `"unit"`):
            See [`~trl_amft.tasks.virl_answers.virl_reward`].
        paired (`bool`, *optional*, defaults to `False`):
            Also give `train_dataset` a `"demonstration"` column with the demonstration of the row's own position.

    Returns:
        `Task`: columns `"prompt"`, `"action"` (the right one), `"route"`, `"step"` and, with imagery, `"image"`.
        Column `"demonstration_source"` of the demonstrations is `"correct"` or `"wrong"`.
    """
    _check_arguments(**locals())
    if routes == SYNTHETIC:
        # What is held out is drawn from as many routes whatever is trained on; further ones are for training.
        pool = SYNTHETIC_ROUTES + 2 * held_out_routes
        count = max(pool, (train_routes or 0) + 2 * held_out_routes)
        # As text first, so that both kinds of routes go through the same reader.
        found = list(map(read_route, synthetic_routes(count, seed)))
    else:
        found = load_routes(routes)
        pool = len(found)
    wanted = 2 * held_out_routes + (train_routes or 1)
    # A route that is there twice is one.
    firsts: dict[str, int] = {}
    for number, route in enumerate(found):
        firsts.setdefault(str(route), number)
    order = list(firsts.values())
    if wanted > len(order):
        raise ValueError(
            f"held_out_routes={held_out_routes} and train_routes={train_routes} ask for at least {wanted} routes, "
            f"routes={routes!r} has {len(order)}; lower them"
        )
    drawn = [number for number in order if number < pool]
    random.Random(f"virl {seed}").shuffle(drawn)
    order = drawn + order[len(drawn) :]
    parts = {"in_distribution": order[:held_out_routes], "rule": order[held_out_routes : 2 * held_out_routes]}
    train = order[2 * held_out_routes :][:train_routes]
    places = {number: positions(found[number], random.Random(f"virl {seed} {number}")) for number in order}
    folder = None if imagery is None else Path(imagery)

    def in_words(number: int, step: int, space: str):
        return _prompt(found[number], places[number], step, space, style, False)

    # Two short routes may be told in the same words; what is held out is not trained on in any.
    kept_back = {
        str(in_words(number, step, space))
        for name, space in HELD_OUT.items()
        for number in parts[name]
        for step in range(len(places[number]))
    }
    shown_steps = [
        (number, step)
        for number in train
        for step in range(len(places[number]))
        if str(in_words(number, step, TRAIN_SPACE)) not in kept_back
    ]

    def rows(steps: list[tuple[int, int]], space: str) -> list[dict]:
        return [
            {
                "prompt": _prompt(found[number], places[number], step, space, style, folder is not None),
                **({} if folder is None else {"image": _picture(folder, number, places[number][step])}),
                **_columns(number, step, places[number][step], space),
            }
            for number, step in steps
        ]

    rng = random.Random(f"virl {seed} rows")
    spoilt = set(train[: round((1.0 - demonstration_quality) * len(train))])
    train_rows = rows(shown_steps, TRAIN_SPACE)
    demonstrations = []
    for (number, step), row in zip(shown_steps, train_rows, strict=True):
        position = places[number][step]
        action = position.action(TRAIN_SPACE)
        if number in spoilt:
            own = random.Random(f"virl {seed} {number} {step} demonstration")
            action = own.choice([other for other in actions(TRAIN_SPACE) if other != action])
        answer = write_answer(found[number], position, action, style == "short")
        completion = answer if style == "short" else [{"role": "assistant", "content": answer}]
        source = "wrong" if number in spoilt else "correct"
        demonstrations.append({**row, "completion": completion, "demonstration_source": source})
        if paired:
            row["demonstration"] = completion
    held_out_steps = [(number, step) for number in parts[held_out] for step in range(len(places[number]))]
    rng.shuffle(train_rows)
    rng.shuffle(demonstrations)
    reward = partial(virl_reward, reward_scale=reward_scale, lenient=parsing == "lenient")
    return Task(
        train_dataset=_dataset(train_rows),
        held_out_dataset=_dataset(rows(held_out_steps, HELD_OUT[held_out])),
        reward_funcs=[update_wrapper(reward, virl_reward)],
        demonstration_dataset=_dataset(demonstrations),
        problem_of=lambda row: row["route"],
    )


def actions(space: str) -> list[str]:
    """All actions of an action space."""
    return [FORWARD, STOP, *map(turn, ACTION_SPACES[space])]


def image_name(position: Position) -> str:
    """
    Name of the picture of a position, without its ending: latitude, longitude and heading, for example
    `"40.758000_-73.985500_090"`.
    """
    latitude, longitude = position.geocode
    return f"{latitude:.6f}_{longitude:.6f}_{position.heading:03d}"


def _picture(folder: Path, number: int, position: Position) -> str:
    name = image_name(position)
    for ending in PICTURES:
        if (folder / f"{name}{ending}").is_file():
            return str(folder / f"{name}{ending}")
    raise ValueError(f"imagery={str(folder)!r} has no {name}{PICTURES[0]} (or .png) for route {number}; add it")


def _prompt(route: Route, places: list[Position], step: int, space: str, style: str, shown: bool):
    walked = places[: step + 1]
    return short_prompt(route, walked, places) if style == "short" else chat_prompt(route, walked, space, shown)


def _columns(number: int, step: int, position: Position, space: str) -> dict:
    return {"action": position.action(space), "route": number, "step": step}


def _dataset(rows: list[dict]) -> Dataset:
    dataset = Dataset.from_list(rows)
    return dataset.cast_column("image", ImageFeature()) if "image" in dataset.column_names else dataset


def _check_arguments(**values) -> None:
    for field, choices in (
        *(("held_out", tuple(HELD_OUT)), ("style", STYLES)),
        *(("parsing", PARSINGS), ("reward_scale", tuple(REWARD_SCALES))),
    ):
        if values[field] not in choices:
            raise ValueError(f"{field}={values[field]!r} is not known; choose one of: {', '.join(choices)}")
    for field in ("held_out_routes", "train_routes"):
        if values[field] is not None and values[field] < 1:
            raise ValueError(f"{field}={values[field]} must be at least 1")
    if not 0.0 <= values["demonstration_quality"] <= 1.0:
        raise ValueError(f"demonstration_quality={values['demonstration_quality']} must lie between 0 and 1")
    if values["imagery"] is not None and not Path(values["imagery"]).is_dir():
        raise ValueError(f"imagery={values['imagery']!r} is no folder; give one with a picture for each position")
    if values["style"] == "short" and values["parsing"] == "strict":
        raise ValueError("parsing='strict' takes three keys, style='short' has one; set style to 'chat'")
    if values["style"] == "short" and (values["imagery"] is not None or values["held_out"] == "rule"):
        raise ValueError("style='short' has no room for pictures or another rule; set style to 'chat'")
