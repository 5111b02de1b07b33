"""Things that something else hides: nothing of them is measured there."""

import numpy as np
from detailers.core.clips import HeldFrames, frames_of
from detailers.core.geometry import Rect
from detailers.core.tracks.finds import Find
from detailers.core.tracks.links import Links, measure
from detailers.core.tracks.windows import Shaping, course_of, hidden_frames, meetings

from .tracks_scenes import FRAME, along, drawn


def met_courses(found):
    """A course that another one crosses from frame 2 to 4; `found` are its frames with finds."""
    still = [Find(i, Rect(50, 50, 40, 40), "face") for i in found]
    passing = [Find(i, Rect(50 + 30 * (i - 3), 50, 40, 40), "face") for i in range(7)]
    shaping = Shaping(centre_frames=3, size_frames=3)
    return course_of(still, shaping), course_of(passing, shaping)


def test_a_thing_that_is_missed_behind_another_one_is_hidden():
    course, other = met_courses([0, 1, 2, 4, 5, 6])
    assert hidden_frames(course, meetings(course, [other])) == {3}
    assert hidden_frames(course, meetings(course, [])) == set()  # just missed
    found, _ = met_courses(range(7))
    assert hidden_frames(found, meetings(found, [other])) == set()


def test_nothing_is_measured_where_a_thing_is_hidden():
    path = along(np.full(8, 150.0), np.full(8, 90.0), np.full(8, 50.0))
    boxes = [Rect(150, 90, 50, 50)] * 8
    thing, seen = Links(0, boxes, hidden={3, 4}), Links(0, boxes)
    measure([thing, seen], frames_of(HeldFrames(drawn([path], FRAME)), 0, 8), 0)
    measured = {(own.first, own.second) for own in thing.found if own.motion.measured}
    everything = {(own.first, own.second) for own in seen.found if own.motion.measured}
    assert measured == {pair for pair in everything if not {3, 4} & set(pair)}
    assert (1, 5) in measured  # over what is hidden
