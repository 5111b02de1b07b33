"""What packs ask for that are made for ComfyUI-Impact-Pack, where that pack is not there.

Its Python modules, see `compat/__init__.py`; from the server its lists of wildcards, and texts as
they are drawn; and for scripts in the editor the module that has these lists.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from .. import compat
from ..core.host import folders
from ..core.host import server as server_module
from ..core.host.prompts import in_thread, wildcard_names
from ..core.host.user_folder import user_settings
from ..wildcards.grammar import WildcardError, expand

log = logging.getLogger(__name__)

_SCRIPT = re.compile(r"/extensions/comfyui[-_]impact[-_]pack/impact-pack\.js", re.IGNORECASE)
_SCRIPT_FILE = Path(__file__).parent / "impact-pack.js"


class _OlderPack:
    """Whether the older pack is there."""

    def __init__(self, ours: Iterable[type]) -> None:
        self._ours, self.all_loaded = set(ours), False

    def look(self) -> Any:
        return folders.older_pack(self._ours)

    def is_absent(self) -> bool:
        """While packs are loaded, a folder of it that can be loaded counts as the pack itself."""
        found = self.look()
        if found is None:
            return True
        return not found.is_loaded and (self.all_loaded or not _can_be_loaded(found.folder))


def _can_be_loaded(folder: str) -> bool:
    return Path(folder, "__init__.py").is_file()


def stand_in(ours: Iterable[type]) -> None:
    """Give and answer what is asked of the older pack where it is not there.

    Args:
        ours: this pack's classes.
    """
    if not user_settings().compat:
        return
    older = _OlderPack(ours)
    finder = compat.stand_in(older.is_absent)

    def settle() -> None:
        older.all_loaded = True
        found = older.look()
        if found is not None and not found.is_loaded:
            compat.take_over(finder, found.folder)

    server_module.after_all_packs(settle)
    _answer(older.is_absent)


# What the server is asked ----------------------------------------------------------------------

Answer = Callable[[Any], Awaitable[Any]]


def _answer(is_absent: Callable[[], bool]) -> None:
    """Answer for what the older pack's server has.

    They are no routes: the server does not start where two packs have the same ones.
    """
    server = server_module.prompt_server()
    if server is None:
        return
    web = server_module.web_framework()

    async def names(_request: Any) -> Any:
        return web.json_response({"data": await _names()})

    async def loaded(_request: Any) -> Any:
        found = await _names()
        content = {"data": found, "on_demand_mode": False, "total_available": len(found)}
        return web.json_response(content)

    async def refresh(_request: Any) -> Any:
        await _names()
        return web.Response(status=200)

    async def drawn(request: Any) -> Any:
        content, status = await in_thread(_drawn, await request.text())
        return web.json_response(content, status=status)

    async def script(_request: Any) -> Any:
        text = await in_thread(_SCRIPT_FILE.read_text, "utf-8")
        return web.Response(text=text, content_type="text/javascript")

    answers: dict[tuple[str, str], Answer] = {
        ("GET", "/impact/wildcards/list"): names,
        ("GET", "/impact/wildcards/list/loaded"): loaded,
        ("GET", "/impact/wildcards/refresh"): refresh,
        ("POST", "/impact/wildcards"): drawn,
    }

    @web.middleware
    async def answer_for_older(request: Any, handler: Any) -> Any:
        path = request.path.removeprefix("/api")
        answer = answers.get((request.method, path))
        if request.method == "GET" and _SCRIPT.fullmatch(path):
            answer = script
        if answer is None or not is_absent():
            return await handler(request)
        return await answer(request)

    try:
        server.app.middlewares.append(answer_for_older)
    except (AttributeError, RuntimeError) as error:  # the server runs already, or is another one
        log.warning("nothing is answered for ComfyUI-Impact-Pack: %s", error)


async def _names() -> list[str]:
    """The wildcard lists, as they are written in a text."""
    return [f"__{name}__" for name in await in_thread(wildcard_names)]


def _drawn(body: str) -> tuple[dict[str, Any], int]:
    """The answer to a text and a seed, and its status."""
    try:
        content = json.loads(body)
        text, seed = content["text"], int(content.get("seed") or 0)
        return {"text": expand(str(text), seed, folders.wildcard_library())}, 200
    except WildcardError as error:
        return {"text": text, "error": str(error)}, 400
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        fault = f"The body should be an object with 'text' and 'seed': {error!r}"
        return {"text": "", "error": fault}, 400
