"""Shared workflow files of many versions in the real editor: all their values arrive in place.

The files are in ../shared/interop/workflows; without that folder the test is skipped. What a list
of widget values means is written down here by its length, apart from the pack's own table.
`pytest -rP` shows the table of all files.
"""

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from detailers.dev.editor import LOAD
from detailers.dev.server import ROOT, PromptRefused, configured_hosts
from detailers.tests.editor import stand_ins

FOLDER = ROOT.parent / "shared" / "interop" / "workflows"
FILES = sorted(FOLDER.glob("*__*.json"))
SHARED = json.loads((Path(__file__).parent.parent / "interfaces" / "shared.json").read_text())

RENAMED = {
    "BboxDetectorCombined": "BboxDetectorCombined_v2",
    "BboxDetectorForEach": "BboxDetectorSEGS",
    "ONNXDetectorForEach": "ONNXDetectorSEGS",
    "ONNXLoader": "ONNXDetectorProvider",
    "SegmDetectorCombined": "SegmDetectorCombined_v2",
    "SegmDetectorForEach": "SegmDetectorSEGS",
    "Segs & Mask": "ImpactSegsAndMask",
    "Segs & Mask ForEach": "ImpactSegsAndMaskForEach",
    "SegsMaskCombine": "SegsToCombinedMask",
}
RENAMED_INPUTS = {
    "bbox_model": "bbox_detector",
    "segm_model": "segm_detector",
    "onnx_model": "bbox_detector",
    "segm_detector_opt": "segm_detector",
}
GONE = {("SegsMaskCombine", "image")}  # inputs that have lost their sense
GONE_OUTPUTS = {("PreviewDetailerHookProvider", 2)}
RENAMED_OUTPUTS = {
    ("DetailerPipeToBasicPipe", "basic_pipe"): "base_basic_pipe",
    ("ImpactFrom_SEG_ELT", "seg_lt"): "seg_elt",
    ("ONNXLoader", "ONNX_MODEL"): "BBOX_DETECTOR",
}
NAMED_BY_LINKS = {"ImpactSwitch", "ImpactInversedSwitch"}  # their outputs
OLD = {*RENAMED, "MMDetLoader", "MMDetDetectorProvider", "MaskPainter"}

