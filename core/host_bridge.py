"""ComfyUI, for the nodes between a graph and the editor: files, previews, messages, blocking."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_management
import comfy.utils
import folder_paths
import latent_preview
import torch
from comfy.nested_tensor import NestedTensor
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.utils import get_executing_context
from comfy_execution.validation import validate_node_input

from ..utils.notes import note
from ..utils.paths import expect_path
from . import flow
from .bridge import (
    Painting,
    Paintings,
    Picture,
    file_entry,
    file_value,
    fingerprint,
    keep_mask,
)
from .detectors.weights import expect_plain
from .geometry import Size
from .host import (
    ComfyBackend,
    call_node,
    file_of,
    find_file,
    painted_mask,
    place_for,
    prompt_server,
    registered_nodes,
    save_previews,
    web_framework,
)
from .host_prompts import NO_JSON, in_thread, is_registered
from .latent_file import SUFFIXES, picture_in, read_latent, to_bytes, write_latent_picture
from .lists import with_channels
from .mask import resize_mask
from .numbered import expect_numbered
from .picture_file import expect_picture, read_rgba, unusable
from .prompts import (
    Origin,
    fault_of_modes,
    origin_of,
    part,
    plain_id,
    workflow_id,
    workflow_of,
)
from .streams import Latent, picture

log = logging.getLogger(__name__)

BLOCKED = ExecutionBlocker(None)  # as an output: what follows does not run, and nothing is wrong


# Messages to the editor -----------------------------------------------------------------------


_MISSED = {  # what does not happen where no editor hears of an event
    "mode": "no node is muted, bypassed or made active for the next run",
    "queue": "it is not queued again",
    "stop": "no queueing is ended",
    "send": "no receiver gets what is sent",
}


def tell_editor(event: str, **data: Any) -> bool:
    """Send a message to the editor that queued the running prompt.

    It carries the numbers of the run and of the workflow, so that the editor acts on that one.
    What a run without an editor misses by that is told.

    Returns:
        Whether there is an editor to hear it.
    """
    server = prompt_server()
    origin = None if server is None else _running(server)
    if origin is None or origin.client_id is None:
        if event in _MISSED:
            note(
                "editor",
                f"No editor has queued this prompt, so {_MISSED[event]}. Queue it in the editor, or"
                " let the program that queues it do that.",
            )
        return False
    server.send_sync(f"detailers-{event}", {**origin.identity, **data}, origin.client_id)
    return True


def running_node() -> tuple[str, str] | None:
    """Numbers of the prompt and of the node that are running; None where nothing runs."""
    context = get_executing_context()
    return None if context is None else (context.prompt_id, context.node_id)


def is_running(node: type) -> bool:
    """Whether it is a node of this class that the host runs by now, and nothing within it.

    A node of an expanded graph is in no prompt; the host runs it all the same.
    """
    running = running_node()
    if running is None:
        return False
    prompt_id, node_id = running
    for _, running_id, prompt, *_ in list(
        prompt_server().prompt_queue.currently_running.values()
    ):  # fmt: skip
        if running_id == prompt_id and node_id in prompt:
            return registered_nodes()[0].get(prompt[node_id]["class_type"]) is node
    return True


def _running(server: Any) -> Origin | None:
    """Where the prompt of the running node comes from; None where nothing runs."""
    context = get_executing_context()
    prompt_id = context.prompt_id if context else getattr(server, "last_prompt_id", None)
    for _, running_id, _, extra_data, *_ in list(server.prompt_queue.currently_running.values()):
        if running_id == prompt_id:
            number = workflow_id(workflow_of(extra_data))
            return Origin(running_id, number, extra_data.get("client_id") or None)
    return None


def tell_client(origin: Origin, event: str, **data: Any) -> None:
    """Send a message to the editor that has queued a prompt; to nobody else."""
    server = prompt_server()
    if server is not None and origin.client_id is not None:
        server.send_sync(f"detailers-{event}", {**origin.identity, **data}, origin.client_id)


def watch_flow(ours: Mapping[str, type]) -> None:
    """Decide on every prompt as it arrives what can be decided before the run.

    The editor may also ask at /detailers/modes for a prompt with nodes muted and bypassed, for a
    workflow that it does not show.

    Args:
        ours: this pack's nodes by the id that they were registered under.
    """
    server = prompt_server()
    if server is None:
        return

    def kind(node: Any) -> str:
        if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
            return ""
        class_type = node.get("class_type")
        return plain_id(class_type) if is_registered(ours, class_type) else ""

    def on_prompt(request: dict[str, Any]) -> dict[str, Any]:
        prompt = part(request, "prompt")
        _prepare(prompt, origin_of(request), workflow_of(request.get("extra_data")), kind)
        return request

    async def on_modes(request: Any) -> Any:
        def work(body: str) -> dict[str, Any]:
            content = json.loads(body)
            if fault := fault_of_modes(content):
                raise ValueError(fault)
            flow.set_modes(content["prompt"], content["modes"], _slots_of, _is_required)
            return content["prompt"]

        web = web_framework()
        try:
            prompt = await in_thread(work, await request.text())
        except NO_JSON as error:
            return web.json_response({"error": f"The modes cannot be set: {error}"}, status=400)
        return web.json_response({"prompt": prompt})

    server.add_on_prompt_handler(on_prompt)
    server.routes.post("/detailers/modes")(on_modes)


def _prepare(
    prompt: dict[str, Any], origin: Origin, workflow: dict[str, Any] | None, kind: flow.Kind
) -> None:
    for change in flow.set_remotely(prompt, kind):
        tell_client(origin, "widget", node=change.node_id, widget=change.widget, value=change.value)
    flow.choose_on_prompt(prompt, kind, _is_required)
    expect_numbered(name for node in prompt.values() if kind(node) for name in node["inputs"])
    if origin.is_editor:
        flow.tell_targets(prompt, workflow, kind)
    else:
        flow.obey_bridges(prompt, kind, _slots_of, _is_required)


def _slots_of(class_type: Any) -> flow.Slots | None:
    """The inputs and outputs of a node of any pack."""
    try:
        node = registered_nodes()[0][class_type]
        groups = node.INPUT_TYPES()
        inputs = {
            name: entry[0] if isinstance(entry[0], str) else "COMBO"
            for group in ("required", "optional")
            for name, entry in groups.get(group, {}).items()
        }
        outputs = [kind if isinstance(kind, str) else "COMBO" for kind in node.RETURN_TYPES]
    except Exception:  # not registered, or whatever another pack's class raises
        return None
    return flow.Slots(inputs, tuple(outputs))


def _is_required(class_type: str, name: str) -> bool:
    try:
        return name in registered_nodes()[0][class_type].INPUT_TYPES().get("required", {})
    except Exception:  # not registered, or whatever another pack's class raises
        return False


def wrong_link(node: type, links: Mapping[str, str]) -> str | None:
    """What to say of a link of a type that an input does not take; None where all are right.

    The host leaves this to nodes that ask it for the types.

    Args:
        links: the type that comes in, by input.
    """
    groups = node.INPUT_TYPES()
    for group in ("required", "optional"):
        for name, (kind, *_) in groups.get(group, {}).items():
            if name in links and not validate_node_input(links[name], kind):
                return f"'{name}' takes {kind}, but {links[name]} is connected."
    return None


def wait(seconds: float) -> None:
    """Sleep, unless the run is interrupted."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        comfy.model_management.throw_exception_if_processing_interrupted()
        time.sleep(min(left, 0.1))


