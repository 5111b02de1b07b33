"""The peak of memory of clips that are detailed from file to file: video_memory.py FOLDER FRAMES...

Prints the most memory in MB that the process ever held, after each clip, as JSON.
"""

import gc
import importlib.util
import json
import resource
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def load_pack() -> None:
    """Make the project's folder the package `detailers`."""
    spec = importlib.util.spec_from_loader("detailers", loader=None, is_package=True)
    module = importlib.util.module_from_spec(spec)
    module.__path__ = [str(ROOT)]
    sys.modules["detailers"] = module


def main(folder: Path, lengths: list[int]) -> None:
    load_pack()
    from detailers.core.detail.tracks import detail_tracks
    from detailers.core.geometry import Rect, Size
    from detailers.core.host.video_read import FileFrames, never
    from detailers.core.host.video_sound import FileSound
    from detailers.core.host.video_write import Encoding, FileSink, format_for
    from detailers.core.settings import NO_CROPS, Motion
    from detailers.core.tracks.track import Sighting, Track, Tracks
    from detailers.tests.fake_backend import FakeBackend, fill, make_detail
    from detailers.tests.video_files import clip, picture

    class Forgetful(FakeBackend):
        """Keeps no list of what it was asked for."""

        def sample(self, run, on_step):
            result = super().sample(run, on_step)
            for asked in (self.runs, self.encoded, self.decoded, self.tiled, self.bars):
                asked.clear()
            gc.collect()  # what refers to itself would otherwise stay for a while
            return result

    size, peaks = Size(320, 240), []
    for count in lengths:
        file = clip(folder / f"{count}.mp4", count=count, size=size, sound=[("aac", count / 25)],
                    draw=lambda number, size: picture(number % 50, size))  # fmt: skip
        boxes = [Rect(80 + 0.4 * (frame % 100), 100, 24, 24) for frame in range(count)]
        seen = [
            Sighting(frame, box, Rect(box.x, box.y, 40, 40))
            for frame, box in enumerate(boxes)
            if frame % 50 < 5
        ]
        tracks = [
            Track(number, "face", tuple(seen[first : first + 5]))
            for number, first in enumerate(range(0, len(seen), 5))
        ]
        source = FileFrames(file)
        again = source.again()
        form = format_for(source, Encoding())
        sound = FileSound(file, never, "video")
        with FileSink(folder / f"{count}_made.mp4", again, sound, form, 16) as sink:
            detail_tracks(
                source, Tracks(size, count, tuple(tracks)), make_detail(kept=NO_CROPS),
                Motion(smoothing=1.0), Forgetful(fill(0.75)), sink,
            )  # fmt: skip
        for one in (source, again, sound):
            one.close()
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(peaks))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(one) for one in sys.argv[2:]])
