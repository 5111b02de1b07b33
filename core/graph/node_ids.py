"""The ids under which nodes are registered, also if another pack uses the same ids."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from .calls import give_older_inputs
from .choices import open_choices

log = logging.getLogger(__name__)

OWN_PREFIX = "Detailers"  # no other pack has ids that begin so


@dataclass(frozen=True)
class OlderPack:
    """An installed ComfyUI-Impact-Pack, whose node ids are the same as ours.

    Attributes:
        folder: its folder.
        is_loaded: whether any of its nodes is registered.
    """

    folder: str
    is_loaded: bool


def renamed(node_id: str) -> str:
    """The id of a node whose plain id belongs to another pack. Its display name ends so, too."""
    return f"{node_id} //Detailers"


def choose_ids(
    nodes: Mapping[str, type], registered: Mapping[str, type], peer: OlderPack | None = None
) -> dict[str, str]:
    """The id under which each node is registered.

    Nodes with equal ids silently overwrite each other in the order of loading. So our nodes get
    other ids: all nodes that the older pack has too, if it is loaded; otherwise the nodes whose id
    is registered for another class.

    Args:
        nodes: our classes by their plain ids.
        registered: the classes that ComfyUI has registered so far.
        peer: the older pack. None: it is not installed.

    Returns:
        The used id for each plain id.
    """
    beside = peer is not None and peer.is_loaded

    def taken(node_id: str) -> bool:
        if beside and not node_id.startswith(OWN_PREFIX):
            return True
        return node_id in registered and registered[node_id] is not nodes[node_id]

    return {node_id: renamed(node_id) if taken(node_id) else node_id for node_id in nodes}


@dataclass(frozen=True)
class Place:
    """The mappings in which nodes are registered.

    Attributes:
        classes, titles: classes and display names of this pack, by the used ids. They are updated.
        registered, display_names: classes and display names of all packs, in ComfyUI.
    """

    classes: MutableMapping[str, type]
    titles: MutableMapping[str, str]
    registered: MutableMapping[str, type]
    display_names: MutableMapping[str, str]

    def move(self, node_id: str) -> None:
        """Register a node under its other id instead of its plain id."""
        node, title = self.classes.pop(node_id), renamed(self.titles.pop(node_id))
        if self.registered.get(node_id) is node:
            del self.registered[node_id]
            self.display_names.pop(node_id, None)
        self.classes[renamed(node_id)] = self.registered[renamed(node_id)] = node
        self.titles[renamed(node_id)] = self.display_names[renamed(node_id)] = title


def settle(nodes: Mapping[str, type], place: Place, peer: OlderPack | None) -> None:
    """Decide on the ids again when all packs are loaded, and log the result.

    A pack that was loaded after this one may have overwritten equal ids. A pack that could not be
    imported has registered nothing, even if its folder exists.

    Args:
        nodes: our classes by their plain ids.
        place: the mappings, which are updated.
        peer: the older pack. None: it is not installed.
    """
    plain = {node_id: node for node_id, node in nodes.items() if place.classes.get(node_id) is node}
    # A node that is not registered was removed by another pack or by ComfyUI.
    found = {**place.registered}
    for node_id in plain:
        found.setdefault(node_id, object)
    ids = choose_ids(plain, found, peer)
    moved = [node_id for node_id, used in ids.items() if used != node_id]
    for node_id in moved:
        place.move(node_id)
    _tell(moved, "a pack loaded after Detailers", peer)
    if peer is not None and not peer.is_loaded:
        log.info(
            "%s holds ComfyUI-Impact-Pack, but none of its nodes is registered, so the nodes of "
            "Detailers keep the plain ids (%d).",
            peer.folder, len(plain) - len(moved),
        )  # fmt: skip


def register(
    nodes: Mapping[str, type],
    names: Mapping[str, str],
    registered: MutableMapping[str, type],
    display_names: MutableMapping[str, str],
    peer: Callable[[], OlderPack | None],
    after_all_packs: Callable[[Callable[[], None]], None],
) -> tuple[dict[str, type], dict[str, str]]:
    """The two mappings for ComfyUI: classes and display names by id.

    They are updated by `settle` when all packs are loaded.

    Args:
        nodes: our classes by their plain ids.
        names: display names by plain id.
        registered, display_names: those of all packs, in ComfyUI.
        peer: looks for the older pack.
        after_all_packs: takes a function that is called when all packs are loaded.
    """
    for node in nodes.values():
        open_choices(node)
        give_older_inputs(node)
    found = peer()
    ids = choose_ids(nodes, registered, found)
    _tell([node_id for node_id, used in ids.items() if used != node_id], "another pack", found)
    classes = {ids[node_id]: node for node_id, node in nodes.items()}
    titles = {
        used: names[node_id] if used == node_id else renamed(names[node_id])
        for node_id, used in ids.items()
    }
    place = Place(classes, titles, registered, display_names)
    after_all_packs(lambda: settle(nodes, place, peer()))
    return classes, titles


def _tell(moved: Sequence[str], owner: str, peer: OlderPack | None) -> None:
    if not moved:
        return
    if peer is not None and peer.is_loaded:
        owner = f"the pack in {peer.folder}"
    log.warning(
        "%s has the same node ids as Detailers: ours are registered as '<id> //Detailers' "
        "(%d: %s). Remove one of the two packs to have the plain ids.",
        owner, len(moved), ", ".join(moved),
    )  # fmt: skip
