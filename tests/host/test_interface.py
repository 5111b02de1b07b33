"""What the server tells of every node, against tests/interfaces/; and the help of every node.

A saved workflow holds a node's widget values by position and its links by slot, so ids, names,
order, types, defaults and ranges are fixed once files with them are about.

- interfaces/shared.json: nodes that shared workflows name, as ComfyUI-Impact-Pack 8.18 and its
  Subpack have them, and three of later versions. Three detailers keep an earlier `guide_size`, and
  two more switches are lazy.
- interfaces/own.json: nodes of this pack alone.

For each node, in the order of the slots:

    "required", "optional": {input: [type, options]}
    "outputs":              [[type, name] or [type, name, "list"], ...]
    "input_is_list", "output_node": true, or absent

The type of a choice is the list of its entries or, where these come from the host, an object:
{"of": "samplers"} and {"of": "schedulers"} with further entries in "and", {"of": "files"} for
anything, {"begins": [...]} for a list that goes on. "MAX_RESOLUTION" is the host's number.
"""

import copy
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from detailers.core.graph.calls import OWN_INPUTS, OWN_OUTPUTS
from detailers.dev import docs
from detailers.dev.server import DIRECT

DATA = Path(__file__).parent.parent / "interfaces"
INTERFACES = {
    node_id: interface
    for name in ("shared.json", "own.json")
    for node_id, interface in json.loads((DATA / name).read_text()).items()
}
GROUPS = ("required", "optional")


@pytest.fixture(scope="module")
def info(server):
    """The server's answer to /object_info."""
    return server.object_info()


@pytest.fixture
def nodes(info):
    """This pack's part of it, for a test to alter."""
    return copy.deepcopy(docs.pack_nodes(info))


def test_every_interface_is_the_one_that_files_rely_on(info, nodes):
    host = docs.Host.of(info)
    unknown = [f"{node_id}: not in tests/interfaces" for node_id in nodes.keys() - INTERFACES]
    wrong = [
        f"{node_id}: {line}"
        for node_id, node in nodes.items()
        if node_id in INTERFACES
        for line in differences(node, INTERFACES[node_id], host)
    ]
    assert not unknown + wrong, "\n" + "\n".join(unknown + wrong)


def test_every_id_of_the_interface_files_is_registered(nodes, host, tell):
    known = [node_id for node_id in INTERFACES if node_id in nodes]
    tell(f"ComfyUI {host.label}: {len(known)} of {len(INTERFACES)} ids registered")
    assert sorted(INTERFACES.keys() - nodes.keys()) == []


def test_what_is_ours_alone_is_known_as_such(nodes):
    """So that classes of other packs do not inherit it. Rectangles were drawn by a script there."""
    shared = json.loads((DATA / "shared.json").read_text())
    own = {
        name
        for node_id, node in nodes.items()
        if node_id in shared and not node_id.startswith("MaskRectArea")
        for name in node["input_order"].get("optional", [])
        if name not in shared[node_id].get("optional", {})
    }
    assert own == OWN_INPUTS


def differences(node, expected, host):
    """How a node of /object_info deviates from an interface, one line each.

    Tooltips are free, and so are further optional inputs, and known further outputs, at the end.
    """
    found = []
    for group in GROUPS:
        wanted = expected.get(group, {})
        names = node["input_order"].get(group, [])
        if group == "optional":
            names = names[: len(wanted)]
        if names != list(wanted):
            found.append(f"{group} inputs are {names} instead of {list(wanted)}")
        for name in set(names) & set(wanted):
            found += _input_differences(name, node["input"][group][name], wanted[name], host)
    columns = zip(node["output"], node["output_name"], node["output_is_list"], strict=True)
    outputs = [[kind, name, *["list"] * is_list] for kind, name, is_list in columns]
    while len(outputs) > len(expected["outputs"]) and outputs[-1][1] in OWN_OUTPUTS:
        outputs.pop()
    wanted = [[_resolved(kind, [], host), *rest] for kind, *rest in expected["outputs"]]
    found += _unequal("outputs", outputs, wanted)
    found += _unequal("is_input_list", node["is_input_list"], expected.get("input_is_list", False))
    found += _unequal("output_node", node["output_node"], expected.get("output_node", False))
    return found


def _input_differences(name, actual, expected, host):
    kind, options = actual[0], dict(*actual[1:])
    options.pop("tooltip", None)
    options.pop("placeholder", None)  # words for people, like tooltips
    options.pop("advanced", None)  # only whether the editor shows it at once
    wanted = dict(*expected[1:])
    if wanted.get("max") == "MAX_RESOLUTION":
        wanted["max"] = host.max_resolution
    found = _unequal(f"{name}, type", kind, _resolved(expected[0], kind, host))
    for option in sorted({*options, *wanted}):
        found += _unequal(f"{name}, {option}", options.get(option), wanted.get(option))
    return found


