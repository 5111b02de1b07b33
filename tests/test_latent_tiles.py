"""Tiles of a latent: they cover it, have one size, and are joined without seams."""

import pytest
import torch
from detailers.core.geometry import Size
from detailers.core.sampling.latent_tiles import STRATEGIES, cut, stitched
from hypothesis import given, settings
from hypothesis import strategies as st

sides = st.integers(1, 60)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(sides, sides, st.integers(1, 40), st.integers(1, 40), st.sampled_from(STRATEGIES))
def test_tiles_of_one_size_cover_the_latent(width, height, across, down, strategy):
    tiles = cut(Size(width, height), Size(across, down), strategy, seeded())
    shares = torch.zeros(height, width)
    for tile in tiles:
        box = tile.box
        assert box.size == (min(width, across), min(height, down))
        assert box.x1 >= 0 and box.x2 <= width and box.y1 >= 0 and box.y2 <= height
        assert tile.weight.shape == (box.height, box.width)
        shares[box.y1 : box.y2, box.x1 : box.x2] += tile.weight
    assert shares.min() > 0
    if strategy != "padded":
        assert torch.equal(shares, torch.ones_like(shares))


def test_the_grid_of_each_strategy():
    def lefts(strategy, seed=0):
        tiles = cut(Size(20, 4), Size(8, 8), strategy, seeded(seed))
        return [tile.box.x1 for tile in tiles]

    assert lefts("simple") == [0, 8, 12]
    assert lefts("padded") == [0, 6, 12]
    assert len({tuple(lefts("random", seed)) for seed in range(20)}) > 1
    assert lefts("random", 3) == lefts("random", 3)


def test_padded_tiles_fade_into_one_another():
    first, last = cut(Size(14, 1), Size(8, 8), "padded", seeded())
    assert first.weight[0].tolist() == [1, 1, 1, 1, 1, 1, 0.75, 0.25]
    assert last.weight[0].tolist() == [0.25, 0.75, 1, 1, 1, 1, 1, 1]


def test_an_unknown_strategy_is_told():
    with pytest.raises(ValueError, match=r"'tiling_strategy' is 'spiral'.*random, padded, simple"):
        cut(Size(8, 8), Size(4, 4), "spiral", seeded())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("shape", [(2, 3, 9, 17), (1, 2, 3, 9, 17)])
def test_work_on_each_value_alone_is_the_same_in_tiles(strategy, shape):
    x = torch.randn(shape, generator=seeded())
    tiles = cut(Size(17, 9), Size(7, 5), strategy, seeded())
    result = stitched(x, tiles, lambda parts: [part**2 + 1 for part in parts])
    torch.testing.assert_close(result, x**2 + 1)
