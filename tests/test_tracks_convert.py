"""core/tracks/convert.py and preview.py: tracks as SEGS, drawn and as text."""

import numpy as np
import pytest
import torch
from detailers.core.clips import HeldFrames, Watch
from detailers.core.detectors.detect import DetectionOptions
from detailers.core.geometry import Box, Rect, Size
from detailers.core.segs.seg import BatchImage
from detailers.core.tracks.convert import CLIPS, FRAMES, to_segs
from detailers.core.tracks.follow import Choosing, Following, follow
from detailers.core.tracks.given import Found, clip_and_finder
from detailers.core.tracks.preview import drawn, drawn_frames, drawn_preview, tracks_text
from detailers.core.tracks.track import Dropped, PackedMask, Sighting, Track, Tracks
from detailers.utils.notes import collected_notes

SIZE = Size(64, 40)


def sighting(frame, x, mask=None, **changed):
    box = Rect(x, 20, 8, 10)
    return Sighting(frame, box, Rect(x, 20, 24, 24), 0.8, mask, found=box, **changed)


def tracks(**changed):
    half = np.zeros((10, 8), np.float32)
    half[:5] = 1
    masks = [PackedMask.of(half, Box(16 + 2 * n, 15, 24 + 2 * n, 25)) for n in range(3)]
    first = Track(0, "face", tuple(sighting(1 + n, 20 + 2 * n, masks[n]) for n in range(3)))
    second = Track(
        1, "hand",
        (sighting(3, 50), sighting(4, 58, gap=True), sighting(5, 66), sighting(6, 50, used=False)),
    )  # fmt: skip
    return Tracks(SIZE, 8, (first, second), **changed)


def test_a_segment_of_a_video_for_each_track():
    (height, width), (face, hand) = to_segs(tracks(), CLIPS)
    assert (height, width) == (40, 64)
    assert (face.label, face.crop_region, face.bbox) == ("face", (8, 8, 36, 32), (16, 15, 28, 25))
    assert face.cropped_mask.shape == (8, 24, 28)
    assert [float(mask.sum()) for mask in face.cropped_mask] == [0, 40, 40, 40, 0, 0, 0, 0]
    assert face.cropped_mask[2, 7:12, 10:18].min() == 1
    assert hand.crop_region == (38, 8, 64, 32)
    assert [float(mask.sum()) for mask in hand.cropped_mask] == [0, 0, 0, 80, 80, 20, 0, 0]
    assert face.confidence == pytest.approx(0.8)
    _, (_, without) = to_segs(tracks(), CLIPS, gaps=False)
    assert [float(mask.sum()) for mask in without.cropped_mask] == [0, 0, 0, 80, 0, 20, 0, 0]


def test_a_segment_for_each_frame_of_a_track():
    _, segs = to_segs(tracks(), FRAMES)
    assert [seg.batch_image for seg in segs] == [BatchImage(n, 8) for n in (1, 2, 3, 3, 4, 5)]
    assert [seg.label for seg in segs] == ["face", "face", "face", "hand", "hand", "hand"]
    assert segs[0].crop_region == (8, 8, 32, 32)
    assert segs[0].cropped_mask.shape == (24, 24)
    assert segs[5].bbox == (62, 15, 64, 25)
    assert len(to_segs(tracks(), FRAMES, gaps=False)[1]) == 5


@pytest.mark.parametrize("form", [CLIPS, FRAMES])
def test_tracks_become_segs_and_tracks_again(form):
    def box(x, y, side):
        return {"x": x, "y": y, "width": side, "height": side}

    boxes = [[box(4 + n, 6, 12), box(40, 12 + n, 10)] for n in range(8)]
    frames = HeldFrames(torch.zeros(8, 40, 64, 3))
    how = Following(choosing=Choosing(min_frames=1))
    clip, finder = clip_and_finder(frames, Found(boxes=boxes), DetectionOptions(drop_size=1))
    before = follow(clip, finder, how)
    found = Found(segs=to_segs(before, form))
    clip, finder = clip_and_finder(None, found, DetectionOptions(drop_size=1))
    after = follow(clip, finder, how)
    assert (after.frames, after.size) == (8, SIZE)
    assert [track.frames for track in after.tracks] == [range(8)] * 2
    for one, other in zip(before.tracks, after.tracks, strict=True):
        for own, back in zip(one.sightings, other.sightings, strict=True):
            assert (back.box.x, back.box.y) == pytest.approx((own.box.x, own.box.y), abs=0.6)
            assert not back.gap
    if form == CLIPS:
        assert [track.object_id for track in after.tracks] == [0, 1]


def test_no_track_gives_no_segment():
    for form in (CLIPS, FRAMES):
        assert to_segs(Tracks(SIZE, 3), form) == ((40, 64), [])


def test_masks_that_are_too_large_are_refused():
    far = Rect(4000, 4000, 20, 20)
    large = Track(0, "a", (sighting(0, 20), Sighting(1, far, far)))
    long = Tracks(Size(4096, 4096), 4000, (large,))
    with pytest.raises(ValueError, match=r"The masks of track 1 .*segments of each frame"):
        to_segs(long, CLIPS)


