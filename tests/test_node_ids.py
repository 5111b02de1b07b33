"""Ids of nodes if another pack has the same ones."""

import pytest
from detailers.core.graph.node_ids import OlderPack, choose_ids, register


class Mask:
    pass


class Paste:
    pass


class DetailersOwn:
    pass


class Theirs:
    pass


NODES = {"Mask": Mask, "Paste": Paste, "DetailersOwn": DetailersOwn}
NAMES = {"Mask": "Mask it", "Paste": "Paste it", "DetailersOwn": "Own"}
PLAIN = {node_id: node_id for node_id in NODES}
PEER = OlderPack("/packs/ComfyUI-Impact-Pack", is_loaded=True)
LEFT_OVER = OlderPack("/packs/ComfyUI-Impact-Pack", is_loaded=False)


class Host:
    """What the host has registered, and what it will call when all packs are loaded."""

    def __init__(self, **registered):
        self.classes = registered
        self.titles = {}
        self.later = []
        self.peer = None

    def load(self, peer=None):
        """Load this pack, while the older one is as told."""
        self.peer = peer
        self.ours, titles = register(
            NODES, NAMES, self.classes, self.titles, lambda: self.peer, self.later.append
        )
        self.classes.update(self.ours)
        self.titles.update(titles)

    def start(self, peer=None):
        """All packs are loaded."""
        self.peer = peer
        for action in self.later:
            action()


def test_alone_every_node_keeps_its_id_and_nothing_is_logged(caplog):
    caplog.set_level("INFO")
    assert choose_ids(NODES, {"Other": Theirs}) == PLAIN
    host = Host(Other=Theirs)
    host.load()
    host.start()
    assert host.classes == {**NODES, "Other": Theirs}
    assert caplog.messages == []


def test_an_id_that_is_registered_already_gives_way(caplog):
    host = Host(Paste=Theirs)
    host.load()
    assert host.classes["Paste"] is Theirs
    assert host.classes["Paste //Detailers"] is Paste
    assert caplog.messages == [
        "another pack has the same node ids as Detailers: ours are registered as "
        "'<id> //Detailers' (1: Paste). Remove one of the two packs to have the plain ids."
    ]


def test_our_own_class_is_no_rival():
    assert choose_ids(NODES, dict(NODES)) == PLAIN


def test_where_the_older_pack_is_loaded_all_ids_but_our_own_give_way():
    assert choose_ids(NODES, {}, PEER) == {
        "Mask": "Mask //Detailers",
        "Paste": "Paste //Detailers",
        "DetailersOwn": "DetailersOwn",
    }


def test_a_folder_of_the_older_pack_that_has_registered_nothing_changes_nothing(caplog):
    caplog.set_level("INFO")
    host = Host(Other=Theirs)
    host.load(LEFT_OVER)
    host.start(LEFT_OVER)
    assert host.classes == {**NODES, "Other": Theirs}
    assert caplog.messages == [
        "/packs/ComfyUI-Impact-Pack holds ComfyUI-Impact-Pack, but none of its nodes is "
        "registered, so the nodes of Detailers keep the plain ids (3)."
    ]


@pytest.mark.parametrize("first", [True, False])
def test_beside_the_older_pack_the_order_of_loading_does_not_matter(caplog, first):
    """Ours have the other ids in the end, and the mappings say so."""
    host = Host(**({} if first else {"Paste": Theirs}))
    host.load(LEFT_OVER if first else PEER)
    assert (host.classes["Paste"] is Paste) == first
    host.classes["Paste"] = Theirs
    host.titles["Paste"] = "Theirs"
    host.start(PEER)
    moved = {"Mask //Detailers": Mask, "Paste //Detailers": Paste, "DetailersOwn": DetailersOwn}
    assert host.ours == moved
    assert host.classes == {**moved, "Paste": Theirs}
    assert host.titles == {
        "Paste": "Theirs",
        "Mask //Detailers": "Mask it //Detailers",
        "Paste //Detailers": "Paste it //Detailers",
        "DetailersOwn": "Own",
    }
    assert len(caplog.messages) == 1
    assert "the pack in /packs/ComfyUI-Impact-Pack" in caplog.messages[0]
    assert "(2: Mask, Paste)" in caplog.messages[0]


@pytest.mark.parametrize("peer", [None, PEER])
def test_display_names_tell_the_two_apart(peer):
    host = Host(Paste=Theirs)
    host.load(peer)
    assert host.titles["Paste //Detailers"] == "Paste it //Detailers"
    assert host.titles["DetailersOwn"] == "Own"
    assert ("Mask //Detailers" in host.classes) == (peer is not None)


def test_a_pack_that_is_loaded_later_keeps_the_plain_id_and_ours_get_the_other(caplog):
    host = Host()
    host.load()
    assert host.classes["Paste"] is Paste
    host.classes["Paste"] = Theirs
    host.start()
    assert host.classes["Paste"] is Theirs
    assert host.classes["Paste //Detailers"] is Paste
    assert host.ours["Paste //Detailers"] is Paste
    assert host.titles["Paste //Detailers"] == "Paste it //Detailers"
    assert "Mask //Detailers" not in host.classes
    assert len(caplog.messages) == 1
    assert "a pack loaded after Detailers has the same node ids" in caplog.messages[0]
    assert "(1: Paste)" in caplog.messages[0]


def test_nodes_that_gave_way_at_once_are_not_looked_at_again(caplog):
    host = Host(Paste=Theirs)
    host.load()
    host.start()
    assert [node_id for node_id in host.classes if "//Detailers" in node_id] == [
        "Paste //Detailers"
    ]
    assert len(caplog.messages) == 1
