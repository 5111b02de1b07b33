"""Out of memory, in every form and at every place."""

import errno
import gc
import traceback
import weakref

import cv2
import numpy as np
import pytest
import torch
from detailers.core import memory
from detailers.core.detail import crop
from detailers.core.detail.images import detail_image
from detailers.core.detail.video import detail_frames
from detailers.core.detectors import base
from detailers.core.detectors.base import BoxDetector, Detection
from detailers.core.detectors.clipseg import CLIPSegDetector, CLIPSegOptions
from detailers.core.detectors.detect import DetectionOptions
from detailers.core.detectors.given import found_by
from detailers.core.detectors.host_data import SegmentOptions, boxes_to_segs
from detailers.core.detectors.mtcnn import FaceFinder
from detailers.core.detectors.network import CpuNetwork
from detailers.core.detectors.sam.model import Embedded, Sam, sam_masks
from detailers.core.detectors.sam.questions import SamHints
from detailers.core.detectors.video import track
from detailers.core.geometry import Box, Size
from detailers.core.hook_protocol import DetailerHook
from detailers.core.pixels import blend, image
from detailers.core.pixels import resample as resample_module
from detailers.core.pixels.resample import resample
from detailers.core.sampling.iterative_upscale import Iterations, upscale_latent
from detailers.core.sampling.latent import SchedulePart
from detailers.core.sampling.regional import Regional, RegionalPrompt, regions_of, sample_regions
from detailers.core.sampling.sampler_objects import Recovery
from detailers.core.sampling.sigmas import Window
from detailers.core.segs.image_batch import in_each_image
from detailers.tests.fake_backend import (
    FakeBackend,
    brighten,
    grain,
    make_detail,
    make_seg,
    noise_image,
)
from detailers.tests.test_iterative_upscale import latent_of, upscaler
from detailers.tests.test_mtcnn import white_networks
from detailers.tests.test_regional import LATENT, half, paint, sampler, top
from detailers.utils.notes import collected_notes


class AcceleratorError(RuntimeError):
    """As torch's, whose constructor is not for Python."""

    def __init__(self, text, error_code):
        super().__init__(text)
        self.error_code = error_code


class OfARuntime(Exception):
    """As those of libraries such as onnxruntime."""


def opencv():
    error = cv2.error("OpenCV(4.12.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed")
    error.code = -4
    return error


def caused():
    error = RuntimeError("the tiles cannot be put together")
    error.__cause__ = ValueError("a step before")
    error.__cause__.__cause__ = MemoryError()
    return error


KINDS = {
    "host": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cublas": lambda: RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "cudnn": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cudnn 9": lambda: RuntimeError(
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"
    ),
    "workspace": lambda: RuntimeError("FIND was unable to find an engine to execute this"),
    "late": lambda: RuntimeError(
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"
    ),
    "code": lambda: AcceleratorError("CUDA error: unknown words", 2),
    "hip": lambda: RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
    "hip late": lambda: RuntimeError("HIP error: out of memory"),
    "rocblas": lambda: RuntimeError("rocblas_status_memory_error"),
    "miopen": lambda: RuntimeError("miopenStatusAllocFailed"),
    "mps": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 8.0 GB)"),
    "mps buffer": lambda: RuntimeError("Invalid buffer size: 24.00 GB"),
    "xpu": lambda: RuntimeError("Native API failed: UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"),
    "xpu host": lambda: RuntimeError("40 (UR_RESULT_ERROR_OUT_OF_HOST_MEMORY)"),
    "directml": lambda: RuntimeError(
        "Could not allocate tensor with 52428800 bytes. There is not enough GPU video memory"
    ),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "cpu on Windows": lambda: RuntimeError(
        "DefaultCPUAllocator: not enough memory: you tried to allocate 75497472 bytes."
    ),
    "c++": lambda: RuntimeError("std::bad_alloc"),
    "python": lambda: MemoryError(),
    "numpy": lambda: np._core._exceptions._ArrayMemoryError((9, 9), np.dtype("f4")),
    "opencv": opencv,
    "onnx": lambda: OfARuntime("Failed to allocate memory for requested buffer of size 9"),
    "system": lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
    "caused": caused,
}
OTHERS = {
    "shapes": RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    "illegal": AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
    "assert": RuntimeError("CUDA error: device-side assert triggered"),
    "values": ValueError("'memory' is out of memory, not enough memory"),
    "file": FileNotFoundError(errno.ENOENT, "No such file"),
    "opencv": cv2.error("OpenCV(4.12.0) error: (-215:Assertion failed) !empty()"),
    "devices": RuntimeError("Expected all tensors to be on the same device"),
    "words": RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_is_recognised(kind):
    assert memory.is_out_of_memory(KINDS[kind]())


@pytest.mark.parametrize("kind", OTHERS)
def test_other_errors_are_not(kind):
    assert not memory.is_out_of_memory(OTHERS[kind])


def test_what_happened_before_by_chance_does_not_count():
    error = RuntimeError("shapes")
    error.__context__ = MemoryError()
    assert not memory.is_out_of_memory(error)
    circle = RuntimeError("a circle")
    circle.__cause__ = circle
    assert not memory.is_out_of_memory(circle)


# Letting go


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch):
    """It takes a while where much is imported, and nothing here needs it."""
    monkeypatch.setattr(memory.gc, "collect", lambda generation: 0)


