"""The pack's icon and banner: `python -m dev.brand` draws them into dev/assets.

Both show the miniature world and the work of the pack: a coarse picture with redrawn heads.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .contact_sheet import to_image
from .miniature.character import Character
from .miniature.look import read_caption
from .miniature.world import Degradation, Scene, Window, degrade, draw_scene, enlarge, portrait

ASSETS = Path(__file__).parent / "assets"
ICON, BANNER = (400, 400), (1680, 720)  # pixels; the registry's largest, and 21:9
ICON_LOOK = "a person, tan skin, curly red hair, green eyes, smiling, round glasses, purple shirt"
ICON_CELLS = 20  # coarse pixels across the icon
BANNER_LOOKS = (
    "a person, brown skin, long blue hair, brown eyes, smiling, no glasses, yellow shirt",
    "a person, pale skin, curly red hair, green eyes, surprised, round glasses, green shirt",
    "a person, dark skin, short black hair, brown eyes, smiling, round glasses, red shirt",
)
BANNER_SCENE = 2  # whose street it is
BANNER_PLACES = ((590, 432, 52, -5), (772, 396, 38, 4), (946, 436, 56, 3))  # x, y, radius, tilt
BANNER_WINDOW = (90.0, 250.0, 1060.0, 250.0 + 970.0 * 720 / 1680)
COARSE = Degradation(scale=1 / 14, blur=0.6, noise=0.03)
WHITE = (255, 255, 255)


def icon() -> Image.Image:
    """A head, coarse on the left and sharp on the right, in a crop's frame."""
    scene, window = portrait(read_caption(ICON_LOOK), 205)
    left, top, right, bottom = window
    sharp = scene.picture(ICON, (left, top - 8, right, bottom - 8))
    coarse = cv2.resize(sharp, (ICON_CELLS, ICON_CELLS), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(coarse, ICON, interpolation=cv2.INTER_NEAREST)
    y, x = np.mgrid[: ICON[1], : ICON[0]]
    share = np.clip((x - 0.16 * (ICON[1] / 2 - y) - ICON[0] / 2) / 26 + 0.5, 0, 1)[..., None]
    picture = to_image(coarse * (1 - share) + sharp * share)
    frame(picture, (44, 36, 356, 364), width=9, corner=62)
    mask = rounded(ICON, 76)
    picture.putalpha(mask)
    return picture


def banner() -> Image.Image:
    """A coarse street in which three heads are redrawn, and the name."""
    street = draw_scene(BANNER_SCENE)
    people = tuple(
        Character(read_caption(look), *place)
        for look, place in zip(BANNER_LOOKS, BANNER_PLACES, strict=True)
    )
    scene = Scene(street.wall, street.backdrop, people)
    sharp = scene.picture(BANNER, BANNER_WINDOW)
    coarse = degrade(sharp, COARSE, np.random.default_rng(1))
    picture = enlarge(coarse, BANNER)
    picture = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    picture[..., 1] *= 0.75
    picture = cv2.cvtColor(picture, cv2.COLOR_HSV2RGB)
    for index in range(len(people)):
        mask = scene.mask(index, BANNER, BANNER_WINDOW)
        soft = cv2.GaussianBlur(cv2.dilate(mask, np.ones((9, 9))), (0, 0), 4)[..., None]
        picture = picture * (1 - soft) + sharp * soft
    shade = np.clip(1.35 - np.linspace(0, 1, BANNER[0]) * 2.6, 0, 0.86)[None, :, None]
    drawn = to_image(picture * (1 - shade) + np.float32([0.09, 0.10, 0.15]) * shade)
    for one in people:
        frame(drawn, on_picture(one.head_box(), 12), width=5, corner=30)
    draw = ImageDraw.Draw(drawn)
    draw.text((96, 236), "Detailers", WHITE, ImageFont.load_default(124), stroke_width=1)
    line = "find, enlarge, redraw, paste back"
    draw.text((102, 396), line, (214, 220, 232), ImageFont.load_default(40))
    draw.text((102, 452), "for ComfyUI", (150, 160, 180), ImageFont.load_default(34))
    return drawn


def on_picture(box: Window, margin: int) -> tuple[int, int, int, int]:
    """A box of the banner's scene in its pixels, with a margin around."""
    scale = BANNER[0] / (BANNER_WINDOW[2] - BANNER_WINDOW[0])
    left, top, right, bottom = (
        round((value - BANNER_WINDOW[i % 2]) * scale) for i, value in enumerate(box)
    )
    return left - margin, top - margin, right + margin, bottom + margin


def frame(picture: Image.Image, box: tuple[int, int, int, int], width: int, corner: int) -> None:
    """The corners of a crop, with a dark line around, so that they are visible on any colour."""
    left, top, right, bottom = box
    draw = ImageDraw.Draw(picture)
    for colour, more in (((22, 24, 34), 3), (WHITE, 0)):
        for x, inward in ((left, 1), (right, -1)):
            for y, down in ((top, 1), (bottom, -1)):
                for end in ((x + inward * corner, y), (x, y + down * corner)):
                    (x1, x2), (y1, y2) = sorted((x, end[0])), sorted((y, end[1]))
                    half = width // 2 + more
                    draw.rounded_rectangle(
                        (x1 - half, y1 - half, x2 + half, y2 + half), half, colour
                    )


def rounded(size: tuple[int, int], radius: int) -> Image.Image:
    """A mask of a rectangle with round corners."""
    mask = Image.new("L", (size[0] * 4, size[1] * 4))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *(s * 4 - 1 for s in size)), radius * 4, 255)
    return mask.resize(size, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    icon().save(ASSETS / "icon.png", optimize=True)
    banner().save(ASSETS / "banner.png", optimize=True)
