"""Under which ids the nodes are registered, where another pack claims the same ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping

from .choices import open_choices

log = logging.getLogger(__name__)

OWN_PREFIX = "Detailers"  # ids that no other pack uses


def renamed(node_id: str) -> str:
    """The id, and the ending of the display name, of a node whose plain id is another pack's."""
    return f"{node_id} //Detailers"


def choose_ids(
    nodes: Mapping[str, type], registered: Mapping[str, type], peer: str | None
) -> dict[str, str]:
    """The id to register each node under.

    Equal ids silently overwrite one another by load order, so ours give way: all that the older
    pack has too where that is installed, else those that are registered already.

    Args:
        nodes: our classes by their plain id.
        registered: what the host knows so far.
        peer: folder of the older pack, or None.

    Returns:
        Plain id to the id that is used.
    """

    def taken(node_id: str) -> bool:
        if peer is not None and not node_id.startswith(OWN_PREFIX):
            return True
        return node_id in registered and registered[node_id] is not nodes[node_id]

    chosen = {node_id: renamed(node_id) if taken(node_id) else node_id for node_id in nodes}
    moved = [node_id for node_id, used in chosen.items() if used != node_id]
    if moved:
        owner = f"the pack in {peer}" if peer is not None else "another pack"
        log.warning(
            "%s has the same node ids as Detailers: ours are registered as '<id> //Detailers' "
            "(%d: %s). Remove one of the two packs to have the plain ids.",
            owner, len(moved), ", ".join(moved),
        )  # fmt: skip
    return chosen


def reclaim(
    nodes: Mapping[str, type],
    names: Mapping[str, str],
    registered: MutableMapping[str, type],
    display_names: MutableMapping[str, str],
) -> None:
    """Give nodes that a pack loaded after ours has overwritten their place under the other id.

    Args:
        nodes: our classes by the id that they were registered under.
        names: display names by the same ids.
        registered, display_names: the host's, which are added to.
    """
    lost = [node_id for node_id, node in nodes.items() if registered.get(node_id) is not node]
    for node_id in lost:
        registered[renamed(node_id)] = nodes[node_id]
        display_names[renamed(node_id)] = renamed(names[node_id])
    if lost:
        log.warning(
            "a pack loaded after Detailers has the same node ids: ours are registered as "
            "'<id> //Detailers' (%d: %s). Remove one of the two packs to have the plain ids.",
            len(lost), ", ".join(lost),
        )  # fmt: skip


def register(
    nodes: Mapping[str, type],
    names: Mapping[str, str],
    registered: MutableMapping[str, type],
    display_names: MutableMapping[str, str],
    peer: str | None,
    after_all_packs: Callable[[Callable[[], None]], None],
) -> tuple[dict[str, type], dict[str, str]]:
    """The host's two mappings for the nodes, and a look at them again once all packs are loaded."""
    for node in nodes.values():
        open_choices(node)
    ids = choose_ids(nodes, registered, peer)
    classes = {ids[node_id]: node for node_id, node in nodes.items()}
    titles = {
        used: names[node_id] if used == node_id else renamed(names[node_id])
        for node_id, used in ids.items()
    }
    plain = {node_id: nodes[node_id] for node_id, used in ids.items() if used == node_id}
    after_all_packs(lambda: reclaim(plain, names, registered, display_names))
    return classes, titles