def test_what_failed_is_let_go_before_it_is_tried_again():
    held = []

    def fails():
        tensor = torch.zeros(8)
        held.append(weakref.ref(tensor))

        def inner():
            own = torch.zeros(8)
            held.append(weakref.ref(own))
            raise KINDS["late"]()

        try:
            inner()
        except RuntimeError as error:
            held_too = [tensor, error]  # a circle: the error's frames hold this
            raise RuntimeError(f"of a wrapper of {len(held_too)}") from error

    gc.disable()
    try:
        lack = memory.attempt(fails)
        assert isinstance(lack, memory.Lack)
        assert [ref() for ref in held] == [None, None]
    finally:
        gc.enable()
    assert "fails" in "".join(traceback.format_tb(lack.error.__traceback__))  # still tells where


def test_freeing_is_asked_of_the_host():
    asked = []
    memory.add_host(asked.append)
    try:
        memory.free()
        memory.free(unload=True)
    finally:
        memory._of_host.remove(asked.append)
    assert asked == [False, True]


# How work continues


def failing(times, kind="late"):
    """A function that raises so many times, or always, and counts its calls."""

    def work(*args):
        work.calls += 1
        if times is None or work.calls <= times:
            raise KINDS[kind]()
        return "done"

    work.calls = 0
    return work


@pytest.mark.parametrize("times", [0, 1, 2])
def test_one_thing_is_tried_three_times(times):
    freed = []
    trying = memory.Trying(lambda unload=False: freed.append(unload))
    assert memory.persist(failing(times), "a thing", "done", trying) == "done"
    assert freed == [False, True][:times]


def test_then_it_is_an_error_that_names_all():
    work = failing(None, "cublas")
    with pytest.raises(memory.OutOfMemory) as caught:
        memory.persist(work, "segment 3 at 64 x 32 pixels", "sampled")
    text = str(caught.value)
    for part in (
        "Out of memory: segment 3 at 64 x 32 pixels cannot be sampled",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
        "Tried: alone, with the caches freed, with all models unloaded.",
        "max_size",
    ):
        assert part in text, (part, text)
    assert work.calls == 3
    assert isinstance(caught.value, torch.cuda.OutOfMemoryError)  # what the host looks for
    assert isinstance(caught.value, MemoryError)


def test_halves_are_tried_down_to_one_and_what_is_done_stays_done():
    seen, told = [], []

    def work(part):
        seen.append((part.start, part.stop))
        if part.stop - part.start > (3 if part.start < 3 else 1):
            raise MemoryError
        return part.stop - part.start

    parts = memory.divided(
        8, work, str, "done", memory.Trying(lambda unload=False: None), 6,
        lambda before, now: told.append((before, now)),
    )  # fmt: skip
    assert [result for _, result in parts] == [3, 1, 1, 1, 1, 1]
    assert told == [(6, 3), (3, 2), (2, 1)]
    assert seen[:4] == [(0, 6), (0, 3), (3, 6), (3, 5)]


def test_an_error_that_is_final_is_not_tried_again():
    def work(part):
        work.calls += 1
        raise memory.OutOfMemory("a picture", "decoded", "MemoryError", ["alone"])

    work.calls = 0
    with pytest.raises(memory.OutOfMemory, match="segment 7 cannot be decoded"):
        list(memory.divided(4, work, lambda place: "segment 7", "seen"))
    assert work.calls == 1


# At each place of a detailer

