"""The texts of the nodes that the server gives the editor, in each language."""

import pytest
from detailers.dev import locales

COMPLETE = ("en", "zh", "ja", "ko")


@pytest.fixture(scope="module")
def info(server):
    return server.object_info()


@pytest.mark.parametrize("language", COMPLETE)
def test_a_language_is_complete_and_up_to_date(info, language):
    found = locales.faults(info, language)
    assert not found, "renew it with `python -m dev.locales`:\n" + "\n".join(found)


@pytest.mark.parametrize("language", COMPLETE)
def test_the_server_gives_every_word(server, info, language):
    words = server.get("/i18n")[language]
    given, wanted = words["nodeDefs"], locales.node_defs(info, language)
    assert given.items() >= wanted.items()
    assert words["dataTypes"].items() >= locales.main_words(info, language)["dataTypes"].items()
    assert set(words["dataTypes"]) >= set(locales.own_types(info))
    for slot in locales.all_slots(info):
        kind = "outputs" if slot.is_output else "inputs"
        assert given[slot.node_id][kind][slot.key]["name"], slot


@pytest.mark.parametrize("language", COMPLETE)
def test_words_are_told_apart(info, language):
    """No label twice on the same side of a node, and no title for two nodes of different ones."""
    defs = locales.node_defs(info, language)
    for node_id, words in defs.items():
        for side in ("inputs", "outputs"):
            names = [slot["name"] for slot in words.get(side, {}).values()]
            assert len(names) == len(set(names)), (node_id, names)
    originals = {node["display_name"] for node in locales.pack_nodes(info).values()}
    titles = {words["display_name"] for words in defs.values() if "display_name" in words}
    assert language == locales.ENGLISH or len(titles) == len(originals)


def test_labels_are_words_for_people(info):
    """No underscores, and a capital at the start."""
    english = locales.English.read()
    for node_id, node in locales.pack_nodes(info).items():
        slots = locales.slots_of(node_id, node)
        for slot in slots:
            label = english.label(slot)
            assert "_" not in label and label[0].isupper(), (slot.full_name, label)