# Files ----------------------------------------------------------------------------------------


def input_files(is_wanted: Callable[[str], bool]) -> list[str]:
    """Names of the files right in the input folder."""
    folder = folder_paths.get_input_directory()
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(
        name for name in names if is_wanted(name) and os.path.isfile(os.path.join(folder, name))
    )


def pictures() -> list[str]:
    names = input_files(lambda name: True)
    return folder_paths.filter_files_content_types(names, ["image"])


def latents() -> list[str]:
    return input_files(lambda name: name.endswith(SUFFIXES))


def file_at(value: Any) -> Path | None:
    """The file of a value such as "a.png [temp]" in the host's input, output or temp folder."""
    return file_of(file_entry(value))


def file_state(value: Any) -> str:
    """A text that changes when the file does."""
    path = file_at(value)
    if path is None:
        return ""
    status = path.stat()
    return f"{status.st_mtime_ns} {status.st_size}"


def missing_file(name: str, value: Any) -> str:
    """What to say of a value that names no file."""
    return (
        f"'{name}' is {value!r}, and there is no such file in ComfyUI's input, output or temp "
        "folder. Run the sender that has the same link_id, or choose a file."
    )


def receive_image(value: str, data: str) -> tuple[torch.Tensor, torch.Tensor, list[dict]]:
    """The image, the mask and what to show of an image that was sent.

    Args:
        value: names its file.
        data: the picture itself as text; "" for the file's.
    """
    if data:
        image, mask = picture_in(data)
        return image, mask, save_previews(image.split(1), "ImgReceiver")
    path = file_at(value)
    if path is None:
        raise ValueError(missing_file("image", value))
    expect_picture(path, "image", value)
    try:
        image, mask = call_node("LoadImage", image=value)[:2]
    except Exception:  # whatever ComfyUI's readers of pictures raise
        log.info("ComfyUI cannot read %s; it is read by Pillow", path, exc_info=True)
        image, mask = _read_picture(path, value)
    return image, mask, [file_entry(value)]


