"""
Hands of General Points: four cards, what they count under a rule, which of them are held out, and how they are dealt.

Held out are whole groups of hands: those with the same numbers under the rule `ten`, so that a hand with a jack is no
training problem in disguise where the same hand with a ten is held out. That includes every order and every suit.
"""

import itertools
import math
import random
from collections import Counter
from itertools import combinations_with_replacement, permutations
from typing import NamedTuple

from .general_points_solver import is_solvable


RANKS = ("A", "2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K")
FACES = ("J", "Q", "K")
HAND_SIZE = 4
RULES = {
    "ten": {rank: min(place, 10) for place, rank in enumerate(RANKS, 1)},
    "face": {rank: place for place, rank in enumerate(RANKS, 1)},
}
SUITS = {"black": ("spades", "clubs"), "red": ("hearts", "diamonds")}
DEALINGS = ("independent", "deck")

Hand = tuple[str, ...]


class Splits(NamedTuple):
    """Hands in the order of `RANKS`, by what they are for. No two splits share the numbers of a hand."""

    train: list[Hand]
    in_distribution: list[Hand]
    rule: list[Hand]
    visual: list[Hand]


def numbers_of(hand: Hand, rule: str) -> tuple[int, ...]:
    """What the cards count, in their order."""
    return tuple(RULES[rule][rank] for rank in hand)


def reaches(hand: Hand, rule: str, target: int) -> bool:
    """Whether a hand can be solved under a rule."""
    return is_solvable(tuple(sorted(numbers_of(hand, rule))), target)


def all_hands() -> list[Hand]:
    """The 1,820 hands, whatever the order of their cards."""
    return list(combinations_with_replacement(RANKS, HAND_SIZE))


def split_hands(seed: int, target: int, held_out_hands: int) -> Splits:
    """
    Divide the solvable hands.

    Args:
        seed (`int`):
            Seed of the division.
        target (`int`):
            What to reach.
        held_out_hands (`int`):
            Size of each of the three held-out splits.

    Returns:
        [`Splits`]: `train`, `in_distribution` and `visual` can be solved under `ten`; `rule` can be solved under
        `face` and has at least one face card.

    Raises:
        `ValueError`: if there are too few hands.
    """
    groups: dict[tuple[int, ...], list[Hand]] = {}
    for hand in all_hands():
        groups.setdefault(numbers_of(hand, "ten"), []).append(hand)
    left = list(groups)
    random.Random(f"general points {seed}").shuffle(left)

    def under_face(hand: Hand) -> bool:
        return not set(FACES).isdisjoint(hand) and reaches(hand, "face", target)

    def under_ten(hand: Hand) -> bool:
        return reaches(hand, "ten", target)

    # The rule split first: fewer groups can serve it.
    held_out = {}
    for name, eligible in (("rule", under_face), ("in_distribution", under_ten), ("visual", under_ten)):
        hands: list[Hand] = []
        for numbers in list(left):
            if len(hands) >= held_out_hands:
                break
            found = list(filter(eligible, groups[numbers]))
            if found:
                hands += found
                left.remove(numbers)
        held_out[name] = hands[:held_out_hands]
    train = [hand for numbers in left for hand in filter(under_ten, groups[numbers])]
    if not train or min(map(len, held_out.values())) < held_out_hands:
        raise ValueError(
            f"held_out_hands={held_out_hands} leaves too few hands that reach target={target}; lower held_out_hands"
        )
    return Splits(train, **held_out)


def deal(hands: list[Hand], count: int | None, dealing: str, suits: int, rng: random.Random) -> list[Hand]:
    """
    Hands as they come from the dealer, in an order of their cards, none twice.

    Args:
        hands (`list[Hand]`):
            Which hands may come.
        count (`int`, *optional*):
            How many. All orders of all hands if not given.
        dealing (`str`):
            `"independent"`, each card any rank, equally likely; `"deck"`, cards are taken from a deck and not put
            back, so that pairs are rarer.
        suits (`int`):
            How many cards of a rank the deck has.
        rng (`random.Random`):
            Source of the order.

    Returns:
        `list[Hand]`

    Raises:
        `ValueError`: if there are not so many.
    """
    ordered = [order for hand in hands for order in sorted(set(permutations(hand)))]
    if dealing == "deck":
        # Sampling by weight without replacement: the largest u^(1/w) come first.
        weights = [_ways(hand, suits) for hand in ordered]
        keyed = [(rng.random() ** (1 / w), order) for order, w in zip(ordered, weights, strict=True) if w]
        ordered = [order for _, order in sorted(keyed, reverse=True)]
    else:
        rng.shuffle(ordered)
    if count is not None and count > len(ordered):
        raise ValueError(f"train_hands={count} is more than the {len(ordered)} there are; ask for at most that many")
    return ordered[:count]


def _ways(hand: Hand, suits: int) -> int:
    """In how many ways a deck gives this hand in this order."""
    return math.prod(suits - earlier for times in Counter(hand).values() for earlier in range(times))


def choose_suits(hand: Hand, colour: str, rng: random.Random) -> list[str]:
    """
    A suit of one colour for each card. A card comes twice only where a rank comes more often than there are suits.

    Args:
        hand (`Hand`):
            The cards.
        colour (`str`):
            `"black"` or `"red"`.
        rng (`random.Random`):
            Source of the choice.

    Returns:
        `list[str]`: names of suits.
    """
    suits = {rank: itertools.cycle(rng.sample(SUITS[colour], len(SUITS[colour]))) for rank in dict.fromkeys(hand)}
    return [next(suits[rank]) for rank in hand]
