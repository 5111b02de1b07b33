"""Labels of segments by the persons that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from ...utils.check import described, is_array, quoted
from ...utils.labels import listed
from ...utils.notes import note
from ..checked_calls import Source, numbers
from ..geometry import Box, Size
from ..memory import divided
from ..pixels.image import to_rgb
from .image_batch import counted, images_of
from .seg import SEG, SEGS, edited, normalise
from .sights import Window, cut, sight_of, sights_of
from .who import assign, similarities

AT_ONCE = 16  # pictures that an embedder is given
LONGEST = 4096  # pixels of a side of these


class PersonEmbedder(Protocol):
    """A network that brings pictures to vectors which are close for one person's pictures."""

    size: Size  # of the pictures that it takes

    def embed(self, pictures: torch.Tensor) -> torch.Tensor:
        """[N,D] for pictures [N,h,w,3], 0..1."""


@dataclass(frozen=True)
class Persons:
    """The persons who are known, by pictures.

    Attributes:
        pictures: [K,H,W,C] 0..1.
        names: of the person in each; a name that comes again is another picture of that person.
        boxes: the part of each that shows the person; None is all of it.
        landmarks: FACE_LANDMARKS of the pictures, or None.
    """

    pictures: torch.Tensor
    names: Sequence[str]
    boxes: Sequence[Box | None]
    landmarks: Any = None

    @property
    def each(self) -> list[str]:
        """The names, each once, in order."""
        return list(dict.fromkeys(self.names))

    def windows(self, shape: Size, margin: float) -> list[Window]:
        """What of each picture is compared, in the proportions of a size.

        Args:
            margin: as in `Naming`, around the boxes. A picture without a box has none.
        """
        height, width = self.pictures.shape[1:3]
        size, whole = Size(width, height), Box(0, 0, width, height)
        return [
            sight_of(row, box or whole, shape, size, margin if box else 0.0, self.landmarks)
            for row, box in enumerate(self.boxes)
        ]


@dataclass(frozen=True)
class Naming:
    """How segments are named.

    Attributes:
        threshold: the least likeness, a cosine from -1 to 1.
        unknown: the label of those that are like nobody; "" leaves them theirs.
        margin: by how much a crop is larger than the segment's box on each side, as a share of it.
        landmarks: FACE_LANDMARKS of the images, or None.
    """

    threshold: float
    unknown: str
    margin: float
    landmarks: Any = None


@dataclass(frozen=True)
class Named:
    """What came of one segment.

    Attributes:
        image: number of its image in the batch, from 0; None for several.
        label: the segment's from now on.
        person: number of the person who it is; None for nobody.
        scores: how alike it is to each person; empty for a segment that shows nothing.
        seen: [h,w,3] of the embedder's size, what was compared; None likewise.
    """

    image: int | None
    label: str
    person: int | None
    scores: list[float] = field(default_factory=list)
    seen: torch.Tensor | None = None

    @property
    def best(self) -> int | None:
        """The number of the person who it is, or else is most alike to."""
        if self.person is not None or not self.scores:
            return self.person
        return int(np.argmax(self.scores))


def read_names(text: str, count: int) -> list[str]:
    """The names of so many pictures, one on each line.

    Names that differ only in upper and lower case are one, as it is spelt first.

    Raises:
        ValueError: there is another number of names, or an empty one among them.
    """
    lines = [" ".join(line.split()) for line in text.strip().splitlines()]
    lines = lines if any(lines) else []
    if len(lines) != count:
        raise ValueError(
            f"'names' has {counted(len(lines), 'line')} ({listed(lines) or 'none'}) but "
            f"'references' has {counted(count, 'picture')}. Write one name on each line, in the "
            "order of the pictures; a person with several pictures is named on several lines."
        )
    if "" in lines:
        raise ValueError(
            f"'names': line {lines.index('') + 1} is empty. Write the name of the person in that "
            "picture of 'references' there."
        )
    spelt: dict[str, str] = {}
    return [spelt.setdefault(line.casefold(), line) for line in lines]


