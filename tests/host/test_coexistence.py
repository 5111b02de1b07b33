"""Beside other packs that have some of our node ids, and under any folder name."""

import json

import pytest
from detailers.dev.server import MODEL_PACK, ROOT, Server
from detailers.tests.host.graphs import Graph

# Another pack that claims ids which are also ours.
PACK = """
class Claim:
    DESCRIPTION = "Not one of ours."
    CATEGORY = "other"
    RETURN_TYPES = ("SEGS",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{}}}}

    def run(self):
        return (((7, 7), []),)


NODE_CLASS_MAPPINGS = {{node_id: type(node_id, (Claim,), {{}}) for node_id in {ids}}}
NODE_DISPLAY_NAME_MAPPINGS = {{node_id: "Their " + node_id for node_id in {ids}}}
"""
BREAKS = "ImpactSleep"
BREAKING = f"""
import nodes

nodes.NODE_CLASS_MAPPINGS["{BREAKS}"].INPUT_TYPES = None
"""
EARLIER = ["EmptySegs", "MaskToSEGS"]
LATER = ["SEGSPaste", "ToBasicPipe"]
ODD_NAME = "my detailers-v1.0 (copy)"
OLDER_PACK = "ComfyUI-Impact-Pack"


def write_pack(folder, ids):
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PACK.format(ids=ids))
    return folder


@pytest.fixture(scope="module")
def between(host, tmp_path_factory):
    """A server with ours between two packs that claim two of its ids each."""
    folder = tmp_path_factory.mktemp("packs")
    for name, ids in (("earlier", EARLIER), ("later", LATER)):
        pack = write_pack(folder / name / f"{name}-pack", ids)
    with (pack / "__init__.py").open("a") as file:
        file.write(BREAKING)
    # The host goes through its folders of packs in turn; a default one comes first.
    folders = {
        name: {"custom_nodes": str(folder / name), "is_default": name == "earlier"}
        for name in ("earlier", "later")
    }
    (folder / "folders.yaml").write_text(json.dumps(folders))  # JSON is YAML too
    args = ["--extra-model-paths-config", str(folder / "folders.yaml")]
    packs = {ODD_NAME: ROOT, "detailers-models": MODEL_PACK}
    with Server(host.tree, host.python, packs, args=args) as server:
        yield server


@pytest.fixture(scope="module")
def beside_older(host, tmp_path_factory):
    """A server with a pack that claims two of our ids in the folder of the older pack."""
    older = write_pack(tmp_path_factory.mktemp("packs") / "older", EARLIER)
    packs = {ODD_NAME: ROOT, OLDER_PACK: older}
    with Server(host.tree, host.python, packs) as server:
        yield server


def ids_of(server, folder):
    return {
        node_id
        for node_id, node in server.object_info().items()
        if node["python_module"] == f"custom_nodes.{folder}"
    }


def moved(ids):
    return {f"{node_id} //Detailers" for node_id in ids}


def test_a_node_that_another_pack_breaks_is_the_only_one_missing(between):
    registered = ids_of(between, ODD_NAME)
    assert BREAKS not in registered
    assert len(registered) > 200


def test_claimed_ids_are_left_to_the_other_packs(between):
    assert ids_of(between, "earlier-pack") == set(EARLIER)
    assert ids_of(between, "later-pack") == set(LATER)
    ours = ids_of(between, ODD_NAME)
    assert {node_id for node_id in ours if "//" in node_id} == moved(EARLIER + LATER)
    assert {"DetailerForEach", "FromBasicPipe"} < ours
    nodes = between.object_info()
    assert nodes["MaskToSEGS //Detailers"]["display_name"] == "MASK to SEGS //Detailers"
    assert nodes["SEGSPaste //Detailers"]["display_name"] == "SEGSPaste //Detailers"
    assert nodes["SEGSPaste"]["display_name"] == "Their SEGSPaste"


def test_one_line_of_the_log_tells_of_each_pack(between):
    lines = [line for line in between.log().splitlines() if "//Detailers" in line]
    assert len(lines) == 2
    for line, ids, what in (
        (lines[0], EARLIER, "another pack has the same node ids"),
        (lines[1], LATER, "a pack loaded after Detailers has the same node ids"),
    ):
        assert what in line
        assert "ours are registered as '<id> //Detailers' (2: " in line
        assert all(node_id in line for node_id in ids)
        assert "Remove one of the two packs" in line


def test_each_pack_does_its_own(between):
    graph = Graph()
    ours = graph.add(
        "MaskToSEGS //Detailers",
        mask=graph.mask(64, 48, [8, 8, 40, 40, "r"]),
        combined=False,
        crop_factor=1.0,
        bbox_fill=False,
        drop_size=1,
        contour_fill=False,
    )[0]
    links = {"ours": ours, "earlier": graph.add("MaskToSEGS")[0]}
    links["later"] = graph.add("SEGSPaste")[0]
    for name, link in links.items():
        graph.add("DetailersTestSave", value=link, name=name)
    done = between.run(graph)
    assert done.ok, done.error
    assert between.result("ours")["segs0_0_crop"].tolist() == [8, 8, 40, 40]
    for name in ("earlier", "later"):
        assert between.result(name)["segs0_shape"].tolist() == [7, 7]


def test_beside_the_older_pack_all_shared_ids_are_left_to_it(beside_older):
    assert ids_of(beside_older, OLDER_PACK) == set(EARLIER)
    ours = ids_of(beside_older, ODD_NAME)
    assert moved(["DetailerForEach", *EARLIER, *LATER]) < ours
    plain = {node_id for node_id in ours if "//" not in node_id}
    assert all(node_id.startswith("Detailers") for node_id in plain)
    lines = [line for line in beside_older.log().splitlines() if "//Detailers" in line]
    assert len(lines) == 1
    assert OLDER_PACK in lines[0]
    assert "ours are registered as '<id> //Detailers'" in lines[0]