def _resolved(expected, actual, host):
    """The type expected, where the host has a say in it given what the host says."""
    if not isinstance(expected, dict):
        return expected
    present = actual if isinstance(actual, list) else []
    if "begins" in expected:
        return expected["begins"] + present[len(expected["begins"]) :]
    lists = {"samplers": host.samplers, "schedulers": host.schedulers, "files": present}
    return lists[expected["of"]] + expected.get("and", [])


def _unequal(what, actual, expected):
    if actual == expected and isinstance(actual, bool) == isinstance(expected, bool):
        return []
    return [f"{what} is {actual!r} instead of {expected!r}"]


# Every kind of slip in a node's definition, and the one line that tells of it.
def change_default(node):
    node["input"]["required"]["guide_size"][1]["default"] = 384
    return "guide_size, default is 384 instead of 512"


def drop_step(node):
    del node["input"]["required"]["denoise"][1]["step"]
    return "denoise, step is None instead of 0.01"


def add_option(node):
    node["input"]["required"]["seed"][1]["control_after_generate"] = True
    return "seed, control_after_generate is True instead of None"


def rename_label(node):
    node["input"]["required"]["guide_size_for"][1]["label_off"] = "crop"
    return "guide_size_for, label_off is 'crop' instead of 'crop_region'"


def change_type(node):
    node["input"]["required"]["guide_size"][0] = "INT"
    return "guide_size, type is 'INT' instead of 'FLOAT'"


def lose_scheduler(node):
    node["input"]["required"]["scheduler"][0].remove("OSS Wan")
    return "scheduler, type is ["


def swap_inputs(node):
    order = node["input_order"]["required"]
    order[-2:] = order[:-3:-1]
    return "required inputs are ["


def require_optional(node):
    node["input_order"]["required"].append(node["input_order"]["optional"].pop())
    return "required inputs are ["


def rename_output(node):
    node["output_name"][0] = "IMAGE"
    return "outputs is [['IMAGE', 'IMAGE']"


def flatten_list(node):
    node["output_is_list"][node["output_name"].index("cnet_images")] = False
    return "outputs is [["


def make_output_node(node):
    node["output_node"] = True
    return "output_node is True instead of False"


@pytest.mark.parametrize(
    "slip",
    [
        change_default, drop_step, add_option, rename_label, change_type, lose_scheduler,
        swap_inputs, require_optional, rename_output, flatten_list, make_output_node,
    ],
    ids=lambda slip: slip.__name__,
)  # fmt: skip
def test_a_slip_in_an_interface_is_told(info, nodes, slip):
    node = nodes["DetailerForEachDebugPipe"]
    line = slip(node)
    found = differences(node, INTERFACES["DetailerForEachDebugPipe"], docs.Host.of(info))
    assert any(told.startswith(line) for told in found), found


def test_further_optional_inputs_may_follow(info, nodes):
    node = nodes["SEGSPaste"]
    node["input_order"]["optional"].append("more")
    node["input"]["optional"]["more"] = ["INT", {"default": 1}]
    assert not differences(node, INTERFACES["SEGSPaste"], docs.Host.of(info))


# Help


def inputs_of(node):
    return {
        name: (*entry[1:], {})[0]
        for group in GROUPS
        for name, entry in node["input"].get(group, {}).items()
    }


def test_every_input_has_a_tooltip(nodes):
    without = [
        f"{node_id}: {name}"
        for node_id, node in nodes.items()
        for name, options in inputs_of(node).items()
        if not options.get("tooltip", "").strip()
    ]
    assert not without


def test_every_node_has_a_description(nodes):
    assert not [node_id for node_id, node in nodes.items() if not node["description"].strip()]


def test_every_output_has_a_tooltip(nodes):
    for node_id, node in nodes.items():
        tooltips = node.get("output_tooltips", ())
        assert len(tooltips) == len(node["output"]), node_id
        assert all(tooltip.strip() for tooltip in tooltips), node_id


def test_the_help_pages_are_up_to_date(info):
    faults = docs.faults(info)
    assert not faults, "renew them with `python -m dev.docs`: " + ", ".join(faults)


def test_the_server_gives_every_page_and_it_names_every_input(server, nodes):
    for node_id, node in nodes.items():
        url = f"{server.url}/extensions/{docs.PACK}/docs/{quote(node_id)}.md"
        with DIRECT.open(url, timeout=30) as answer:
            page = answer.read().decode()
        assert page == docs.read_page(docs.PAGES, node_id)
        assert not [name for name in inputs_of(node) if f"`{name}`" not in page], node_id