# What a list holds that is not simply the beginning of today's, by node and length.
_SAMPLING = "seed control_after_generate steps cfg sampler_name scheduler denoise"
_WITHOUT_MAX = f"guide_size guide_size_for {_SAMPLING} feather noise_mask force_inpaint"
_FACE = (
    f"{_WITHOUT_MAX} bbox_threshold bbox_dilation bbox_crop_factor sam_detection_hint sam_dilation "
    "sam_threshold sam_bbox_expansion sam_mask_hint_threshold sam_mask_hint_use_negative drop_size"
)
_DETAILER = {
    9: f"guide_size {_SAMPLING} feather",
    10: f"guide_size {_SAMPLING} feather noise_mask",
    11: f"guide_size guide_size_for {_SAMPLING} feather noise_mask",
    12: _WITHOUT_MAX,
}
LAYOUTS = {
    "DetailerForEach": _DETAILER,
    "DetailerForEachDebug": _DETAILER,
    "DetailerForEachPipe": {12: _WITHOUT_MAX},
    "DetailerForEachDebugPipe": {12: _WITHOUT_MAX},
    "FaceDetailer": {22: _FACE},
    "FaceDetailerPipe": {22: _FACE},
    "ONNXDetectorSEGS": {2: "threshold crop_factor"},
    "RegionalSampler": {5: "seed control_after_generate steps denoise overlap_factor"},
    "SAMDetectorCombined": {2: "dilation threshold"},
}
# What inputs have that did not exist yet, where today's default would mean something else.
BEFORE = {
    "guide_size_for": True,
    "max_size": 16384,
    "noise_mask": False,
    "force_inpaint": False,
    "inpaint_model": False,
    "noise_mask_feather": 0,
    "drop_size": 1,
    "wildcard": "",
    "cycle": 1,
    "tiled_encode": False,
    "tiled_decode": False,
    ("SEGSPreview", "alpha_mode"): False,
    ("SEGSPreview", "min_alpha"): 0,
    ("ToBinaryMask", "threshold"): 1,
    ("ONNXDetectorSEGS", "dilation"): 0,
    ("RegionalSampler", "base_only_steps"): 0,
    ("RegionalSampler", "restore_latent"): False,
    ("RegionalSampler", "additional_mode"): "DISABLE",
}
# Text that stood for a value.
SAID = {
    "guide_size_for": {"bbox": True, "crop_region": False},
    "noise_mask": {"enabled": True, "disabled": False},
    "force_inpaint": {"enabled": True, "disabled": False},
    "bbox_fill": {"enabled": True, "disabled": False},
    "combined": {"True": True, "False": False},
    "control_after_generate": {True: "randomize", False: "fixed"},
    "mask_hint_use_negative": {"True": "Small"},
    "tiling_strategy": {1: "random"},  # was the number of tiles at a time
    "image": {"#placeholder": ""},
}
# Lists that a later version has taken for some of its own. Values were lost then, such as a seed.
_SAM = {  # the threshold was left where the dilation, a whole number, is
    "detection_hint": "none", "dilation": 0, "threshold": 0.93, "bbox_expansion": 0,
    "mask_hint_threshold": 0.7, "mask_hint_use_negative": "False",
}  # fmt: skip
DAMAGED = {
    ("comfyui-extension-tutorials__sam-original__ui_13280c.json", "9"): _SAM,
    ("comfyui-impact-pack__sam-original__ui_e711dd.json", "9"): _SAM,
    ("comfyui-impact-pack__sam-result__ui_9e7ee3.json", "9"): _SAM,
    ("comfyui-impact-pack__advanced-simple__ui_35b604.json", "70"): {
        "guide_size": 192, "guide_size_for": True, "max_size": 16384, "seed": 0,
        "control_after_generate": "fixed", "steps": 20, "cfg": 8, "sampler_name": "euler",
        "scheduler": "karras", "denoise": 0.4, "feather": 5, "noise_mask": True,
        "force_inpaint": False, "wildcard": "", "cycle": 1, "inpaint_model": False,
        "noise_mask_feather": 0,
    },
    ("comfyui-extension-tutorials__sam-original__ui_13280c.json", "33"): {
        "guide_size": 256, "guide_size_for": True, "max_size": 16384, "seed": 31472673740945,
        "control_after_generate": "randomize", "steps": 20, "cfg": 10, "sampler_name": "euler",
        "denoise": 0.5, "feather": 3, "noise_mask": True, "force_inpaint": False, "wildcard": "",
        "cycle": 1, "inpaint_model": False, "noise_mask_feather": 0,
    },
}  # fmt: skip
# ... and this prompt is the second list, exported.
DAMAGED_PROMPTS = {("comfyui-extension-tutorials__sam-original__api_4ecb44.json", "33")}

# Files that do not run, and what is said then.
_HOST = "VAEEncodeForInpaint: Required input is missing: grow_mask_by"  # came later, in ComfyUI
NOT_RUN = {
    "comfyui-extension-tutorials__detailer-wildcard__ui_c69dad.json": (  # its group node is muted
        "PreviewImage: Required input is missing: images"
    ),
    "comfyui-extension-tutorials__sam-original__api_4ecb44.json": "seed, randomize",  # damaged
    "comfyui-impact-pack__mask-sam__api_c981f7.json": _HOST,
    "comfyui-impact-pack__maskpointer-hair__api_0684ea.json": _HOST,
    "comfyui-impact-pack__sam-original__api_97b821.json": _HOST,
}

# Some old group nodes are too much for an old editor, with this pack or without.
OWN_FAULT = "Converting circular structure to JSON"

UPGRADE = """async (workflow) => {
    const pack = "/extensions/comfyui-detailers/detailers_upgrade.js";
    const {upgradeWorkflow} = await import(pack);
    const [upgraded, changes] = upgradeWorkflow(workflow);
    const [again] = upgradeWorkflow(upgraded);
    return {workflow: changes.length ? upgraded : null, changes, once: again === upgraded};
}"""
# A page that nobody looks at: neither the canvas is drawn, nor are elements laid out and painted.
NOT_DRAWN = """(isHidden) => {
    window.app.canvas.draw = () => {};
    if (isHidden) document.documentElement.style.display = "none";
}"""
DRAWN = """() => {
    document.documentElement.style.display = "";
    delete window.app.canvas.draw;
    window.app.canvas.setDirty(true, true);
}"""
LOAD_PROMPT = """async (prompt) => {
    window.app.graph.clear();
    await window.app.loadApiJson(prompt, "shared");
}"""


