"""General Points: make 24 of four cards with + - * / and brackets, from their names (GP-L) or their picture (GP-VL).

A task of arXiv 2501.17161, rebuilt here from its description. Under the rule `ten` a jack, queen or king counts 10,
under `face` 11, 12 and 13. Training is under `ten` with black suits; held out are hands under `ten`, hands with face
cards under `face` (another rule), and hands in red (another look), 234 of each.

Answers are JSON, `{"cards": ["J", "3", "3", "8"], "number": [10, 3, 3, 8], "formula": "8/(10/3-3)=24"}`.
"""

import random
from functools import partial, update_wrapper

from datasets import Dataset
from datasets import Image as ImageFeature

from .general_points_answers import KEYS, REWARD_SCALES, general_points_reward
from .general_points_demonstrations import choose_expression, work_out, write_answer
from .general_points_hands import DEALINGS, FACES, RULES, Hand, choose_suits, deal, numbers_of, split_hands
from .general_points_images import draw_hand, encode_png
from .task import Task


MODALITIES = ("text", "image")
STYLES = ("chat", "short")
PARSINGS = ("lenient", "strict")
# Of each held-out split: the rule that its hands are read by, and the colour of its suits.
HELD_OUT = {"in_distribution": ("ten", "black"), "rule": ("face", "black"), "visual": ("ten", "red")}
TRAIN = ("ten", "black")

FACE_VALUES = {"ten": "J, Q and K each count 10", "face": "J counts 11, Q counts 12 and K counts 13"}
INSTRUCTION = """\
{hand}
Combine the four numbers to {target} with +, -, *, / and brackets. Use every card exactly once. An ace counts 1, \
2 to 10 count their number, {face_values}.
{steps}Answer with one JSON object with three keys: "cards", the ranks of the four cards as a list of strings; \
"number", what each of them counts, as a list; "formula", the formula as text, with ={target} at its end."""
STEPS = {
    "text": """\
First work the formula out, one operation after the other, each with the numbers that are left in square brackets.
""",
    "image": """\
First write the four numbers in square brackets, then work the formula out, one operation after the other, each with \
the numbers that are left in square brackets.
""",
}


def load_general_points(
    seed: int = 42,
    modality: str = "text",
    held_out: str = "in_distribution",
    held_out_hands: int = 234,
    train_hands: int | None = 4000,
    dealing: str = "independent",
    target: int = 24,
    style: str = "chat",
    parsing: str = "lenient",
    worked_steps: bool = False,
    demonstration_quality: float = 1.0,
    reward_scale: str = "unit",
    format_credit: float = 0.0,
    paired: bool = False,
) -> Task:
    """
    General Points, see the head of this file.

    Args:
        seed (`int`, *optional*, defaults to `42`):
            Seed of splits, deals, suits and demonstrations. Not the seed of training.
        modality (`str`, *optional*, defaults to `"text"`):
            `"text"`: the prompt names the cards. `"image"`: a column `"image"` shows them, in demonstrations as well.
        held_out (`str`, *optional*, defaults to `"in_distribution"`):
            Which split is `held_out_dataset`: `"in_distribution"`, `"rule"` or `"visual"` (for images only). The
            training hands do not depend on it.
        held_out_hands (`int`, *optional*, defaults to `234`):
            Hands in each of the three, each in one order.
        train_hands (`int`, *optional*, defaults to `4000`):
            Dealt training hands; orders of the same cards are different ones. All orders if `None`.
        dealing (`str`, *optional*, defaults to `"independent"`):
            See [`~trl_amft.tasks.general_points_hands.deal`].
        target (`int`, *optional*, defaults to `24`):
            What to reach, at least 1.
        style (`str`, *optional*, defaults to `"chat"`):
            `"chat"`: conversational prompts with instructions. `"short"`: `"J=10 3 3 8>"`, or beside a picture
            `"J=10 Q=10 K=10"`, and answers with the formula only, beside a picture with the numbers before it, for
            models that are trained from nothing; lenient parsing only.
        parsing (`str`, *optional*, defaults to `"lenient"`):
            `"lenient"` or `"strict"`, see [`~trl_amft.tasks.general_points_answers.judge`].
        worked_steps (`bool`, *optional*, defaults to `False`):
            Ask for, and demonstrate, the operations before the object, with the numbers left, and before them the
            numbers that a picture shows. Lenient parsing only.
        demonstration_quality (`float`, *optional*, defaults to `1.0`):
            Share of the training hands, between 0 and 1, whose demonstration is correct. All orders of a hand are
            spoilt together, and what is spoilt at one quality is spoilt at every lower one.
        reward_scale (`str`, *optional*, defaults to `"unit"`), format_credit (`float`, *optional*, defaults to `0.0`):
            See [`~trl_amft.tasks.general_points_answers.general_points_reward`].
        paired (`bool`, *optional*, defaults to `False`):
            Also give `train_dataset` a `"demonstration"` column with the demonstration of the row's own hand.

    Returns:
        `Task`: columns `"prompt"`, `"cards"` (ranks), `"numbers"`, `"target"` and, for images, `"image"`. Column
        `"demonstration_source"` of the demonstrations is `"correct"` or `"wrong"`.
    """
    _check_arguments(**locals())
    rng = random.Random(f"general points {seed} rows")
    shown = modality == "image"
    splits = split_hands(seed, target, held_out_hands)
    prompt = partial(_prompt, shown=shown, target=target, style=style, worked_steps=worked_steps)

    def rows(hands: list[Hand], rule: str, colour: str) -> list[dict]:
        made = []
        for hand in hands:
            row = {"prompt": prompt(hand, rule)}
            if shown:
                row["image"] = encode_png(draw_hand(hand, choose_suits(hand, colour, rng)))
            made.append(row | _columns(hand, rule, target))
        return made

    train = deal(splits.train, train_hands, dealing, 2 if shown else 4, rng)
    held_out_hands_dealt = [tuple(rng.sample(hand, len(hand))) for hand in getattr(splits, held_out)]
    unordered = list(dict.fromkeys(tuple(sorted(hand)) for hand in train))
    random.Random(f"general points {seed} defects").shuffle(unordered)
    spoilt = set(unordered[: round((1.0 - demonstration_quality) * len(unordered))])

    train_rows = rows(train, *TRAIN)
    held_out_rows = rows(held_out_hands_dealt, *HELD_OUT[held_out])
    rule, _ = TRAIN
    keys: tuple[str, ...] = KEYS
    if style == "short":
        # What is in a prompt of words, or at the head of the steps, need not be told again.
        keys = ("number", "formula") if shown and not worked_steps else ("formula",)
    demonstrations = []
    for hand, row in zip(train, train_rows, strict=True):
        # A stream of its own per hand: its demonstration must not depend on how many others are spoilt or dealt.
        own = random.Random(f"general points {seed} {hand}")
        correct = tuple(sorted(hand)) not in spoilt
        numbers = numbers_of(hand, rule)
        expression = choose_expression(numbers, target, correct, own)
        answer = write_answer(expression, list(hand), list(numbers), target, keys)
        if worked_steps:
            answer = f"{work_out(expression, numbers, target, shown)}\n{answer}"
        completion = answer if isinstance(row["prompt"], str) else [{"role": "assistant", "content": answer}]
        source = "correct" if correct else "wrong"
        demonstrations.append({**row, "completion": completion, "demonstration_source": source})
        if paired:
            row["demonstration"] = completion
    rng.shuffle(demonstrations)

    reward = partial(
        general_points_reward,
        reward_scale=reward_scale,
        format_credit=format_credit,
        lenient=parsing == "lenient",
    )
    return Task(
        train_dataset=_dataset(train_rows),
        held_out_dataset=_dataset(held_out_rows),
        reward_funcs=[update_wrapper(reward, general_points_reward)],
        demonstration_dataset=_dataset(demonstrations),
        problem_of=lambda row: tuple(sorted(row["cards"])),
    )


