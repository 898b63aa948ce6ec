"""
Pictures of cards: four in a row on green, drawn with Pillow. The colour of the suits is the visual variation.

The art is this project's own: white cards, the rank in Pillow's built-in font, suits as polygons and circles.
"""

import io
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from .general_points_hands import SUITS, Hand


CARD = (72, 104)  # width and height of a card in pixels
MARGIN = 8
CLOTH = (38, 92, 66)
INK = {suit: (20, 20, 20) if colour == "black" else (190, 24, 36) for colour, suits in SUITS.items() for suit in suits}


def draw_hand(hand: Hand, suits: list[str]) -> Image.Image:
    """
    Draw a hand.

    Args:
        hand (`Hand`):
            Ranks from left to right.
        suits (`list[str]`):
            The suit of each card.

    Returns:
        `PIL.Image.Image`: RGB, 328 by 120 pixels for four cards.
    """
    width, height = CARD
    picture = Image.new("RGB", (MARGIN + len(hand) * (width + MARGIN), height + 2 * MARGIN), CLOTH)
    for place, (rank, suit) in enumerate(zip(hand, suits, strict=True)):
        picture.paste(_card(rank, suit), (MARGIN + place * (width + MARGIN), MARGIN))
    return picture


def encode_png(picture: Image.Image) -> dict[str, bytes | None]:
    """A picture as `datasets.Image` stores it."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@cache
def _card(rank: str, suit: str) -> Image.Image:
    width, height = CARD
    card = Image.new("RGB", CARD, "white")
    draw = ImageDraw.Draw(card)
    draw.rectangle((0, 0, width - 1, height - 1), outline=(120, 120, 120))
    # The rank is large, because a model sees the picture in few patches; the corner repeats it upside down.
    draw.text((width // 2, 34), rank, fill=INK[suit], font=ImageFont.load_default(44), anchor="mm")
    _draw_suit(draw, suit, width // 2, 76, 16)
    corner = Image.new("RGB", (22, 16), "white")
    ImageDraw.Draw(corner).text((11, 8), rank, fill=INK[suit], font=ImageFont.load_default(13), anchor="mm")
    card.paste(corner.rotate(180), (width - 24, height - 18))
    return card


def _draw_suit(draw: ImageDraw.ImageDraw, suit: str, x: int, y: int, size: int) -> None:
    """A suit around a point, about `2 * size` pixels high."""
    ink = INK[suit]

    def circle(centre_x: float, centre_y: float, radius: float) -> None:
        draw.ellipse((centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius), fill=ink)

    half = size / 2
    if suit == "diamonds":
        draw.polygon([(x, y - size), (x + size * 0.7, y), (x, y + size), (x - size * 0.7, y)], fill=ink)
    elif suit == "hearts":
        circle(x - half, y - half / 2, half)
        circle(x + half, y - half / 2, half)
        draw.polygon([(x - size, y), (x + size, y), (x, y + size)], fill=ink)
    else:
        draw.polygon([(x, y), (x + half, y + size), (x - half, y + size)], fill=ink)
        if suit == "spades":
            draw.polygon([(x, y - size), (x + size, y + half / 2), (x - size, y + half / 2)], fill=ink)
            circle(x - half, y + half / 2, half)
            circle(x + half, y + half / 2, half)
        else:
            circle(x, y - half, half)
            circle(x - half, y + half / 3, half)
            circle(x + half, y + half / 3, half)
