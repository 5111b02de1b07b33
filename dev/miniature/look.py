"""What a character of the miniature world looks like, and the caption that says so.

Every attribute has a few values that can be told apart on a face of some 60 pixels. A caption holds
one phrase for each attribute; `read_caption` is the inverse of `caption`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

# Per attribute: its phrase in the caption, for each of its values.
PHRASES = {
    "skin": {name: f"{name} skin" for name in ("pale", "tan", "brown", "dark")},
    "hair": {name: f"{name} hair" for name in ("short", "long", "curly")},
    "hair_colour": {
        name: f"{name} hair colour" for name in ("black", "blonde", "red", "blue", "white")
    },
    "eyes": {name: f"{name} eyes" for name in ("brown", "green", "blue", "violet")},
    "mouth": {"smile": "smiling", "sad": "sad", "surprise": "surprised"},
    "glasses": {"none": "no glasses", "round": "round glasses"},
    "shirt": {name: f"{name} shirt" for name in ("red", "yellow", "green", "purple")},
}
ON_HEAD = tuple(name for name in PHRASES if name != "shirt")


@dataclass(frozen=True)
class Look:
    """The attributes of a character; each is a key of its entry in PHRASES."""

    skin: str
    hair: str
    hair_colour: str
    eyes: str
    mouth: str
    glasses: str
    shirt: str

    def alternatives(self, attribute: str) -> dict[str, Look]:
        """This look with each value that the attribute can have, itself included."""
        return {value: replace(self, **{attribute: value}) for value in PHRASES[attribute]}


def draw_look(random: np.random.Generator) -> Look:
    """A look with all values equally likely."""
    values = {name: list(phrases) for name, phrases in PHRASES.items()}
    return Look(
        **{name: options[random.integers(len(options))] for name, options in values.items()}
    )


def caption(look: Look) -> str:
    """Such as "a person, pale skin, curly red hair, green eyes, smiling, no glasses, red shirt"."""
    says = {field.name: PHRASES[field.name][getattr(look, field.name)] for field in fields(look)}
    hair = f"{look.hair} {look.hair_colour} hair"
    return ", ".join(
        [
            "a person",
            says["skin"],
            hair,
            says["eyes"],
            says["mouth"],
            says["glasses"],
            says["shirt"],
        ]
    )


def read_caption(text: str) -> Look:
    """The look that a caption describes.

    Raises:
        ValueError: if it is not a caption of `caption`.
    """
    parts = text.split(", ")
    if len(parts) != 7 or len(parts[2].split()) != 3:
        raise ValueError(f"'{text}' is no caption of this world: see dev/miniature/look.py.")
    hair, colour, _ = parts[2].split()
    written = [parts[1], f"{hair} hair", f"{colour} hair colour", *parts[3:]]
    found = {}
    for (attribute, phrases), phrase in zip(PHRASES.items(), written, strict=True):
        values = [value for value, known in phrases.items() if known == phrase]
        if not values:
            raise ValueError(f"'{phrase}' in '{text}' is no {attribute} of this world.")
        found[attribute] = values[0]
    return Look(**found)
