"""Ids beside a pack that claims the same ones."""

import pytest
from detailers.core.registry import choose_ids, reclaim, register


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


class Host:
    """What the host has registered, and what it will call when all packs are loaded."""

    def __init__(self, **registered):
        self.classes = registered
        self.titles = {}
        self.later = []

    def load(self, peer=None):
        classes, titles = register(NODES, NAMES, self.classes, self.titles, peer, self.later.append)
        self.classes.update(classes)
        self.titles.update(titles)

    def start(self):
        for action in self.later:
            action()


def test_alone_every_node_keeps_its_id_and_nothing_is_logged(caplog):
    assert choose_ids(NODES, {"Other": Theirs}, None) == PLAIN
    assert caplog.messages == []


def test_an_id_that_is_registered_already_gives_way(caplog):
    chosen = choose_ids(NODES, {"Paste": Theirs}, None)
    assert chosen == {**PLAIN, "Paste": "Paste //Detailers"}
    assert caplog.messages == [
        "another pack has the same node ids as Detailers: ours are registered as "
        "'<id> //Detailers' (1: Paste). Remove one of the two packs to have the plain ids."
    ]


def test_our_own_class_is_no_rival():
    assert choose_ids(NODES, dict(NODES), None) == PLAIN


def test_where_the_older_pack_is_installed_all_ids_but_our_own_give_way(caplog):
    chosen = choose_ids(NODES, {}, "/packs/ComfyUI-Impact-Pack")
    assert chosen == {
        "Mask": "Mask //Detailers",
        "Paste": "Paste //Detailers",
        "DetailersOwn": "DetailersOwn",
    }
    assert len(caplog.messages) == 1
    assert "the pack in /packs/ComfyUI-Impact-Pack" in caplog.messages[0]


@pytest.mark.parametrize("peer", [None, "/packs/ComfyUI-Impact-Pack"])
def test_display_names_tell_the_two_apart(peer):
    host = Host(Paste=Theirs)
    host.load(peer)
    assert host.classes["Paste"] is Theirs
    assert host.classes["Paste //Detailers"] is Paste
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
    assert host.titles["Paste //Detailers"] == "Paste it //Detailers"
    assert "Mask //Detailers" not in host.classes
    assert len(caplog.messages) == 1
    assert "(1: Paste)" in caplog.messages[0]


def test_nodes_that_gave_way_at_once_are_not_looked_at_again(caplog):
    host = Host(Paste=Theirs)
    host.load()
    host.start()
    assert [node_id for node_id in host.classes if "//Detailers" in node_id] == [
        "Paste //Detailers"
    ]
    assert len(caplog.messages) == 1


def test_reclaim_with_nothing_lost_is_silent(caplog):
    registered = dict(NODES)
    reclaim(NODES, NAMES, registered, {})
    assert registered == NODES
    assert caplog.messages == []
