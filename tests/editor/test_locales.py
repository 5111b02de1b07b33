"""The nodes' titles and labels in an editor of another language."""

import pytest
from detailers.dev import locales
from detailers.tests.editor.conftest import EDITORS, HOSTS

# What the editor shows of a node of each type: the title, and the labels by the slots' keys.
SHOWN = """(types) => types.map((type) => {
    const node = LiteGraph.createNode(type);
    const slots = (all) => all.map(({name, localized_name}) => [name, localized_name]);
    const widgets = node.widgets ?? [];
    return {
        title: node.title,
        inputs: Object.fromEntries(slots(node.inputs)),
        outputs: node.outputs.map(({localized_name}) => localized_name),
        widgets: Object.fromEntries(widgets.map(({name, label}) => [name, label])),
    };
})"""


@pytest.fixture(scope="module")
def speak(editor):
    """Opens the editor anew in a language."""

    def opened(language):
        editor.server.post("/settings", {"Comfy.Locale": language})
        editor.open()

    yield opened
    opened("en")


def cases():
    """(editor, language): all languages in the first host's own editor, one in each other.

    That a language is complete, and what the host hands to its editor of it, is tested on each
    host; here it is that an editor shows it.
    """
    for number, label in enumerate(EDITORS):
        languages = locales.LANGUAGES
        for language in languages if label in list(HOSTS)[:1] else [languages[number % 3]]:
            yield label, language


@pytest.mark.parametrize(
    ("editor", "language"), list(cases()) or [("no host", "")], indirect=["editor"]
)
def test_every_node_is_shown_in_the_language(editor, speak, language):
    everything = editor.server.object_info()
    info, own_types = locales.pack_nodes(everything), locales.own_types(everything)
    english, words = locales.English.read(), locales.Translation.read(language)
    speak(language)
    for (node_id, node), shown in zip(
        info.items(), editor.page.evaluate(SHOWN, list(info)), strict=True
    ):
        assert shown["title"] == words.texts[node["display_name"]], node_id
        for slot in locales.slots_of(node_id, node):
            label = words.label(slot, english.label(slot))
            if slot.is_output:
                kind = node["output"][int(slot.key)]
                if kind != slot.name or kind in own_types:  # else it is the editor's own word
                    assert shown["outputs"][int(slot.key)] == label, slot
            else:
                given = {shown[kind].get(slot.name) for kind in ("inputs", "widgets")}
                assert label in given, (slot, given)