def _read_picture(path: Path, value: str) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        pixels = torch.from_numpy(read_rgba(path))[None]
    except ValueError as error:
        raise unusable("image", value, error) from error
    return pixels[..., :3].contiguous(), 1 - pixels[..., 3]


def receive_latent(value: str) -> dict[str, Latent]:
    path = file_at(value)
    if path is None:
        raise ValueError(missing_file("latent", value))
    return read_latent(path, NestedTensor)


def send_latent(
    latent: dict[str, Any], prefix: str, preview: torch.Tensor, texts: dict[str, Any]
) -> dict[str, str]:
    """Write a latent into the output folder; the entry that names it."""
    expect_path(prefix, "filename_prefix")
    folder = folder_paths.get_output_directory()
    height, width = preview.shape[1:3]
    target, name, counter, subfolder = place_for(prefix, folder, width, height)
    file = f"{name}_{counter:05}_.latent.png"
    texts = {key: json.dumps(value) for key, value in texts.items() if value is not None}
    write_latent_picture(Path(target, file), latent, preview, texts)
    return {"filename": file, "subfolder": subfolder, "type": "output"}


# Previews of latents --------------------------------------------------------------------------

_FORMATS = {
    "FLUX.1": "Flux",
    "SDXL": "SDXL",
    "SD15": "SD15",
    "SD3": "SD3",
    "SD-X4": "SD_X4",
    "Playground-2.5": "SDXL_Playground_2_5",
    "SC-Prior": "SC_Prior",
    "SC-B": "SC_B",
    "LTXV": "LTXV",
}
_TINY = {"TAEF1": "Flux", "TAESDXL": "SDXL", "TAESD15": "SD15", "TAESD3": "SD3"}
PREVIEW_METHODS = [*(f"Latent2RGB-{name}" for name in _FORMATS), *_TINY]


def decoded(latent: dict[str, Any], method: str, vae: Any) -> torch.Tensor:
    """A picture of a latent, in pixels of the image that it is of.

    Args:
        method: one of `PREVIEW_METHODS`, where there is no VAE: a picture of the first row.
        vae: decodes all rows; None for the method.

    Returns:
        [B,H,W,3], 0..1.
    """
    samples = picture(latent["samples"])
    if vae is not None:
        return ComfyBackend().decode(vae, samples, tiled=False)[..., :3].clamp(0, 1)
    name = _TINY.get(method) or _FORMATS[method.removeprefix("Latent2RGB-")]
    form = getattr(comfy.latent_formats, name)()
    if samples.shape[1] != form.latent_channels:
        raise ValueError(
            f"'preview_method' is {method!r}, for latents with {form.latent_channels} channels, "
            f"but this one has {samples.shape[1]}. Choose the one of the model that made the "
            "latent, or connect its VAE to 'vae_opt'."
        )
    values = form.process_in(samples[:1].float())
    tiny = _tiny_decoder(form) if method in _TINY else None
    if tiny is not None:
        device = comfy.model_management.get_torch_device()
        row = (values[:, :, 0] if values.ndim == 5 else values).to(device)
        shown = tiny.to(device).decode(row).movedim(1, -1) / 2 + 0.5
        return shown.to(samples.device)
    shown = _rgb(form, values)
    ratio = int(getattr(form, "spacial_downscale_ratio", 8))
    return shown.repeat_interleave(ratio, 1).repeat_interleave(ratio, 2)


