"""Each example workflow, run in a real host with the miniature as its model."""

import numpy as np
import pytest
from detailers.dev.example_runs import FRAMES, Street, prompt_for, result_of
from detailers.dev.server import ROOT
from PIL import Image

EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
STREET = Street(seed=2, side=192)
QUICK = {"guide_size": 64, "max_size": 128, "steps": 1, "denoise": 0.3, "bbox_size": 64}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_runs_and_changes_what_it_is_for(run, server, file):
    prompt = prompt_for(file, STREET, server.input, **QUICK)
    done = run(prompt)
    saved = result_of(prompt, done.outputs)
    path = server.output / saved["subfolder"] / saved["filename"]
    if path.suffix != ".png":
        import av

        with av.open(path) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert len(frames) == FRAMES
        assert frames[0].shape == (STREET.side, STREET.side, 3)
        return
    after = np.asarray(Image.open(path).convert("RGB")).astype(int)
    larger = 2 if "upscale" in file.stem else 1
    assert after.shape == (STREET.side * larger, STREET.side * larger, 3)
    if larger == 1:
        change = np.abs(after - np.asarray(STREET.picture()).astype(int)).max(2)
        left, top, right, bottom = STREET.boxes("head" if "hand" not in file.stem else "hand")[0]
        assert change[top:bottom, left:right].max() > 8
        assert (change == 0).mean() > 0.2  # what is far from everything stays as it was
