"""dev/server.py on a real ComfyUI, with stock nodes."""

import io

import numpy as np
import pytest
from detailers.dev.server import PromptRefused
from PIL import Image

RED = 0xFF0000


def save_image(color=RED):
    """A prompt that saves an image of 6x4 pixels."""
    size = {"width": 6, "height": 4, "batch_size": 1}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, "color": color}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
    }


def load_image(name):
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_outputs_of_a_run_can_be_viewed(server, run):
    done = run(save_image())
    (entry,) = done.outputs["2"]["images"]
    image = pixels(server.view(**entry))
    assert image.shape == (4, 6, 3)
    assert (image == [255, 0, 0]).all()


def test_uploaded_image_is_loaded(server, run, tmp_path):
    Image.new("RGB", (5, 3), (0, 0, 255)).save(tmp_path / "blue one.png")
    done = run(load_image(server.upload_image(tmp_path / "blue one.png")))
    image = pixels(server.view(**done.outputs["2"]["images"][0]))
    assert image.shape == (3, 5, 3)
    assert (image == [0, 0, 255]).all()


def test_a_failing_node_is_named(server):
    (server.input / "broken.png").write_text("no image")
    done = server.run(load_image("broken.png"))
    assert not done.ok
    assert (done.error.node_id, done.error.node_type) == ("1", "LoadImage")
    assert "broken.png" in done.error.message


def test_a_prompt_that_is_not_valid_is_refused(server):
    prompt = save_image()
    prompt["1"]["inputs"]["width"] = 0
    with pytest.raises(PromptRefused, match=r"node 1 EmptyImage: .*width") as refused:
        server.run(prompt)
    assert list(refused.value.node_errors) == ["1"]


def test_a_watch_sees_the_whole_run(server):
    with server.watch() as watch:
        done = server.run(save_image(color=0x00FF00), watch=watch)
    assert done.ok
    assert [event.data["node"] for event in watch.of("executed")] == ["2"]
    last = watch.of("progress_state")[-1].data["nodes"]
    assert {node: state["state"] for node, state in last.items()} == {
        "1": "finished",
        "2": "finished",
    }


def test_object_info_tells_of_one_node_or_all(server):
    assert server.object_info("EmptyImage")["output"] == ["IMAGE"]
    assert server.object_info()["EmptyImage"] == server.object_info("EmptyImage")