@dataclass
class Checked:
    """What became of a file."""

    name: str
    nodes: int = 0
    values: int = 0
    links: int = 0
    upgraded: int = 0
    unknown: set[str] = field(default_factory=set)  # of the older pack
    others: set[str] = field(default_factory=set)  # of yet other packs
    faults: list[str] = field(default_factory=list)

    HEAD = f"{'file':76} nodes values links upgraded others  unknown"

    def __str__(self):
        return (
            f"{self.name[:76]:76} {self.nodes:5} {self.values:6} {self.links:5} "
            f"{self.upgraded:8} {len(self.others):6}  {', '.join(sorted(self.unknown))}"
        )

    def value(self, where, expected, actual):
        self.values += 1
        if isinstance(expected, bool) or not isinstance(expected, int | float):
            good = type(expected) is type(actual) and expected == actual
        else:
            good = not isinstance(actual, bool) and actual == pytest.approx(expected)
        if not good:
            self.faults.append(f"{self.name}: {where} is {actual!r} instead of {expected!r}")

    def link(self, where, expected, actual):
        self.links += 1
        if expected != actual:
            self.faults.append(f"{self.name}: {where} comes from {actual} instead of {expected}")


def today(node_id):
    return RENAMED.get(node_id, node_id)


def is_ours(node_id, info):
    """The older pack's, and known."""
    return (node_id in SHARED or node_id in OLD) and today(node_id) in info


def widgets_of(node_id):
    """(name, it has no widget of its own today) of each widget that lists of this version have."""
    interface = SHARED.get(node_id, {})
    inputs = {**interface.get("required", {}), **interface.get("optional", {})}
    for name, (kind, *options) in inputs.items():
        if not isinstance(kind, str) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN"):
            yield name, bool(options and options[0].get("forceInput"))
            if name == "seed":
                yield "control_after_generate", False


def before(node_id, name):
    return BEFORE.get((node_id, name), BEFORE.get(name))


def expected_values(file, node_id, key, saved):
    """What the widgets should have, by name, from a saved list of their values."""
    if (file, key) in DAMAGED:
        return DAMAGED[file, key]
    all_widgets = list(widgets_of(node_id))
    own = [name for name, forced in all_widgets if not forced]
    names = own
    if len(saved) == len(all_widgets):
        names = [name for name, _ in all_widgets]  # old editors had widgets for all
    layout = LAYOUTS.get(node_id, {}).get(len(saved))
    names = layout.split() if layout else names[: len(saved)]
    values = {
        name: meant(name, value) for name, value in zip(names, saved, strict=False) if name in own
    }
    absent = {name: before(node_id, name) for name in own if name not in values}
    return values | {name: value for name, value in absent.items() if value is not None}


def meant(name, value):
    if isinstance(value, dict):  # a picture
        path = "/".join(filter(None, [value["subfolder"], value["filename"]]))
        return f"{path} [{value['type']}]"
    return SAID.get(name, {}).get(value, value)


def expected_output(node, slot):
    """The name that an output of a saved node has today."""
    names = [output["name"] for output in node["outputs"]]
    if len(names) == 3 and set(names) == {"IMAGE"}:  # the first versions had no names
        return ("image", "cropped", "cropped_refined")[slot]
    return RENAMED_OUTPUTS.get((node["type"], names[slot]), names[slot])


def levels(workflow):
    """(path, graph) of the workflow and of every subgraph node in it, but not of group nodes."""
    subgraphs = {g["id"]: g for g in workflow.get("definitions", {}).get("subgraphs", [])}
    found = [((), workflow)]
    while found:
        path, graph = found.pop()
        yield path, graph
        for place, node in enumerate(graph["nodes"]):
            if node["type"] in subgraphs:
                found.append(((*path, place), subgraphs[node["type"]]))