BOXES = [(0, 0, 16, 16), (20, 0, 36, 16), (40, 0, 56, 16), (0, 20, 16, 36)]


class Lacking(FakeBackend):
    """Runs out of memory so many times at one of its methods; without limit for None."""

    def __init__(self, place, kind, times):
        super().__init__(grain)
        self.place, self.kind, self.left = place, kind, times

    def _lack(self, place):
        if place == self.place and self.left != 0:
            self.left = None if self.left is None else self.left - 1
            raise KINDS[self.kind]()

    def encode(self, *args, **options):
        self._lack("encode")
        return super().encode(*args, **options)

    def decode(self, *args, **options):
        self._lack("decode")
        return super().decode(*args, **options)

    def sample(self, *args):
        self._lack("sample")
        return super().sample(*args)


PLACES = {  # where a function is looked up
    "enlarge": (crop, "resize"),
    "weight": (blend.Blending, "weight"),
    "paste": (blend, "paste"),
    "blend": (image, "_blend"),
    "lanczos": (resample_module, "along_width"),
}


def detailed(place, kind, times, monkeypatch, count=4):
    backend = Lacking(place, kind, times)
    if place in PLACES:
        owner, name = PLACES[place]
        own = getattr(owner, name)
        left = [times]

        def lacking(*args, **options):
            if left[0] != 0:
                left[0] = None if left[0] is None else left[0] - 1
                raise KINDS[kind]()
            return own(*args, **options)

        monkeypatch.setattr(owner, name, lacking)
    segs = (40, 60), [make_seg(box) for box in BOXES[:count]]
    detail = make_detail(batch=0, guide_size=24, feather=2)
    return detail_image(noise_image(1, 40, 60), segs, detail, backend).image


@pytest.fixture(scope="module")
def whole():
    with pytest.MonkeyPatch.context() as patch:
        return {count: detailed("", "", 0, patch, count) for count in (1, 4)}


EVERY = ["encode", "sample", "decode", *PLACES]


@pytest.mark.parametrize("place", EVERY)
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_at_every_place_is_gone_on_with(place, kind, whole, monkeypatch):
    found = detailed(place, kind, 2, monkeypatch)
    assert torch.allclose(found, whole[4], atol=1e-5)


@pytest.mark.parametrize("place", EVERY)
@pytest.mark.parametrize("times", [1, 2, 5, None])
@pytest.mark.parametrize("count", [1, 4])
def test_the_same_picture_or_one_clear_error(place, times, count, whole, monkeypatch):
    try:
        found = detailed(place, "cpu", times, monkeypatch, count)
    except memory.OutOfMemory as error:
        assert times in (5, None)
        text = str(error)
        assert "segment 0 at 24 x 24 pixels cannot be " in text
        assert "can't allocate memory" in text
        assert "with the caches freed, with all models unloaded" in text
        if count == 4 and place == "sample":
            assert "Tried: 4 at once, 2 at once, alone," in text
        return
    assert times is not None
    assert torch.allclose(found, whole[count], atol=1e-5)


@pytest.mark.parametrize("place", EVERY)
def test_a_clip_too(place, monkeypatch):
    def clip(own, times):
        with pytest.MonkeyPatch.context() as patch:
            backend = Lacking(own, "late", times)
            if own in PLACES:
                owner, name = PLACES[own]
                before, left = getattr(owner, name), [times]

                def lacking(*args, **options):
                    if left[0] != 0:
                        left[0] -= 1
                        raise KINDS["late"]()
                    return before(*args, **options)

                patch.setattr(owner, name, lacking)
            segs = (40, 60), [make_seg(BOXES[0])]
            detail = make_detail(guide_size=24, feather=2)
            return detail_frames(noise_image(3, 40, 60), segs, detail, backend, pasted=True).image

    assert torch.allclose(clip(place, 2), clip("", 0), atol=1e-5)


def test_what_was_too_much_is_told(monkeypatch):
    with collected_notes() as notes:
        detailed("sample", "late", 2, monkeypatch)
    assert [note.text for note in notes] == [
        "Out of memory: 4 crops cannot be sampled at once. They are now sampled 2 at a time.",
        "Out of memory: 2 crops cannot be sampled at once. They are now sampled 1 at a time.",
    ]


# Resizing and pasting by themselves


