"""Under which ids the nodes are registered, where another pack claims the same ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from .calls import give_older_inputs
from .choices import open_choices

log = logging.getLogger(__name__)

OWN_PREFIX = "Detailers"  # ids that no other pack uses


@dataclass(frozen=True)
class OlderPack:
    """ComfyUI-Impact-Pack, whose node ids are the same as ours, as it is installed.

    Attributes:
        folder: where it is.
        is_loaded: whether any of its nodes is registered.
    """

    folder: str
    is_loaded: bool


def renamed(node_id: str) -> str:
    """The id, and the ending of the display name, of a node whose plain id is another pack's."""
    return f"{node_id} //Detailers"


def choose_ids(
    nodes: Mapping[str, type], registered: Mapping[str, type], peer: OlderPack | None = None
) -> dict[str, str]:
    """The id to register each node under.

    Equal ids silently overwrite one another by load order, so ours give way: all that the older
    pack has too where its nodes are there, else those that another class is registered under.

    Args:
        nodes: our classes by their plain id.
        registered: what the host knows so far.
        peer: the older pack; None where it is not installed.

    Returns:
        Plain id to the id that is used.
    """
    beside = peer is not None and peer.is_loaded

    def taken(node_id: str) -> bool:
        if beside and not node_id.startswith(OWN_PREFIX):
            return True
        return node_id in registered and registered[node_id] is not nodes[node_id]

    return {node_id: renamed(node_id) if taken(node_id) else node_id for node_id in nodes}


@dataclass(frozen=True)
class Place:
    """Where nodes are registered, by this pack and with the host.

    Attributes:
        classes, titles: this pack's, by the ids that are used; kept up to date.
        registered, display_names: the host's.
    """

    classes: MutableMapping[str, type]
    titles: MutableMapping[str, str]
    registered: MutableMapping[str, type]
    display_names: MutableMapping[str, str]

    def move(self, node_id: str) -> None:
        """Bring a node from its plain id to the other one."""
        node, title = self.classes.pop(node_id), renamed(self.titles.pop(node_id))
        if self.registered.get(node_id) is node:
            del self.registered[node_id]
            self.display_names.pop(node_id, None)
        self.classes[renamed(node_id)] = self.registered[renamed(node_id)] = node
        self.titles[renamed(node_id)] = self.display_names[renamed(node_id)] = title


def settle(nodes: Mapping[str, type], place: Place, peer: OlderPack | None) -> None:
    """Decide on the ids by what is registered when all packs are loaded, and say what it is.

    A pack that is loaded after this one overwrites equal ids; one that could not be imported has
    registered nothing, whatever is left of its folder.

    Args:
        nodes: our classes by their plain id.
    """
    plain = {node_id: node for node_id, node in nodes.items() if place.classes.get(node_id) is node}
    # One that is nowhere was lost to another pack; the host may also have left it out.
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
    """The host's two mappings for the nodes, which are settled once all packs are loaded.

    Args:
        peer: looks for the older pack as it is by now.
        after_all_packs: takes what is to be done then.
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