def _rgb(form: Any, values: torch.Tensor) -> torch.Tensor:
    import numpy as np

    previewer = latent_preview.Latent2RGBPreviewer(
        form.latent_rgb_factors,
        form.latent_rgb_factors_bias,
        getattr(form, "latent_rgb_factors_reshape", None),
    )
    return torch.from_numpy(np.array(previewer.decode_latent_to_preview(values)))[None] / 255


def _tiny_decoder(form: Any) -> Any:
    path = find_file("vae_approx", form.taesd_decoder_name)
    if path is None:
        note(
            "preview",
            f"{form.taesd_decoder_name} is not in models/vae_approx, so the preview is a rougher"
            " one. Put it there.",
        )
        return None
    expect_plain(path)
    return latent_preview.TAESD(None, path, latent_channels=form.latent_channels)


# Bridges --------------------------------------------------------------------------------------

_paintings = Paintings()
_PREVIEWS = "PreviewBridge"
_PAINTED_FOLDER = "clipspace"  # where the mask editor keeps its pictures, too


def bridge(
    shown: torch.Tensor,
    identity: torch.Tensor,
    image: str,
    restore: str,
    node_id: str,
    own_mask: torch.Tensor | None = None,
) -> tuple[list[dict], torch.Tensor]:
    """Show pictures to paint a mask on, and give the mask that was painted.

    Where the painting no longer fits what is shown, the node's `image` is brought up to date in
    the editor, since the mask editor opens what it names.

    Args:
        shown: [B,H,W,C], 0..1.
        identity: what tells one picture from another: the pictures, or the latent.
        image: the node's value, which names the painting.
        restore: one of `bridge.RESTORE`, for a mask painted on another picture.
        own_mask: [...,h,w], whose first mask holds while nothing is painted.

    Returns:
        The entries to show, and the mask [1,H,W]; all 0 where there is none.
    """
    size = Size(shown.shape[2], shown.shape[1])
    seen = Picture(fingerprint(identity), size)
    kept = keep_mask(_paintings, node_id, seen, _read_painting(image), restore)
    rgb = with_channels(shown, 3)[..., :3]
    rest = save_previews(rgb[1:].split(1), _PREVIEWS) if len(rgb) > 1 else []
    if kept is not None and kept.is_own:
        return [file_entry(image), *rest], kept.mask.to(shown)
    if kept is not None:
        entry = _keep_painting(rgb[:1], kept.mask)
        _paintings.painted(file_value(entry), seen.fingerprint)
        _put_image(node_id, image, file_value(entry))
        return [entry, *rest], kept.mask.to(shown)
    _put_image(node_id, image, "")
    first, mask = rgb[:1], shown.new_zeros(1, size.height, size.width)
    own_mask = None if own_mask is None else picture(own_mask)
    if own_mask is not None and own_mask.any():
        first_mask = own_mask.reshape(-1, *own_mask.shape[-2:])[:1]
        mask = resize_mask(first_mask.to(shown), size)
        first = _painted(first, mask)
    return [*save_previews([first], _PREVIEWS), *rest], mask


def _put_image(node_id: str, was: str, value: str) -> None:
    if value != was and (value or file_entry(was) is not None):
        tell_editor("widget", node=node_id, widget="image", value=value, was=was)


def _read_painting(image: str) -> Painting:
    try:
        return Painting(image, painted_mask(file_entry(image)))
    except (OSError, ValueError) as error:
        note("mask", f"The painted picture {image!r} cannot be read, so there is no mask: {error}")
        return Painting(image, None)


def _painted(rgb: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A picture [1,h,w,3] with its mask as the mask editor keeps it: what is masked is clear."""
    return torch.cat([rgb, 1 - mask[..., None].to(rgb)], dim=-1)


def _keep_painting(rgb: torch.Tensor, mask: torch.Tensor) -> dict[str, str]:
    """Write a painted picture into the input folder, where it stays; the same one once."""
    from PIL import Image

    painted = _painted(rgb, mask)
    folder = Path(folder_paths.get_input_directory(), _PAINTED_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"detailers-bridge-{fingerprint(painted)}.png"
    if not (folder / name).exists():
        Image.fromarray(to_bytes(painted)).save(folder / name, compress_level=1)
    return {"filename": name, "subfolder": _PAINTED_FOLDER, "type": "input"}


def show_images(images: torch.Tensor, prefix: str) -> list[dict[str, str]]:
    """Write previews of all images of a batch; the entries that name them."""
    return save_previews(with_channels(images, 3).split(1), prefix)