def shown_nodes(state, path, graph):
    """The editor's nodes by the ids of a file, at one of its levels.

    The editor may give nodes in subgraphs other ids. They keep their order.
    """
    prefix = ""
    for place in path:
        prefix = f"{nodes_at(state, prefix)[place].id}:"
    nodes = nodes_at(state, prefix)
    if not path:
        return {node.id: node for node in nodes}
    saved = [str(node["id"]) for node in graph["nodes"]]
    assert len(saved) == len(nodes)
    return dict(zip(saved, nodes, strict=True))


def nodes_at(state, prefix):
    return [
        node
        for node in state
        if node.id.startswith(prefix) and ":" not in node.id.removeprefix(prefix)
    ]


def check_workflow(checked, workflow, state, info):
    """Compare the editor's graph with a file in the editor's own format."""
    groups = workflow.get("extra", {}).get("groupNodes", {})
    for path, graph in levels(workflow):
        shown = shown_nodes(state, path, graph)
        saved = {node["id"]: node for node in graph["nodes"]}
        for node in graph["nodes"]:
            inside = groups.get(node["type"][9:]) if is_group(node) else None
            for part in inside["nodes"] if inside else [node]:
                note_type(checked, part["type"], info)
            if is_ours(node["type"], info):
                key = str(node["id"])
                check_node(checked, shown[key], key, node["type"], node.get("widgets_values"))
        for link in graph["links"]:
            if isinstance(link, dict):
                keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
                link = [link[key] for key in keys]
            check_link(checked, link, saved, shown, info)


def note_type(checked, node_id, info):
    if today(node_id) in info or node_id in ("Note", "MarkdownNote", "Reroute", "PrimitiveNode"):
        return
    if node_id in SHARED or node_id in OLD:
        checked.unknown.add(node_id)
    elif not is_subgraph(node_id):
        checked.others.add(node_id)


def is_group(node):
    return node["type"].startswith(("workflow/", "workflow>"))


def is_subgraph(node_id):
    return len(node_id) == 36 and node_id.count("-") == 4


def check_node(checked, node, key, node_id, saved):
    checked.nodes += 1
    checked.link(f"the type of {key}", today(node_id), node.type)
    saved = saved if isinstance(saved, list) else []
    for name, value in expected_values(checked.name, today(node_id), key, saved).items():
        checked.value(f"{key} {node.type}, {name},", value, node.widgets.get(name))


def check_link(checked, link, saved, shown, info):
    number, origin_id, slot, target_id, target_slot = link[:5]
    origin, target = saved.get(origin_id), saved.get(target_id)
    if origin is None or target is None or is_group(origin) or is_group(target):
        return  # to or from the edge of a subgraph, a remnant, or what becomes a subgraph
    if not (is_ours(origin["type"], info) or is_ours(target["type"], info)):
        return
    given = target["inputs"][target_slot]
    if given.get("link") != number or (target["type"], given["name"]) in GONE:
        return
    if (origin["type"], slot) in GONE_OUTPUTS:
        return
    source, name = shown[str(origin_id)], given["name"]
    inputs = {slot.name: slot.ends for slot in shown[str(target_id)].inputs}
    ends = inputs[name] if name in inputs else inputs[RENAMED_INPUTS[name]]
    expected, actual = origin["outputs"][slot]["name"], None
    if is_ours(origin["type"], info):
        expected = expected_output(origin, slot)
    if ends and ends[0][0] == source.id:
        actual = source.outputs[ends[0][1]].name
        named = origin["type"] not in NAMED_BY_LINKS or ends[0][1] != slot
        if not named or expected.lower() == actual.lower():  # some got small letters
            expected = actual
    where = f"{target_id} {target['type']}, {name},"
    checked.link(where, (source.id, expected), (ends and ends[0][0], actual))


def ids_in_editor(prompt, shown):
    """The id that a node of an API-format file has in the editor, by its id in the file.

    Where a colon in an id means a place inside a subgraph, the editor writes "64:0" as "64_0", with
    more underscores where that is taken. Other editors keep such an id as it is.
    """
    taken = {key for key in prompt if ":" not in key}
    ids = {}
    for key in prompt:
        plain = key.replace(":", "_")
        while ":" in key and plain in taken:
            plain += "_"
        taken.add(plain)
        ids[key] = key if key in shown else plain
    return ids