def label_by_person(
    segs: SEGS, image: torch.Tensor, persons: Persons, embedder: PersonEmbedder, how: Naming
) -> tuple[SEGS, list[Named], list[torch.Tensor]]:
    """Label each segment with the name of the person that it shows.

    In each image of a batch a person is at most one segment. Segments that belong to several
    images, such as those of a video, are named first, by all of these images together.

    Args:
        image: [B,H,W,C].

    Returns:
        The SEGS, what came of each, and a picture [h,w,3] of each person.

    Raises:
        ValueError, RuntimeError: the embedder gave no vectors, or raised.
    """
    each = persons.each
    check_unknown(how.unknown, each)
    rgb, _ = to_rgb(image)
    _, items = normalise(segs, Size(rgb.shape[2], rgb.shape[1]), "segs")
    held = images_of(items, len(rgb))
    compared = _compared(items, held, rgb, persons, embedder, how)
    tell_alike(compared.known.between, each, how.threshold)
    rows = [held[place] for place in compared.places]
    found = _assigned(compared.scores, rows, len(rgb), how.threshold)
    results = [
        Named(own[0] if len(own) == 1 else None, how.unknown or seg.label, None)
        for seg, own in zip(items, held, strict=True)
    ]
    for number, (place, person) in enumerate(zip(compared.places, found, strict=True)):
        label = results[place].label if person is None else each[person]
        scores, crop = compared.scores[number].tolist(), compared.crops[number]
        results[place] = Named(results[place].image, label, person, scores, crop)
    header, given = segs
    labelled = [edited(seg, label=one.label) for seg, one in zip(given, results, strict=True)]
    return (header, labelled), results, compared.known.faces


def check_unknown(label: str, names: Sequence[str]) -> None:
    """Check that the label of strangers is the name of no person.

    Raises:
        ValueError: it is.
    """
    if label.casefold() in {name.casefold() for name in names}:
        raise ValueError(
            f"'unknown_label' is {quoted(label)}, which is also one of 'names'. Choose "
            "another label for those who are like nobody."
        )


@dataclass(frozen=True)
class Known:
    """The persons as an embedder sees them.

    Attributes:
        vectors: [K,D], of their pictures.
        person_of: the number of the person in each picture.
        faces: a picture [h,w,3] of each person.
    """

    vectors: torch.Tensor
    person_of: list[int]
    faces: list[torch.Tensor]

    @classmethod
    def of(cls, persons: Persons, asked: Asked, margin: float) -> Known:
        """What an embedder tells of persons; the margin is as in `Naming`."""
        pictures, _ = to_rgb(persons.pictures)
        vectors, faces = asked.embed(pictures, persons.windows(asked.shape, margin))
        each = persons.each
        person_of = [each.index(name) for name in persons.names]
        return cls(vectors, person_of, [faces[person_of.index(i)] for i in range(len(each))])

    @property
    def between(self) -> torch.Tensor:
        """[P,P]: how alike the persons are among one another."""
        return self.likeness(self.vectors, self.person_of)

    def likeness(self, vectors: torch.Tensor, things: Sequence[int]) -> torch.Tensor:
        """[T,P]: how alike things are to the persons.

        Args:
            vectors: [N,D], of pictures of the things.
            things: the number of the thing in each picture.
        """
        return similarities(vectors, things, self.vectors, self.person_of)


@dataclass(frozen=True)
class _Compared:
    """How alike segments are to persons.

    Attributes:
        places: of the segments that show something, among all.
        scores: [T,P], of these.
        crops: what of each was compared first.
        known: the persons.
    """

    places: list[int]
    scores: torch.Tensor
    crops: list[torch.Tensor]
    known: Known


def _compared(
    items: Sequence[SEG], held: Sequence[Sequence[int]], image: torch.Tensor, persons: Persons,
    embedder: PersonEmbedder, how: Naming,
) -> _Compared:  # fmt: skip
    """Compare segments with persons.

    Args:
        held: the images that each segment is in.
        image: [B,H,W,3].
    """
    asked, size = Asked(embedder), Size(image.shape[2], image.shape[1])
    windows = [
        [
            sight_of(row, box, asked.shape, size, how.margin, how.landmarks)
            for row, box in sights_of(seg, rows, len(image))
        ]
        for seg, rows in zip(items, held, strict=True)
    ]
    known = Known.of(persons, asked, how.margin)
    seen, crops = asked.embed(image, [window for own in windows for window in own])
    places = [place for place, own in enumerate(windows) if own]
    things = [number for number, place in enumerate(places) for _ in windows[place]]
    return _Compared(
        places,
        known.likeness(seen, things),
        [crops[things.index(number)] for number in range(len(places))],
        known,
    )