def test_masks_that_are_too_large_together_are_refused():
    there = Rect(2000, 2000, 1000, 1000)
    several = tuple(Track(n, "a", (Sighting(0, there, there),)) for n in range(3))
    with pytest.raises(ValueError, match=r"The masks of all tracks .*segments of each frame"):
        to_segs(Tracks(Size(4096, 4096), 1000, several), CLIPS)
    still = Track(0, "a", tuple(Sighting(n, there, there) for n in range(2200)))
    with pytest.raises(ValueError, match=r"The masks of all tracks .*fewer frames or tracks"):
        to_segs(Tracks(Size(4096, 4096), 2200, (still,)), FRAMES)


# Preview


def test_the_bar_counts_frames_that_are_drawn_and_drawing_can_be_stopped():
    values = []

    def stop():
        if len(values) == 2:
            raise InterruptedError

    def begin(total):
        assert total == 4
        return lambda done, *_: values.append(done)

    frames = HeldFrames(torch.full((8, 40, 64, 3), 0.5))
    drawn_frames(tracks(), frames, 0, every=2, watch=Watch(progress=begin))
    assert values == [1, 2, 3, 4]
    values.clear()
    with pytest.raises(InterruptedError):
        drawn_frames(tracks(), frames, 0, every=2, watch=Watch(stop, begin))
    assert values == [1, 2]


def test_windows_are_drawn_where_they_are_and_nowhere_else():
    frames = torch.full((8, 40, 64, 3), 0.5)
    pictures = drawn_frames(tracks(), HeldFrames(frames), 0)
    assert pictures.shape == (8, 40, 64, 3)
    assert torch.equal(pictures[[0, 7]], frames[[0, 7]])
    one = pictures[1]
    assert (one[31, 8:32] != 0.5).any(-1).all()  # the lower line of the window
    assert (one[34:] == 0.5).all() and (one[24:, 36:] == 0.5).all()
    assert torch.equal(frames, torch.full((8, 40, 64, 3), 0.5))


def test_gaps_are_dashed_and_windows_that_are_left_out_are_dark():
    large = Tracks(
        Size(320, 240), 3,
        (Track(0, "a", tuple(
            Sighting(n, Rect(160, 140, 80, 80), Rect(160, 140, 160, 160), gap=n == 1, used=n != 2)
            for n in range(3)
        )),),
    )  # fmt: skip
    whole, gap, unused = drawn_frames(large, HeldFrames(torch.full((3, 240, 320, 3), 0.5)), 0)
    row = slice(100, 230)
    assert len(whole[219, row].unique(dim=0)) == 1
    assert len(gap[219, row].unique(dim=0)) == 2
    assert unused[200, 160].max() < 0.3 and whole[200, 160].max() == 0.5


def test_frames_of_another_clip_are_told():
    for count, told in ((8, []), (3, ["a clip of 8 frames, but are drawn into 3 frames"])):
        with collected_notes() as notes:
            pictures = drawn_frames(tracks(), HeldFrames(torch.full((count, 40, 64, 3), 0.5)), 0)
        assert len(pictures) == count
        assert [text in note.text for text, note in zip(told, notes, strict=True)] == [True] * len(
            told
        )


def test_the_first_frame_after_a_cut_is_marked():
    pictures = drawn_frames(tracks(cuts=(7,)), HeldFrames(torch.full((8, 40, 64, 3), 0.5)), 0)
    assert (pictures[7] != 0.5).any() and (pictures[0] == 0.5).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_are_small_and_few_if_asked_for(channels):
    frames = torch.rand(8, 40, 64, channels)
    pictures = drawn_frames(tracks(), HeldFrames(frames), 32, every=3)
    assert pictures.shape == (3, 20, 32, 3)
    assert drawn_frames(tracks(), None, 0).shape == (8, 40, 64, 3)
    assert len(list(drawn(tracks(), None, 32))) == 8
    shown = drawn_preview(torch.zeros(200, 600, 1200, 3))
    assert (len(shown), tuple(shown[0].shape)) == (60, (1, 256, 512, 3))


def test_the_text_has_a_line_for_each_track_cut_and_dropped_one():
    dropped = (Dropped("face", 2, 3, "found in 2 of at least 5 frames (min_frames)"),)
    assert tracks_text(tracks(cuts=(4,), dropped=dropped)).splitlines() == [
        "2 tracks in 8 frames of 64x40",
        "1 cut: at frame 4",
        "1 face: frames 1-3 (3), 8-8 px",
        "2 hand: frames 3-6 (4), 8-8 px, 1 bridged, 1 left out",
        "dropped: face, frames 2-3: found in 2 of at least 5 frames (min_frames)",
    ]
    assert tracks_text(Tracks(SIZE, 1)) == "0 tracks in 1 frame of 64x40"


def test_what_hides_what_is_told_once_for_pictures_and_text(monkeypatch):
    from detailers.core.tracks.occlusion import Occlusions

    known, frames = Occlusions.of(tracks()), HeldFrames(torch.full((8, 40, 64, 3), 0.5))
    wanted = drawn_frames(tracks(), frames, 0), tracks_text(tracks())
    monkeypatch.setattr(Occlusions, "of", lambda _: pytest.fail("it is known already"))
    assert torch.equal(drawn_frames(tracks(), frames, 0, occlusions=known), wanted[0])
    assert tracks_text(tracks(), known) == wanted[1]


def test_only_the_frames_that_are_drawn_are_read():
    class Source(HeldFrames):
        read_from = []

        def read(self, start, stop):
            self.read_from.append((start, stop))
            return super().read(start, stop)

    drawn_frames(tracks(), Source(torch.full((8, 40, 64, 3), 0.5)), 0, every=3)
    assert Source.read_from == [(0, 1), (3, 4), (6, 7)]