def check_prompt(checked, prompt, state, info):
    """Compare the editor's graph with an API-format file."""
    for entry in prompt.values():
        note_type(checked, entry["class_type"], info)
    shown = {node.id: node for node in state}
    ids = ids_in_editor(prompt, shown)
    if checked.others and not shown:
        return  # older editors open no prompt that has an unknown node
    known = {node_id for node_id in [*info, *RENAMED] if today(node_id) in info}
    for key, entry in prompt.items():
        node_id = entry["class_type"]
        if not is_ours(node_id, info) or (checked.name, key) in DAMAGED_PROMPTS:
            continue
        node = shown[ids[key]]
        checked.nodes += 1
        checked.link(f"the type of {key}", today(node_id), node.type)
        inputs = {slot.name: slot.ends for slot in node.inputs}
        for name, value in entry["inputs"].items():
            if isinstance(value, list):
                source = prompt[value[0]]["class_type"]
                if (source, value[1]) in GONE_OUTPUTS or (node_id, name) in GONE:
                    continue
                if source in known:
                    place = name if name in inputs else RENAMED_INPUTS[name]
                    expected = (ids[str(value[0])], value[1])
                    checked.link(f"{key} {name}", [expected], inputs[place])
            elif name in node.widgets:
                where = f"{key} {node.type}, {name},"
                checked.value(where, meant(name, value), node.widgets[name])
        for name, _ in widgets_of(today(node_id)):
            expected = before(today(node_id), name)
            if name not in entry["inputs"] and name in node.widgets and expected is not None:
                checked.value(f"{key} {node.type}, {name},", expected, node.widgets[name])


def untouched(workflow, upgraded):
    """Whether an upgrade has left alone the nodes that are not of the older pack."""

    def others(content):
        return [
            {key: value for key, value in node.items() if key != "outputs"}
            for _, graph in levels(content)
            for node in graph["nodes"]
            if node["type"] not in SHARED and node["type"] not in OLD
        ]

    return others(workflow) == others(upgraded)


def traits(content):
    """What a file has that may be read in a way of its own: nodes of each type and length.

    Of the older pack's nodes (type, number of widget values, number of inputs) in the editor's
    format and ("api", type, number of inputs) in the API format; group nodes, subgraphs, and ids
    that lead into one.
    """
    if "nodes" not in content:
        ids = {"a path as an id" for key in content if ":" in key}
        nodes = [(entry["class_type"], entry["inputs"]) for entry in content.values()]
        return ids | {("api", kind, len(given)) for kind, given in nodes if is_known(kind)}
    groups = content.get("extra", {}).get("groupNodes", {}).values()
    subgraphs = content.get("definitions", {}).get("subgraphs", [])
    nodes = [node for graph in (content, *groups, *subgraphs) for node in graph["nodes"]]
    parts = {"group nodes"} if groups else set()
    parts |= {"subgraphs"} if subgraphs else set()
    return parts | {
        (node["type"], len(node.get("widgets_values") or ()), len(node.get("inputs") or ()))
        for node in nodes
        if is_known(node["type"])
    }


def is_known(node_id):
    return node_id in SHARED or node_id in OLD


def one_of_each(contents):
    """The names of some files, small ones first, that have all traits which any file has."""
    seen, names = set(), set()
    for name, content in sorted(contents.items(), key=lambda entry: len(str(entry[1]))):
        if not (own := traits(content)) <= seen:
            names.add(name)
            seen |= own
    return names


@pytest.fixture(scope="module")
def opened(editor):
    """What became of each file, and the prompts of those without a node that is unknown.

    In the first host's own editor all files are opened. In the newest one they are as many as it
    takes to have every kind of node with every length of its list, and in the oldest those of them
    that are upgraded.
    """
    if not FILES:
        pytest.skip("needs the shared files in ../shared/interop/workflows")
    info = editor.server.object_info()
    contents = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in FILES}
    chosen = contents.keys() if is_own(editor) else one_of_each(contents)
    with not_drawn(editor, is_hidden=is_main(editor)):
        return _opened(editor, info, {name: contents[name] for name in contents if name in chosen})