@pytest.mark.parametrize("function", [resample_module.resize, resample])
def test_a_resize_goes_on_by_channels(function, monkeypatch):
    args = () if function is resample_module.resize else ("bicubic",)
    module = resample_module
    picture = noise_image(3, 20, 30)
    expected = function(picture, Size(50, 44), *args)
    along = module.along_width

    def small(planes, weights):
        if len(planes) > 1:
            raise KINDS["cpu"]()
        return along(planes, weights)

    monkeypatch.setattr(module, "along_width", small)
    assert torch.allclose(function(picture, Size(50, 44), *args), expected, atol=1e-6)


def test_a_resize_without_any_memory_says_the_sizes(monkeypatch):
    monkeypatch.setattr(resample_module, "along_width", failing(None, "cpu"))
    with pytest.raises(memory.OutOfMemory, match="30 x 20 pixels cannot be resized to 50 x 44"):
        resample_module.resize(noise_image(1, 20, 30), Size(50, 44))


def test_a_paste_goes_on_in_bands_and_blends_each_row_once(monkeypatch):
    base, new = noise_image(1, 20, 30), noise_image(1, 12, 10, seed=1)
    mask = torch.full((1, 12, 10), 0.5)
    expected = base.clone()
    image.paste(expected, new, mask, Box(5, 4, 15, 16), 0.7)
    blended = image._blend

    def small(below, *rest):
        if below.shape[1] > 2 and (below.shape[1] > 3 or small.calls > 2):
            small.calls += 1
            raise KINDS["cpu"]()
        small.calls += 1
        blended(below, *rest)

    small.calls = 0
    monkeypatch.setattr(image, "_blend", small)
    image.paste(base, new, mask, Box(5, 4, 15, 16), 0.7)
    assert torch.equal(base, expected)


# Detectors


