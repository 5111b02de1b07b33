"""The second seed of a regional sampler in the editor: it changes with each run."""

import pytest
from detailers.tests.editor.test_editor import node
from detailers.tests.editor.test_widgets import choose, graph_of

QUEUED = "() => window.app.graph.getNodeById(1).widgets.forEach((w) => w.afterQueued?.())"
WIDGETS = [
    5, "fixed", 9, "ignore", 20, 2, 1.0, 10, True, "ratio between", "AUTO", 0.3,
]  # fmt: skip


@pytest.fixture
def second_seed(editor):
    """The seed after a prompt was queued in a mode."""
    editor.load(graph_of(node(1, "RegionalSampler", WIDGETS)))

    def second_seed(mode):
        choose(editor, "seed_2nd_mode", mode)
        editor.page.evaluate(QUEUED)
        return editor.node(1).widgets["seed_2nd"]

    return second_seed


def test_the_second_seed_follows_its_mode(second_seed):
    assert second_seed("ignore") == 9
    assert second_seed("fixed") == 9
    assert second_seed("increment") == 10
    assert second_seed("decrement") == 9
    assert second_seed("seed+seed_2nd") == 9
    assert 0 <= second_seed("randomize") != 9
