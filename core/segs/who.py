"""Who is who: how alike things are to known persons, and the best way to name them all at once.

Nothing here knows of pictures or networks. A thing may have been seen several times, as in the
frames of a video, and a person may be known by several pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ..pixels.precision import in_double

_UNNAMED = -1e-9  # what a thing without a person adds: any likeness from the threshold on is better
_NEVER = -10.0  # worse than any likeness is good


def similarities(
    seen: torch.Tensor, things: Sequence[int], known: torch.Tensor, persons: Sequence[int]
) -> torch.Tensor:
    """How alike each thing is to each person.

    If a person has several pictures, the most alike picture counts. If a thing has several sights,
    the mean of their likeness counts.

    Args:
        seen: [S,D], a vector for each sight of a thing.
        things: for each of them the number of its thing, from 0; each number occurs.
        known: [K,D], a vector for each picture of a person.
        persons: for each of them the number of its person, from 0; each number occurs.

    Returns:
        [T,P] float64, cosines from -1 to 1. A vector of length 0 is like nobody: 0.
    """
    count, people = 1 + max(things, default=-1), 1 + max(persons, default=-1)
    if not count * people:
        return torch.zeros(count, people, dtype=torch.float64)
    own, other = (_directions(vectors) for vectors in (seen, known))
    cosines = (own @ other.T).clamp(-1, 1)
    best = torch.stack(
        [
            cosines[:, [i for i, one in enumerate(persons) if one == person]].amax(dim=1)
            for person in range(people)
        ],
        dim=1,
    )
    sums = best.new_zeros(count, best.shape[1])
    place = torch.tensor(things, dtype=torch.long)
    sums.index_add_(0, place, best)
    return sums / torch.bincount(place, minlength=count)[:, None]


def _directions(vectors: torch.Tensor) -> torch.Tensor:
    vectors = in_double(vectors.detach())
    length = vectors.norm(dim=1, keepdim=True)
    return torch.where(length > 0, vectors / length, 0.0)


def assign(similarity: torch.Tensor, threshold: float) -> list[int | None]:
    """Give each thing a person, or none, and each person to one thing at most.

    The result has the largest sum of likeness minus threshold over the things that get a person.
    This is the assignment problem, and it is solved exactly. A weak likeness therefore never takes
    a person away from a strong one. If two things are both most alike to one person, the thing that
    loses least gets its second best person.

    Args:
        similarity: [T,P].
        threshold: the least likeness at which a thing is given a person.

    Returns:
        The number of its person for each thing, None for nobody. The same values always give the
        same result, also if several results are equally good.
    """
    things, persons = similarity.shape
    gain = np.asarray(similarity.detach().cpu(), dtype=float) - threshold
    gain = np.where(gain >= 0, gain, _NEVER)
    stays = np.full((things, things), _UNNAMED)  # a place for every thing to stay without a person
    rows, columns = linear_sum_assignment(np.hstack([gain, stays]), maximize=True)
    found: list[int | None] = [None] * things
    for thing, person in zip(rows, columns, strict=True):
        if person < persons:
            found[thing] = int(person)
    return found