class Finder(BoxDetector):
    def __init__(self, times, kind):
        self.lack = failing(times, kind)

    def find(self, picture, threshold):
        self.lack()
        return [Detection(Box(4, 4, 20, 20), 0.9, "A")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_detector_is_asked_again(kind, times):
    (seg,) = Finder(times, kind).detect(noise_image(1, 32, 40), 0.5, 0, 1.0)[1]
    assert seg.bbox == (4, 4, 20, 20)
    assert Finder(times, kind).detect_combined(noise_image(1, 32, 40), 0.5, 0).sum() == 256


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_that_never_has_memory_names_the_image(kind):
    with pytest.raises(memory.OutOfMemory, match="the image of 40 x 32 pixels cannot be searched"):
        Finder(None, kind).detect(noise_image(1, 32, 40), 0.5, 0, 1.0)


def test_a_detector_of_another_pack_is_asked_again_for_the_image_that_failed():
    seen = []

    class Foreign:
        def detect(self, image, threshold, dilation, crop_factor, drop_size):
            seen.append(float(image.mean()))
            if len(seen) == 2:
                raise KINDS["cublas"]()
            return (32, 40), []

    in_each_image(
        noise_image(3, 32, 40), lambda single: found_by(Foreign(), "a", single, 0.5, 0, 1.0, 1)
    )
    assert len(seen) == 4
    assert seen[1] == seen[2]


def test_what_is_done_with_each_image_is_done_once_and_the_error_names_the_image():
    lack = failing(None, "cpu")
    with pytest.raises(memory.OutOfMemory, match="the image of 40 x 32 pixels cannot be searched"):
        in_each_image(noise_image(2, 32, 40), lack)
    assert lack.calls == 1


class Watching(DetailerHook):
    """Counts its calls, and moves every region by the number of calls before."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def post_crop_region(self, width, height, bbox, region):
        self.calls.append("region")
        moved = len(self.calls) - 1
        return region[0] + moved, region[1], region[2] + moved, region[3]

    def post_detection(self, segs):
        self.calls.append("segs")
        return segs


class TwoFound(BoxDetector):
    def find(self, picture, threshold):
        return [Detection(Box(x, 4, x + 8, 20), 0.9, "A") for x in (4, 20)]


class ForeignFinder:
    """As another pack's: what it holds fails after it has asked the hook."""

    def __init__(self, lack):
        self.lack = lack

    def detect(self, image, threshold, dilation, crop_factor, drop_size, detailer_hook=None):
        segs = TwoFound().detect(image, threshold, dilation, crop_factor, drop_size, detailer_hook)
        self.lack()
        return segs


@pytest.mark.parametrize("kind", ["cublas", "cpu"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("place", ["in a foreign one", "mask"])
def test_a_hook_is_asked_once_though_its_detector_is_asked_again(kind, times, place, monkeypatch):
    def found(detector):
        hook = Watching()
        segs = found_by(
            detector, "a", noise_image(1, 32, 40), 0.5, 0, 1.0, 1, detailer_hook=hook
        )  # fmt: skip
        assert hook.calls == ["region", "region", "segs"]
        return [seg.crop_region for seg in segs[1]]

    expected = found(TwoFound())
    assert expected == [(4, 4, 12, 20), (21, 4, 29, 20)]
    if place == "mask":
        own, lack = base.found_mask, failing(times, kind)

        def lacking(*args):
            if lack.calls < times:
                lack()
            return own(*args)

        monkeypatch.setattr(base, "found_mask", lacking)
        assert found(TwoFound()) == expected
    else:
        assert found(ForeignFinder(failing(times, kind))) == expected


def test_boxes_that_are_given_image_by_image_stay_with_their_images(monkeypatch):
    own, lack = base.found_mask, failing(1, "late")

    def lacking(*args):
        if lack.calls < 1:
            lack()
        return own(*args)

    monkeypatch.setattr(base, "found_mask", lacking)
    boxes = [
        [{"x": 4, "y": 4, "width": 8, "height": 8}],
        [{"x": 20, "y": 4, "width": 8, "height": 8}],
    ]
    making = SegmentOptions(dilation=0, crop_factor=1.0, drop_size=1)
    segs = boxes_to_segs(noise_image(2, 32, 40), boxes, 0.0, making)[1]
    assert [(seg.batch_image.index, seg.bbox[0]) for seg in segs] == [(0, 4), (1, 20)]


def test_clipseg_is_asked_again(monkeypatch):
    detector = CLIPSegDetector(CLIPSegOptions("a face", blur=0, dilation=0), lambda: None)
    lack = failing(2)

    def sure(picture, text):
        lack()
        return torch.ones(1, 8, 8)

    monkeypatch.setattr(detector, "_sure", sure)
    assert detector.detect_combined(noise_image(1, 32, 40), 0.5, 0).min() == 1


# Other places that go on


def sam_of(lack):
    """A SAM that marks the left half, and lacks memory when it looks or when it is asked."""

    def embed(module, picture):
        lack("embed")
        return Embedded(None, (1.0, 1.0))

    def ask(module, seen, asked):
        lack("ask")
        masks = torch.zeros(asked.boxes.shape[1], 3, 32, 40)
        masks[..., :20] = 1
        return masks - 0.5, torch.ones(len(masks), 3)

    def follow(frames, boxes, lowest):
        lack("follow")
        return [torch.ones(len(frames), *frames.shape[1:3]) for _ in boxes]

    return Sam(CpuNetwork(torch.nn.Identity()), embed, ask, follow)


class ForeignSam:
    def __init__(self, lack):
        self.lack = lack

    def prepare_device(self):
        pass

    release_device = prepare_device

    def predict(self, pixels, points, labels, box, threshold):
        self.lack("foreign")
        return [np.ones((32, 40), dtype=bool)]


def sam_marks(lack, model=sam_of):
    segs = (32, 40), [make_seg((4, 4, 20, 20)), make_seg((22, 4, 38, 20))]
    return torch.stack(sam_masks(model(lack), segs, noise_image(1, 32, 40), SamHints("none")))


def followed(lack):
    segs = track(
        noise_image(2, 32, 40), TwoFound(), sam_of(lack), DetectionOptions(drop_size=1), 0.0
    )
    return torch.stack([torch.as_tensor(seg.cropped_mask) for seg in segs[1]])


def faces(lack):
    networks = white_networks()
    own = networks.pnet.forward

    def forward(pixels):
        lack("faces")
        return own(pixels)

    networks.pnet.forward = forward
    picture = torch.zeros(100, 120, 3)
    picture[20:80, 30:90] = 1
    return FaceFinder(CpuNetwork(networks), 40).find(picture, 0.5).boxes


def clipseg(lack):
    class Own(CLIPSegDetector):
        def _sure(self, picture, text):
            lack("clipseg")
            return torch.ones(1, 8, 8)

    detector = Own(CLIPSegOptions("a face", blur=0, dilation=0), lambda: None)
    return detector.detect_combined(noise_image(1, 32, 40), 0.5, 0)


class LackingSampler(FakeBackend):
    def __init__(self, lack, draw):
        super().__init__(draw)
        self.lack = lack

    def sample(self, run, on_step):
        self.lack("sample")
        return super().sample(run, on_step)


def regions(lack):
    prompts = [RegionalPrompt(half(4), sampler("left")), RegionalPrompt(top(2), sampler("top"))]
    own = regions_of(prompts, LATENT["samples"], 0)
    regional = Regional(sampler("base"), own, Recovery(), together=True)
    part = SchedulePart(Window(4, 1, 4), 5)
    return sample_regions(regional, LATENT, part, LackingSampler(lack, paint))["samples"]


def upscaled(lack):
    backend = LackingSampler(lack, brighten(0.125))
    return upscale_latent(latent_of(16, 8), Iterations(2.0, 2), upscaler(backend), backend)[
        "samples"
    ]


def resized(lack):
    along = resample_module.along_width

    def lacking(planes, weights):
        lack("resize")
        return along(planes, weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample_module, "along_width", lacking)
        return resample_module.resize(noise_image(2, 20, 30), Size(50, 44))


def pasted(lack):
    own = image._blend

    def lacking(*args):
        lack("paste")
        own(*args)

    base = noise_image(1, 20, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image, "_blend", lacking)
        image.paste(
            base, noise_image(1, 12, 10, seed=1), torch.full((1, 12, 10), 0.5), Box(5, 4, 15, 16)
        )
    return base


OTHER_PLACES = {
    "embed": (sam_marks, "the image of 40 x 32 pixels cannot be looked at by the SAM"),
    "ask": (sam_marks, "the image of 40 x 32 pixels cannot be looked at by the SAM"),
    "foreign": (
        lambda lack: sam_marks(lack, ForeignSam),
        "the image of 40 x 32 pixels cannot be looked at by the SAM",
    ),
    "follow": (followed, "a clip of 2 frames of 40 x 32 pixels cannot be followed by the SAM"),
    "faces": (faces, "the image of 120 x 100 pixels cannot be searched"),
    "clipseg": (clipseg, "the image of 40 x 32 pixels cannot be searched by CLIPSeg"),
    "sample": (regions, "of 1 x 8 x 6 cells cannot be sampled"),
    "sample, iteratively": (upscaled, "of 1 x 6 x 3 cells cannot be sampled"),
    "resize": (resized, "30 x 20 pixels cannot be resized to 50 x 44"),
    "paste": (pasted, "a crop of 10 x 12 pixels cannot be pasted"),
}


@pytest.mark.parametrize("place", OTHER_PLACES)
@pytest.mark.parametrize("kind", ["cublas", "cpu"])
@pytest.mark.parametrize("times", [1, 2, 5, None])
def test_every_other_place_gives_the_same_or_one_clear_error(place, kind, times):
    work, told = OTHER_PLACES[place]
    here, left, raised = place.split(",")[0], [times], [0]

    def lack(where):
        if where == here and left[0] != 0:
            left[0] = None if left[0] is None else left[0] - 1
            raised[0] += 1
            raise KINDS[kind]()

    expected = work(lambda where: None)
    try:
        found = work(lack)
    except memory.OutOfMemory as error:
        assert times in (5, None)
        assert told in str(error)
        assert raised[0] <= 12
        return
    assert times is not None
    assert raised[0] == times  # it did run out of memory here
    assert torch.allclose(found.float(), expected.float(), atol=1e-6)


@pytest.mark.parametrize("kind", ["cublas", "cpu"])
def test_a_wave_is_halved_down_to_one_row_and_goes_on(kind, monkeypatch):
    """Sixteen at once, eight, four, two and one fail: one alone, tried again, fits."""
    boxes = [(x, y, x + 8, y + 8) for y in range(0, 40, 10) for x in range(0, 40, 10)]
    segs = (40, 40), [make_seg(box) for box in boxes]
    detail = make_detail(batch=0, guide_size=16, feather=2)

    def made(times):
        backend = Lacking("sample", kind, times)
        with collected_notes() as notes:
            picture = detail_image(noise_image(1, 40, 40), segs, detail, backend).image
        return picture, backend, [note.text for note in notes if note.kind == "memory"]

    whole, _, none = made(0)
    found, backend, notes = made(5)
    assert none == []
    assert [len(run.latent) for run in backend.runs] == [1] * 16
    assert [note.split(": ")[1] for note in notes] == [
        f"{count} crops cannot be sampled at once. They are now sampled {count // 2} at a time."
        for count in (16, 8, 4, 2)
    ]
    assert torch.allclose(found, whole, atol=1e-5)
