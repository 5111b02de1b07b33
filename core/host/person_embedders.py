"""Files of networks that tell persons apart, in ComfyUI's folders."""

from __future__ import annotations

import os

import folder_paths

from ...utils.paths import expect_path
from ..detectors.embedder import OnnxEmbedder, PixelFormat

FOLDER = "person_embedders"  # ComfyUI's name for the folders that are looked in
# Of models/, in this order: its own one, where packs for faces keep theirs, and all other networks.
_PLACES = ("person_embedders", "insightface", "onnx")


def register_embedder_folders() -> None:
    """Make the folders known, so that `extra_model_paths.yaml` may add to them."""
    for place in _PLACES:
        folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, place))
    folder_paths.folder_names_and_paths[FOLDER][1].add(".onnx")


def embedder_names() -> list[str]:
    """The .onnx files of these folders."""
    return folder_paths.get_filename_list(FOLDER)


def load_embedder(name: str, how: PixelFormat) -> OnnxEmbedder:
    """The embedder of a file of `embedder_names`.

    Raises:
        ValueError: it is not there, or `how` holds a choice that does not exist.
        WeightsError: it cannot be read, or takes something else than one image.
    """
    expect_path(name, "model_name")
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        raise ValueError(
            f"'model_name' is {name!r}, which is not in ComfyUI's models/{_PLACES[0]}, nor in "
            f"{' or '.join(_PLACES[1:])} beside it. Put the file there, or choose another one."
        )
    return OnnxEmbedder(path, how)