def tell_alike(likeness: torch.Tensor, names: Sequence[str], threshold: float) -> None:
    """Tell which two persons are most alike, if they are as alike as the threshold asks for.

    Args:
        likeness: [P,P].
    """
    between = torch.maximum(likeness, likeness.T).triu(diagonal=1)
    if len(names) < 2 or not 0 < threshold <= between.max():
        return
    one, other = divmod(int(between.argmax()), len(names))
    note(
        "persons",
        f"By their pictures '{names[one]:.60}' and '{names[other]:.60}' are {between.max():.2f} "
        f"alike, which is more than 'threshold' ({threshold:g}) asks for, so strangers may get "
        "their names. Raise the threshold, give other pictures, or take another network; if all "
        "persons are that much alike, it is given its pixels in a wrong way.",
    )


def _assigned(
    scores: torch.Tensor, held: Sequence[Sequence[int]], count: int, threshold: float
) -> list[int | None]:
    """The person of each segment: first for segments of several images, then image by image.

    Args:
        scores: [T,P].
        held: the images that each segment is in.
    """
    found: list[int | None] = [None] * len(held)
    several = [i for i, rows in enumerate(held) if len(rows) != 1]
    groups = [several, *([i for i, rows in enumerate(held) if rows == [n]] for n in range(count))]
    for group in groups:
        if not group:
            continue
        taken = {found[i] for i in several} - {None}
        free = [person for person in range(scores.shape[1]) if person not in taken]
        for i, person in zip(group, assign(scores[group][:, free], threshold), strict=True):
            found[i] = None if person is None else free[person]
    return found


# Asking the embedder


class Asked:
    """Asks an embedder, a few pictures at a time.

    Attributes:
        shape: the size of the pictures that it takes.
    """

    def __init__(self, embedder: PersonEmbedder) -> None:
        self._source = Source.of("The embedder", embedder, "embed", "Connect another one.")
        self._embed = self._source.method(embedder, "embed")
        self._length: int | None = None
        size = getattr(embedder, "size", None)
        wanted = "two whole numbers, width and height, as its size"
        sides = numbers(self._source, size, 2, wanted)
        if not all(1 <= side <= LONGEST for side in sides):
            raise self._source.wrong(described(size), wanted)
        self.shape = Size(*map(int, sides))

    def embed(
        self, images: torch.Tensor, windows: Sequence[Window]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """A vector [N,D] for each window of images [B,H,W,3], and what each shows."""
        shown: list[torch.Tensor] = []
        vectors: list[torch.Tensor] = []

        def work(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
            pictures = torch.cat([cut(images, window, self.shape) for window in windows[part]])
            return pictures, self._vectors(pictures)

        for _, (pictures, own) in divided(
            len(windows), work, lambda place: f"picture {place + 1}", "compared", at_once=AT_ONCE
        ):
            shown += pictures.cpu().unbind()
            vectors.append(own)
        return torch.cat(vectors) if vectors else torch.zeros(0, 0), shown

    def _vectors(self, pictures: torch.Tensor) -> torch.Tensor:
        given = self._source.call(self._embed, pictures)
        wanted = f"a vector of finite numbers for each of {len(pictures)} pictures, as [N,D]"
        if not (is_array(given, (2,)) and len(given) == len(pictures) and given.shape[1]):
            raise self._source.wrong(described(given), wanted)
        vectors = torch.as_tensor(given).detach().float().cpu()
        if not bool(vectors.isfinite().all()):
            raise self._source.wrong("values that are not finite", wanted)
        if self._length not in (None, vectors.shape[1]):
            raise self._source.wrong(
                described(given), f"vectors of {self._length} numbers, as it did before"
            )
        self._length = vectors.shape[1]
        return vectors
