"""Pictures with captions on one sheet."""

import numpy as np
import pytest
from detailers.dev.contact_sheet import BACKGROUND, LINE, MARGIN, Cell, contact_sheet, wrapped
from PIL import Image, ImageFont

WIDTH = 120
BEARING = 2  # pixels that a letter may reach beyond its width
LONG = "leaving and coming back 12: tracks, smoothing 1, unbroken" + "x" * 60


def sheet(*captions, title="T"):
    cells = [Cell(Image.new("RGB", (60, 30), BACKGROUND), caption) for caption in captions]
    return contact_sheet(title, [cells], WIDTH)


def inked(picture):
    """Where the pixels differ from the background: [H,W]."""
    return (np.asarray(picture) != BACKGROUND).any(axis=-1)


def test_a_long_caption_stays_in_its_column():
    picture = inked(sheet("a", LONG, "c"))
    below = picture[2 * MARGIN + LINE :]
    for column in range(4):  # nothing is written between the columns, nor beside them
        left = column * (WIDTH + MARGIN)
        assert not below[:, left + BEARING : left + MARGIN - BEARING].any(), column
    long = below[:, 2 * MARGIN + WIDTH : 2 * (MARGIN + WIDTH)]
    rows = [long[top : top + LINE].any() for top in range(66, len(long) - MARGIN, LINE)]
    assert len(rows) > 6
    assert all(rows)  # and every line is there
    assert not long[-MARGIN:].any()


def test_a_long_title_stays_on_the_sheet():
    picture = inked(sheet("a", "b", title="of all the heads in clips " * 4))
    assert picture[MARGIN : MARGIN + 3 * LINE, MARGIN:-MARGIN].any(axis=1).sum() > 3 * LINE / 2
    assert not picture[:, BEARING - MARGIN :].any()


def test_short_texts_have_the_place_they_had():
    picture = sheet("a\nb", "c")
    assert picture.size == (3 * MARGIN + 2 * WIDTH, 3 * MARGIN + LINE + 60 + 6 + 2 * LINE)


@pytest.mark.parametrize("width", [1, 40, 120, 400])
def test_wrapping_keeps_every_word_and_the_width(width):
    font = ImageFont.load_default(16)
    lines = list(wrapped(LONG, font, width))
    assert "".join(lines).replace(" ", "") == LONG.replace(" ", "")
    assert all(font.getlength(line) <= width or len(line) == 1 for line in lines)
    assert list(wrapped("a b\n\nc", font, 400)) == ["a b", "", "c"]
    assert list(wrapped("", font, 400)) == []
