"""The prior of the analytic models, and the denoiser that follows from it.

The prior is Gaussian: pictures vary around the prompt's colour with a known covariance. A picture
seen through noise, x = a * picture + sigma * noise, then has the posterior mean

    mean + a * P / (a² * P + sigma²) * (x - a * mean)

where P is the prior's variance: the same for each value, or per spatial frequency for a smooth
prior (a Wiener filter). That mean is the exact denoiser, so what a sampler makes of it can be
computed by hand: an Euler step from sigma to sigma' multiplies x - mean by k + (1 - k) * sigma' /
sigma with k = P / (P + sigma²), for a = 1.
"""

import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from .families import Family

# Luminance and two colour differences, orthonormal, of red, green and blue.
_OPPONENT = torch.nn.functional.normalize(
    torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]), dim=1
)

# The smooth prior: luminance is free to be what it was and fine in detail, colour is drawn to the
# prompt's and coarse. In pixels per wave: faces stay clean and take the tint at denoise 0.4.
_LUMINANCE_FREEDOM = 6.0
_LUMINANCE_WAVE = 8.0
_COLOUR_WAVE = 48.0


class Prior(torch.nn.Module):
    """The network of an analytic model.

    Its one weight, `tint` [3,3], maps the prompt's colour to the prior's mean; it starts as the
    identity, for LoRAs to change.
    """

    dtype = torch.float32

    def __init__(self, family: Family, std: float):
        super().__init__()
        self.family = family
        self.std = std
        self.tint = identity_layer()

    def mean(self, colour: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The latent that is all of one colour [B,3], with as many axes as `like`."""
        latent = self.family.latent_colour(self.tint(colour)) * self.family.gain
        return latent.view(*latent.shape, *[1] * (like.ndim - 2))

    def forward(
        self, x: torch.Tensor, sigma: torch.Tensor, signal: torch.Tensor, mean: torch.Tensor
    ) -> torch.Tensor:
        """Denoise.

        Args:
            x: [B,C,...] noisy latent, as the model sees it.
            sigma: noise level of each row; it and `signal` broadcast against x.
            signal: the factor `a` with which the clean latent is in x.
            mean: the prior's mean; broadcasts against x.
        """
        difference = x - signal * mean
        if not self.family.smooth:
            return mean + _wiener(difference, self.std**2, sigma, signal)
        ratio = self.family.ratio
        waves = _dct(_to_opponent(pixel_shuffle(difference, ratio)))
        variance = self.wave_variance(*waves.shape[-2:]).to(waves)
        pixels = _from_opponent(_dct(_wiener(waves, variance, sigma, signal), inverse=True))
        return mean + pixel_unshuffle(pixels, ratio)

    def wave_variance(self, height: int, width: int) -> torch.Tensor:
        """Variance [3,H,W] of luminance and the two colour differences at each DCT frequency.

        Falls with the fourth power of the frequency beyond a corner, as that of an image whose
        brightness changes smoothly.
        """
        vertical = torch.arange(height)[:, None] / (2 * height)  # in waves per pixel
        horizontal = torch.arange(width) / (2 * width)
        frequency = vertical**2 + horizontal**2
        std = torch.tensor([_LUMINANCE_FREEDOM, 1.0, 1.0]).view(3, 1, 1) * self.std
        corner = torch.tensor([_LUMINANCE_WAVE, _COLOUR_WAVE, _COLOUR_WAVE]).view(3, 1, 1)
        return (std / (1 + frequency * corner**2)) ** 2


def identity_layer() -> torch.nn.Linear:
    """A [3,3] layer that leaves colours as they are until a LoRA changes it."""
    layer = torch.nn.Linear(3, 3, bias=False)
    layer.weight = torch.nn.Parameter(torch.eye(3), requires_grad=False)
    return layer


def _wiener(difference, variance, sigma, signal):
    return difference * (signal * variance / (signal**2 * variance + sigma**2))


def _to_opponent(pixels: torch.Tensor) -> torch.Tensor:
    return torch.einsum("oc,bchw->bohw", _OPPONENT.to(pixels), pixels)


def _from_opponent(values: torch.Tensor) -> torch.Tensor:
    return torch.einsum("oc,bohw->bchw", _OPPONENT.to(values), values)


def _dct(values: torch.Tensor, inverse: bool = False) -> torch.Tensor:
    """Orthonormal cosine transform over the last two axes: waves that mirror at the border."""
    import scipy.fft

    transform = scipy.fft.idctn if inverse else scipy.fft.dctn
    result = transform(values.cpu().numpy(), axes=(-2, -1), norm="ortho")
    return torch.from_numpy(result).to(values)
