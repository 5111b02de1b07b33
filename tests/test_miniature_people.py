"""The miniature's network of persons, its cast, and how often the names of its people are right."""

import sys
from dataclasses import make_dataclass

import numpy as np
import pytest
import torch
from detailers.core.detectors.embedder import OnnxEmbedder
from detailers.core.geometry import Size
from detailers.core.segs.people import Naming, Persons, label_by_person
from detailers.dev.miniature.cast import (
    NAMES,
    another_day,
    draw_cast,
    draw_gathering,
    reference_picture,
)
from detailers.dev.miniature.people import (
    EMBEDDER,
    LENGTH,
    PEOPLE,
    PERSON,
    SIZE,
    PersonNet,
    person_of,
    same_person,
    values_of,
    write_embedder,
)
from detailers.dev.miniature.world import SIDE, base_picture, enlarge
from detailers.tests.fake_backend import make_seg, noise_image


@pytest.fixture
def opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


def trained_a_little():
    """A network whose norms have something to do."""
    torch.manual_seed(0)
    network = PersonNet().train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(8, 3, SIZE, SIZE))
        for norm in network.norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
    return network.eval()


def test_the_file_does_what_the_network_does(opencv, tmp_path):
    network = trained_a_little()
    write_embedder(network, tmp_path / "a.onnx")
    embedder = OnnxEmbedder(tmp_path / "a.onnx")
    pictures = noise_image(3, SIZE, SIZE)
    with torch.no_grad():
        expected = network(pictures.movedim(-1, 1))
    torch.testing.assert_close(embedder.embed(pictures), expected, atol=1e-4, rtol=1e-4)


def test_the_committed_file_is_small_and_says_what_it_takes(opencv):
    assert EMBEDDER.stat().st_size <= 1_000_000
    embedder = OnnxEmbedder(EMBEDDER)
    assert embedder.size == Size(SIZE, SIZE)
    assert (embedder.pixel_format.channels, embedder.pixel_format.values) == ("RGB", "0..1")
    assert embedder.embed(noise_image(2, SIZE, SIZE)).shape == (2, LENGTH)


def test_people_have_numbers():
    cast = draw_cast(1, 8)
    numbers = [person_of(values_of(look)) for look in cast]
    assert len(set(numbers)) == 8
    assert all(0 <= number < PEOPLE for number in numbers)
    assert person_of([0, 0, 0, 0, 1]) == 1
    assert person_of([3, 2, 4, 3, 1]) == PEOPLE - 1


def test_another_day_is_the_same_person():
    random = np.random.default_rng(0)
    for look in draw_cast(2, 6):
        other = another_day(look, random)
        assert same_person(look, other)
        assert look.mouth != other.mouth
        assert look.shirt != other.shirt
        assert not any(getattr(look, name) != getattr(other, name) for name in PERSON)


def test_another_day_draws_in_one_order_in_every_process(monkeypatch):
    """A set of texts has another order in each process, which must not reach what is drawn."""
    sizes = {f"attribute_{number}": number + 2 for number in range(12)}
    phrases = {name: dict.fromkeys(map(str, range(size)), "") for name, size in sizes.items()}
    monkeypatch.setattr("detailers.dev.miniature.cast.PHRASES", phrases)
    drawn = []

    class Random:
        def integers(self, count):
            drawn.append(count)
            return 0

    look = make_dataclass("Look", phrases)(*("0" for _ in phrases))
    assert another_day(look, Random()) == type(look)(*("1" for _ in phrases))
    assert drawn == [size - 1 for size in sizes.values()]


def test_a_gathering_has_each_of_the_cast_once_at_most_and_strangers():
    cast = draw_cast(3, 6)
    strangers = 0
    for seed in range(12):
        found = draw_gathering(seed, cast)
        assert draw_gathering(seed, cast).who == found.who
        known = [number for number in found.who if number is not None]
        assert len(set(known)) == len(known)
        for character, number in zip(found.scene.characters, found.who, strict=True):
            if number is not None:
                assert character.look == cast[number]
                continue
            strangers += 1
            assert not any(same_person(character.look, look) for look in cast)
    assert 8 < strangers < 32


def test_people_of_poor_pictures_get_their_names(opencv):
    """At the quality of a base model's picture, by sharp references of another day."""
    embedder = OnnxEmbedder(EMBEDDER)
    right = []
    for seed in range(4000, 4007):
        cast = draw_cast(seed, 6)
        random = np.random.default_rng(seed)
        pictures = [reference_picture(another_day(look, random), 96) for look in cast]
        persons = Persons(torch.from_numpy(np.stack(pictures)), NAMES[:6], [None] * 6)
        found = draw_gathering(seed, cast)
        poor = enlarge(base_picture(found.scene.picture(), seed), (SIDE, SIDE))
        boxes = [found.scene.box(index) for index in range(len(found.who))]
        segs = ((SIDE, SIDE), [make_seg(box) for box in boxes])
        (_, named), *_ = label_by_person(
            segs, torch.from_numpy(poor)[None], persons, embedder, Naming(0.5, "unknown", 0.2)
        )
        expected = ["unknown" if who is None else NAMES[who] for who in found.who]
        right += [seg.label == name for seg, name in zip(named, expected, strict=True)]
    assert len(right) > 20
    assert np.mean(right) >= 0.95


# The bench


@pytest.fixture(scope="module")
def bench(bench_module):
    return bench_module("people")


def test_names_are_counted_of_known_ones_and_strangers(bench):
    from detailers.core.segs import who

    class Pack:
        pass

    Pack.who = who
    likeness = torch.tensor([[0.9, 0.8], [0.85, 0.2], [0.3, 0.1], [0.6, 0.55]])
    first, second = bench.NAMES[:2]
    scene = bench.Heads([second, first, "unknown", "unknown"], likeness)
    # assigned: B, A, nobody, nobody; each alone: A, A, nobody, A
    assert bench.counted(Pack, [scene], 0.5).cells() == [
        "4", "100.0%", "100.0%", "0.0%", "100.0%",
    ]  # fmt: skip
    assert bench.each_alone([scene], 0.5).cells() == ["4", "50.0%", "50.0%", "0.0%", "50.0%"]
    assert bench.counted(Pack, [scene], 0.95).cells() == ["4", "50.0%", "0.0%", "100.0%", "100.0%"]
