"""dev/docs.py on hand-made answers to /object_info."""

import re

import pytest
from detailers.dev.docs import (
    PAGES,
    Host,
    body_of,
    faults,
    pack_nodes,
    read_page,
    render,
    write_pages,
)
from PIL import Image

SIZE = {"default": 512, "min": 16, "max": 16384, "step": 8}
HOST_NODES = {
    "KSampler": {
        "python_module": "nodes",
        "input": {"required": {"sampler_name": [["euler", "lcm"]], "scheduler": [["simple"]]}},
    },
    "EmptyLatentImage": {
        "python_module": "nodes",
        "input": {"required": {"width": ["INT", SIZE]}},
    },
}
HOST = Host(["euler", "lcm"], ["simple"], 16384)


def node(required=None, optional=None, **changed):
    groups = {"required": required or {}, "optional": optional or {}}
    return {
        "python_module": "custom_nodes.comfyui-detailers",
        "display_name": "Paste it",
        "description": "Pastes.",
        "input": groups,
        "input_order": {group: list(inputs) for group, inputs in groups.items()},
        "output": ["IMAGE", "MASK"],
        "output_name": ["image", "masks"],
        "output_is_list": [False, True],
        "output_tooltips": ["The image.", "The masks."],
        **changed,
    }


def row(*entry):
    """The line of one required input `x` in its page's table, without the name."""
    page = render(node({"x": list(entry)}), HOST, "Text.")
    (line,) = [line for line in page.splitlines() if line.startswith("| `x`")]
    return line.removeprefix("| `x` | ").removesuffix(" |")


def test_a_whole_page():
    mask = ["MASK", {"tooltip": "What to paste."}]
    page = render(node({"mask": mask}, {"radius": ["INT", SIZE]}), HOST, "By hand.\n\n## More")
    assert page == (
        "<!-- generated: title -->\n# Paste it\n\nPastes.\n\n<!-- end -->\n\n"
        "By hand.\n\n## More\n\n"
        "<!-- generated: inputs -->\n## Inputs\n\n"
        "| Input | Type | Default and range | What it does |\n| --- | --- | --- | --- |\n"
        "| `mask` | MASK |  | What to paste. |\n"
        "| `radius` (optional) | INT | 512; from 16, in steps of 8 |  |\n\n<!-- end -->\n\n"
        "<!-- generated: outputs -->\n## Outputs\n\n"
        "| Output | Type | What it is |\n| --- | --- | --- |\n"
        "| `image` | IMAGE | The image. |\n| `masks` | MASK, a list | The masks. |\n\n"
        "<!-- end -->\n"
    )
    assert body_of(page) == "By hand.\n\n## More"


def test_a_node_without_inputs_says_so():
    assert "## Inputs\n\nNone.\n" in render(node(), HOST, "")


def test_files_of_the_user_are_not_listed():
    page = render(node({"lora_name": [["my.safetensors"], {}]}), HOST, "")
    assert "| `lora_name` | choice | one of your LoRAs |  |" in page


def test_an_output_may_be_a_choice():
    page = render(node(output=[["simple", "A"], "MASK"]), HOST, "")
    assert "| `image` | choice | The image. |" in page


@pytest.mark.parametrize(
    ("entry", "cells"),
    [
        (["INT", {"default": 0, "min": 0, "max": 2**64 - 1}], "INT | 0; 0 to 2⁶⁴ − 1 | "),
        (["INT", {"default": 5, "min": -9, "max": 100, "step": 1}], "INT | 5; -9 to 100 | "),
        (
            ["FLOAT", {"default": 0.5, "min": 0.0001, "max": 1.0, "step": 0.01}],
            "FLOAT | 0.5; 0.0001 to 1, in steps of 0.01 | ",
        ),
        (
            ["BOOLEAN", {"default": True, "label_on": "a", "label_off": "b"}],
            "BOOLEAN | a (default) or b | ",
        ),
        (["BOOLEAN", {}], "BOOLEAN | false (default) or true | "),
        (["STRING", {"multiline": True}], "STRING | empty | "),
        (["STRING", {"default": "all"}], "STRING | `all` | "),
        (["STRING", {"forceInput": True}], "STRING |  | "),
        ([["euler", "lcm"]], "choice | one of ComfyUI's samplers | "),
        ([["simple"]], "choice | one of ComfyUI's schedulers | "),
        ([["simple", "A", "B"]], "choice | one of ComfyUI's schedulers, or A, B | "),
        ([["x", "y"], {"default": "y"}], "choice | `x`, `y`; default `y` | "),
        ([["x", "y"]], "choice | `x`, `y`; default `x` | "),
        (["MASK"], "MASK |  | "),
    ],
)
def test_what_a_row_says_of_an_input(entry, cells):
    assert row(*entry) == cells


def test_signs_of_a_tooltip_stay_what_they_are():
    tooltip = "a|b, __list__\nor *c* <lora:x>, guide_size"
    assert row("STRING", {"tooltip": tooltip}) == (
        r"STRING | empty | a\|b, \_\_list\_\_ or \*c\* \<lora:x>, guide_size"
    )


def test_only_the_nodes_of_this_pack_have_pages():
    other = node(python_module="custom_nodes.other")
    assert list(pack_nodes({**HOST_NODES, "Paste": node(), "Other": other})) == ["Paste"]


def test_faults_name_what_is_missing_old_or_astray(tmp_path):
    info = {**HOST_NODES, "Cut": node(), "Paste": node()}
    write_pages(info, pages=tmp_path)
    (tmp_path / "Cut.md").write_text("By hand.\n\n" + read_page(tmp_path, "Cut"))
    (tmp_path / "Gone.md").write_text("Old.")
    info["Cut"]["display_name"] = "Cut it"
    assert faults(info, tmp_path) == [
        "Cut.md: its title or its tables are out of date",
        "Paste.md: has no text of its own",
        "Gone.md: there is no such node",
    ]


def test_renewing_keeps_what_is_written_by_hand(tmp_path):
    info = {**HOST_NODES, "Cut": node(), "Paste": node()}
    for name in ("Cut", "Paste"):
        (tmp_path / f"{name}.md").write_text("By hand: é.\n", encoding="utf-8")
    write_pages(info, pages=tmp_path)
    assert faults(info, tmp_path) == []
    info["Cut"]["description"] = info["Paste"]["description"] = "Other."
    write_pages(info, only=["Cut"], pages=tmp_path)
    assert faults(info, tmp_path) == ["Paste.md: its title or its tables are out of date"]
    assert body_of(read_page(tmp_path, "Cut")) == "By hand: é."


def test_pictures_of_pages_are_there_and_small():
    used = set()
    for page in PAGES.glob("*.md"):
        for text, file in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text(encoding="utf-8")):
            assert len(text) > 20, f"{page.name}: {file} needs words for those who cannot see it"
            used.add(file)
    assert len(used) >= 6
    assert used == {f"images/{file.name}" for file in (PAGES / "images").iterdir()}
    assert sum((PAGES / file).stat().st_size for file in used) < 2_000_000
    for file in used:
        with Image.open(PAGES / file) as picture:
            assert 300 <= picture.width <= 1000
