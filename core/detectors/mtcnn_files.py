"""The weights of MTCNN, from the package facenet-pytorch.

That package requires an old PyTorch, so it is installed without its requirements. Only its weight
files are read; nothing of it is imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .mtcnn import FaceNetworks
from .safe_weights import WeightsError, read_tensors

INSTALL = "pip install --no-deps facenet-pytorch"
_PACKAGE = "facenet_pytorch"
_NETWORKS = ("pnet", "rnet", "onet")


def weights_folder() -> Path | None:
    """The folder of the installed package that holds the weights; None if it is not installed."""
    try:
        spec = importlib.util.find_spec(_PACKAGE)  # for a top-level package this imports nothing
    except ValueError:  # a module of that name is loaded without a place
        return None
    places = (spec.submodule_search_locations if spec else None) or []
    folders = [Path(place, "data") for place in places]
    return next((folder for folder in folders if folder.is_dir()), None)


def load_networks() -> FaceNetworks:
    """The networks with their weights: float32, in evaluation mode, on the CPU.

    Raises:
        RuntimeError: the package is not installed.
        WeightsError: one of its files is missing, is damaged, or holds something else.
    """
    folder = weights_folder()
    if folder is None:
        raise RuntimeError(
            "MTCNN needs the weights that the package facenet-pytorch carries, which ComfyUI's "
            f"Python does not have. Install it there with: {INSTALL}"
        )
    networks = FaceNetworks()
    for name in _NETWORKS:
        path = folder / f"{name}.pt"
        tensors = read_tensors(path)
        try:
            getattr(networks, name).load_state_dict(tensors)
        except RuntimeError as error:
            raise WeightsError(
                f"'{path}' holds the weights of another network. Install the package again with: "
                f"{INSTALL} --force-reinstall"
            ) from error
    return networks.float().train(False).requires_grad_(False)