@contextmanager
def not_drawn(editor, is_hidden):
    """What runs inside needs nobody to look at the page."""
    editor.page.evaluate(NOT_DRAWN, is_hidden)
    try:
        yield
    finally:
        editor.page.evaluate(DRAWN)


def _opened(editor, info, contents):
    rows, prompts = [], {}
    for name, content in contents.items():
        checked = Checked(name)
        if "__api_" in name:
            if not is_main(editor):
                continue
            editor.page.evaluate(LOAD_PROMPT, content)
            check_prompt(checked, content, editor.state(), info)
        else:
            upgrade = editor.page.evaluate(UPGRADE, content)
            checked.upgraded = len(upgrade["changes"])
            if not checked.upgraded and not is_main(editor):
                continue
            whole = not checked.upgraded or untouched(content, upgrade["workflow"])
            if not whole or not upgrade["once"]:
                checked.faults.append(f"{name}: upgraded twice, or in other packs' nodes")
            editor.page.evaluate(LOAD, content)
            check_workflow(checked, content, editor.state(), info)
        editor.close_others()
        if not checked.unknown | checked.others:
            prompts[name] = content if "__api_" in name else made_prompt(editor)
            if NOT_RUN.get(name) == _HOST:  # which the editor can mend
                prompts[f"{name}, opened in the editor"] = made_prompt(editor)
        rows.append(checked)
    return rows, prompts


def made_prompt(editor):
    """What the editor would queue; the error as text where it fails at its own group nodes."""
    from playwright.sync_api import Error

    try:
        return editor.prompt()
    except Error as error:
        if OWN_FAULT not in str(error):
            raise
        return OWN_FAULT


def is_main(editor):
    """Whether it runs on the first of the hosts."""
    return editor.server.tree == next(iter(configured_hosts().values())).tree.resolve()


def is_own(editor):
    """Whether it is the first host's own editor."""
    return is_main(editor) and "--front-end-root" not in editor.server.args


def test_every_shared_file_means_what_it_meant(opened, tell):
    rows, _ = opened
    tell("\n".join([Checked.HEAD, *map(str, rows), totals(rows)]))
    faults = [fault for row in rows for fault in row.faults]
    assert not faults, "\n".join(faults)
    assert not set().union(*(row.unknown for row in rows))


@pytest.mark.once
@pytest.mark.limit(1200)  # seconds: some seventy prompts
def test_shared_files_of_known_nodes_run(opened, editor, tell):
    """With small stand-ins for their models, at small sizes; each must show a picture.

    In the first host's own editor only: what editors make of a file is compared in all of them.
    """
    rows, prompts = opened
    stand_ins.write_files(editor.server.base)
    info = editor.server.object_info()
    with not_drawn(editor, is_hidden=True):
        outcomes = {
            name: prompt
            if prompt == OWN_FAULT
            else outcome(editor.server, stand_ins.fit(prompt, info))
            for name, prompt in prompts.items()
        }
    ran = sum(said == "ran" for said in outcomes.values())
    said = {row.name: why_not(row) for row in rows} | outcomes
    lines = [f"{name:80} {outcome}" for name, outcome in said.items()]
    last = f"{ran} of {len(outcomes)} prompts ran, of files without nodes of other packs"
    tell("\n".join([*lines, last]))
    for name, said in outcomes.items():
        expected = NOT_RUN.get(name, "ran")
        assert said in ("ran", OWN_FAULT) or expected in said, f"{name}: {said}"


def why_not(row):
    """Why a file was not run: whose nodes are not here."""
    named = sorted(row.others)
    return f"needs other packs: {', '.join(named[:3])}{', ...' * (len(named) > 3)}"


def outcome(server, prompt):
    """ "ran", or why it did not."""
    try:
        run = server.run(prompt, timeout=120)
    except PromptRefused as refused:
        return " ".join(str(refused).split())
    if not run.ok:
        return str(run.error or run.messages)
    images = [image for shown in run.outputs.values() for image in shown.get("images", [])]
    return "ran" if images else "no picture"


def totals(rows):
    numbers = ("nodes", "values", "links", "upgraded")
    sums = ", ".join(f"{sum(getattr(row, name) for row in rows)} {name}" for name in numbers)
    return f"{len(rows)} files: {sums}"
