"""Makes the host's modules importable outside a running ComfyUI."""

from __future__ import annotations

import sys
from pathlib import Path


def use_host(tree: Path, cpu: bool) -> None:
    """Put a ComfyUI on the path, with its command line left unread."""
    sys.path.insert(0, str(tree.resolve()))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = cpu
    # As the host's main.py does it: once `nodes` is imported, `utils` would be a module of comfy.
    import utils.install_util  # noqa: F401
