"""Classifiers of the transformers package, made here with random weights."""

import json

import numpy as np
import pytest
import torch
from detailers.tests.host.graphs import Graph, box

transformers = pytest.importorskip("transformers")

LABELS = ["female", "Male", "猫"]
SIZE = {"height": 16, "width": 16}
PRESET = "rizvandwiki/gender-classification-2"


class Hostile:
    """Pickled, it opens a file for writing when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture(scope="module")
def classifier(server):
    """A model and its picture processor, saved in the server's models under three names."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=16, patch_size=8, initializer_range=0.5,
        id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)},
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    processor = transformers.ViTImageProcessor(size=SIZE)
    models = server.base / "models" / "classifiers"
    for name in (PRESET, "pickled", "hostile"):
        model.save_pretrained(models / name)
        processor.save_pretrained(models / name)
    for name, extra in (("pickled", {}), ("hostile", {"a": Hostile(server.base / "harm")})):
        (models / name / "model.safetensors").unlink()
        torch.save(model.state_dict() | extra, models / name / "pytorch_model.bin")
    return model, processor


def scores(classifier, picture):
    """How sure the classifier is of each label for a picture [h,w,3]."""
    model, processor = classifier
    inputs = processor(
        images=[torch.from_numpy(picture).movedim(-1, 0)], do_rescale=False, return_tensors="pt"
    )
    with torch.no_grad():
        return model(**inputs).logits[0].softmax(0).tolist()


def provide(graph, name, **more):
    repo = {"preset_repo_id": "Manual repo id", "manual_repo_id": name}
    if name == PRESET:
        repo = {"preset_repo_id": name, "manual_repo_id": ""}
    return graph.add("ImpactHFTransformersClassifierProvider", **repo, device_mode="AUTO", **more)[
        0
    ]


def classify(graph, name, segs, expression, **more):
    return graph.add(
        "ImpactSEGSClassify", classifier=provide(graph, name), segs=segs,
        preset_expr="Manual expr", manual_expr=expression, **more,
    )  # fmt: skip


@pytest.mark.parametrize("name", [PRESET, "pickled"])
def test_segments_are_split_by_what_the_classifier_sees(classifier, results, name):
    graph = Graph()
    image = graph.image(96, 64)
    boxes = [[0, 0, 30, 40], [50, 10, 90, 60]]
    segs = graph.segs(96, 64, *(box(*corners) for corners in boxes))
    picture = results(graph, image=image)["image"]["t0"][0]
    sure = [scores(classifier, picture[y1:y2, x1:x2])[1] for x1, y1, x2, y2 in boxes]
    middle = sum(sure) / 2
    assert abs(sure[0] - sure[1]) > 1e-3
    node = classify(graph, name, segs, f"male > {middle}", ref_image_opt=image)
    never = classify(graph, name, segs, "dog > 0", ref_image_opt=image)
    unseen = classify(graph, name, segs, "male > 0")
    nothing = classify(graph, name, graph.add("EmptySegs")[0], "male > 0")
    out = results(
        graph, chosen=node[0], others=node[1], labels=node[2], never=never[1], unseen=unseen[1],
        nothing=nothing[0],
    )  # fmt: skip
    best = int(np.argmax(sure))
    assert out["chosen"]["segs0_0_crop"].tolist() == boxes[best]
    assert out["others"]["segs0_0_crop"].tolist() == boxes[1 - best]
    assert "segs0_1_crop" not in out["chosen"]
    assert [json.loads(out["labels"][f"s{i}"].item()) for i in range(3)] == LABELS
    for name in ("never", "unseen"):
        assert "segs0_1_crop" in out[name]
    assert "segs0_0_crop" not in out["nothing"]


def failure(server, graph, link):
    graph.add("DetailersTestSink", value=link)
    done = server.run(graph)
    assert not done.ok
    return done.error.message


def test_a_hostile_pickle_is_refused(classifier, server):
    graph = Graph()
    message = failure(server, graph, provide(graph, "hostile"))
    assert "'pytorch_model.bin' is refused: besides weights it holds" in message
    assert "safetensors" in message
    assert not (server.base / "harm").exists()


def test_nothing_is_fetched_unless_asked_for(classifier, server):
    graph = Graph()
    message = failure(server, graph, provide(graph, "nobody/nothing"))
    assert "not on this machine" in message
    assert "'download'" in message


@pytest.mark.parametrize("name", [f"nobody/nothing@{'0' * 40}", PRESET.replace("-2", "-3")])
def test_a_workflow_alone_fetches_nothing(classifier, server, name):
    graph = Graph()
    message = failure(server, graph, provide(graph, name, download=True))
    assert "a workflow alone may not fetch it" in message
    assert '{"downloads": true}' in message
    assert str(server.base) in message


def test_names_do_not_lead_out_of_the_folder(classifier, server):
    graph = Graph()
    assert "'manual_repo_id' is '../pickled'" in failure(
        server, graph, provide(graph, "../pickled")
    )


def test_an_expression_that_is_none_is_named(classifier, server):
    graph = Graph()
    segs = graph.add("EmptySegs")[0]
    message = failure(server, graph, classify(graph, PRESET, segs, "male")[0])
    assert "'manual_expr' is 'male'" in message
