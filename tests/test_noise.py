"""The noise of clips, which depends on the seed and on each frame's place."""

import torch
from detailers.core.noise import noise_of_places, place_seeds, start_noise, variant_seed
from detailers.utils.seeds import MAX_SEED


def test_parts_of_a_clip_have_the_same_noise_in_the_frames_that_they_share():
    rows = torch.zeros(6, 4, 3, 5)
    first, second = noise_of_places(rows, 7, range(6)), noise_of_places(rows, 7, range(4, 10))
    assert torch.equal(first[4:], second[:2])
    assert first.shape == rows.shape and first.dtype == torch.float32
    assert abs(first.mean()) < 0.2 and abs(first.std() - 1) < 0.1
    assert not torch.equal(first[0], first[1])


def test_so_have_the_latent_steps_of_video_models():
    clip = torch.zeros(1, 4, 3, 3, 5)
    first, second = noise_of_places(clip, 7, [0, 4, 8]), noise_of_places(clip, 7, [4, 8, 12])
    assert torch.equal(first[:, :, 1:], second[:, :, :2])
    frame = noise_of_places(torch.zeros(1, 4, 3, 5), 7, [4])
    assert torch.equal(first[:, :, 1], frame)


def test_the_first_place_has_the_noise_of_a_picture():
    picture = torch.zeros(1, 4, 3, 5)
    assert torch.equal(noise_of_places(picture, 7, [0]), start_noise(picture, 7))


def test_no_place_has_the_seed_of_another_run():
    seeds = place_seeds(2**63, range(5000))
    assert seeds[0] == 2**63 and all(0 <= seed <= MAX_SEED for seed in seeds)
    assert len(set(seeds)) == 5000
    near = {variant_seed(2**63, variant) + run for variant in range(16) for run in range(300)}
    assert near & set(seeds) == {2**63}


def test_other_streams_have_their_usual_noise():
    class Streams:
        is_nested = True

        def __init__(self, parts):
            self.parts = parts

        def unbind(self):
            return self.parts

    latent = Streams([torch.zeros(1, 4, 2, 3, 5), torch.zeros(1, 8, 6)])
    noise = noise_of_places(latent, 7, [0, 8]).unbind()
    assert torch.equal(noise[0], noise_of_places(latent.unbind()[0], 7, [0, 8]))
    assert torch.equal(noise[1], start_noise(latent, 7).unbind()[1])