def _columns(hand: Hand, rule: str, target: int) -> dict:
    return {"cards": list(hand), "numbers": list(numbers_of(hand, rule)), "target": target}


def _prompt(hand: Hand, rule: str, *, shown: bool, target: int, style: str, worked_steps: bool):
    if style == "short":
        values = {rank: f"{rank}={value}" for rank, value in RULES[rule].items() if rank in FACES}
        if not shown:
            return f"{' '.join(values.get(rank, rank) for rank in hand)}>"
        return [{"role": "user", "content": " ".join(values.values())}]
    text = INSTRUCTION.format(
        hand="The picture shows four playing cards." if shown else f"You hold four playing cards: {', '.join(hand)}.",
        target=target,
        face_values=FACE_VALUES[rule],
        steps=STEPS["image" if shown else "text"] if worked_steps else "",
    )
    return [{"role": "user", "content": text}]


def _dataset(rows: list[dict]) -> Dataset:
    dataset = Dataset.from_list(rows)
    return dataset.cast_column("image", ImageFeature()) if "image" in dataset.column_names else dataset


def _check_arguments(**values) -> None:
    for field, choices in (
        *(("modality", MODALITIES), ("held_out", tuple(HELD_OUT)), ("dealing", DEALINGS), ("style", STYLES)),
        *(("parsing", PARSINGS), ("reward_scale", REWARD_SCALES)),
    ):
        if values[field] not in choices:
            raise ValueError(f"{field}={values[field]!r} is not known; choose one of: {', '.join(choices)}")
    for field in ("held_out_hands", "train_hands", "target"):
        if values[field] is not None and values[field] < 1:
            raise ValueError(f"{field}={values[field]} must be at least 1")
    for field in ("demonstration_quality", "format_credit"):
        if not 0.0 <= values[field] <= 1.0:
            raise ValueError(f"{field}={values[field]} must lie between 0 and 1")
    if values["reward_scale"] == "original" and values["format_credit"]:
        raise ValueError(f"format_credit={values['format_credit']} is for reward_scale='unit'; set it to 0")
    if values["held_out"] == "visual" and values["modality"] == "text":
        raise ValueError("held_out='visual' is a matter of pictures; set modality to 'image', or choose another split")
    if values["parsing"] == "strict" and (values["style"] == "short" or values["worked_steps"]):
        raise ValueError("parsing='strict' takes one whole JSON object; set style to 'chat' and worked_steps to false")
