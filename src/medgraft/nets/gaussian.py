"""The best that lines can say of a noisy image: images as one Gaussian, which is measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST = 1e-6  # variance of a direction, of pixels in -1..1
_TRUE = 1e-6  # of the widest direction's variance
_FEWEST = 4  # images, two of which give directions and two variances
_MOST_WAYS, _MOST_LOOKS = 64, 1024
_WAYS_KEPT, _LOOKS_KEPT = 2**23, 2**27  # numbers of all directions, in the file of a model; of all images in memory


def directions_of(numbers: int, images: int) -> int:
    """Get how many directions are measured of images of so many numbers: few images do not tell of many.

    Example:
        >>> directions_of(64 * 64, 256), directions_of(64 * 64, 9000), directions_of(256 * 256 * 3, 9000)
        (64, 64, 42)
    """
    return max(1, min(_MOST_WAYS, images // 4, _WAYS_KEPT // numbers))


def looked_at(numbers: int) -> int:
    """Get how many images of so many numbers are looked at, at most."""
    return max(_FEWEST, min(_MOST_LOOKS, _LOOKS_KEPT // numbers))


class Gaussian(nn.Module):
    """A Gaussian of images, and the v that it foresees: what a net then learns is the rest.

    The variances along its main directions are measured one by one; of what is left, the variance of each spatial
    frequency, as if it were alike all over the image. At much noise nearly all that can be known of an image is known
    so, and a net would need thousands of steps to learn it.

    Directions come from the images, but variances along them from other images than the directions, as those along the
    directions of some images are too large for any others.

    Args:
        shape: `(C, [D,] H, W)` of an image, or of its latent.
        directions: how many are kept.

    Attributes:
        mean: in the shape of an image.
        ways: `(numbers, directions)` of length 1, at right angles to each other.
        variances: `(directions,)`.
        spectrum: variance of what is left by frequency, `(C, [D,] H, W // 2 + 1)`.

    Source: the Wiener filter; that diffusion is nearly linear at much noise: Wang and Vastola, arXiv:2311.10892.
    """

    mean: Tensor
    ways: Tensor
    variances: Tensor
    spectrum: Tensor

    def __init__(self, shape: Sequence[int], directions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("ways", torch.zeros(math.prod(shape), directions))
        self.register_buffer("variances", torch.ones(directions))
        self.register_buffer("spectrum", torch.ones((*shape[:-1], shape[-1] // 2 + 1)))

    @property
    def known(self) -> bool:
        """Tell whether it was measured."""
        return bool(self.ways.any())

    def measured(self, batches: Iterable[Tensor]) -> int:
        """Measure as many images as memory has room for, as `learn` does."""
        return self.learn(batches, most=looked_at(self.mean.numel()))

    def grained(self, noise: Tensor) -> Tensor:
        """Get noise `(N, 1 or C, [D,] H, W)` with the frequencies of what no direction tells, `(N, C, [D,] H, W)`."""
        waves = self.spectrum.sqrt() * self._waves(noise.float())
        return torch.fft.irfftn(waves, s=noise.shape[2:], dim=self._axes, norm="ortho")

    @torch.no_grad()
    def learn(self, batches: Iterable[Tensor], *, most: int) -> int:
        """Measure images, and get how many were looked at; of fewer than four it learns nothing, and foresees none.

        Args:
            batches: `(N, C, [D,] H, W)` each.
            most: images that are looked at.
        """
        rows: list[Tensor] = []
        count = 0
        for batch in batches:
            rows.append(batch.detach().flatten(1).cpu().float()[: most - count])
            count += len(rows[-1])
            if count >= most:
                break
        if count < _FEWEST:
            return count
        flat = torch.cat(rows)
        self.mean.copy_(flat.mean(dim=0).view(self.mean.shape))
        flat -= flat.mean(dim=0)
        self.ways.zero_()
        ways = _directions(flat, self.ways.shape[1])
        self.ways[:, : ways.shape[1]] = ways.to(self.ways)
        variances, spectra = [], []
        for some, others in ((flat[::2], flat[1::2]), (flat[1::2], flat[::2])):
            theirs = _directions(some, self.ways.shape[1])
            along = others @ theirs
            variances.append(F.pad(along.square().mean(dim=0), (0, self.ways.shape[1] - theirs.shape[1])))
            left = (others - along @ theirs.T).view(-1, *self.mean.shape)
            spectra.append(self._waves(left).abs().square().mean(dim=0))
        self.variances.copy_(((variances[0] + variances[1]) / 2).clamp_min(_LEAST))
        self.spectrum.copy_(((spectra[0] + spectra[1]) / 2).clamp_min(_LEAST))
        return count

    def v(self, x_t: Tensor, *, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Get the expected v of noisy images, float32 in their shape.

        Args:
            x_t: `(N, C, [D,] H, W)`.
            alpha: `(N, 1, ...)` what is left of the image.
            sigma: the same of the noise.
        """
        with torch.autocast(x_t.device.type, enabled=False):
            a, s = alpha.float(), sigma.float()
            off = x_t.float() - a * self.mean
            along = off.flatten(1) @ self.ways
            left = off - (along @ self.ways.T).view(off.shape)
            share = _share(self.variances, a.view(-1, 1), s.view(-1, 1))
            said = ((share * along) @ self.ways.T).view(off.shape) - s * self.mean
            waves = _share(self.spectrum, a, s) * self._waves(left)
            return said + torch.fft.irfftn(waves, s=off.shape[2:], dim=self._axes, norm="ortho")

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(2, self.mean.ndim + 1))

    def _waves(self, images: Tensor) -> Tensor:
        return torch.fft.rfftn(images, dim=self._axes, norm="ortho")


def _share(variance: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Get what v is expected to be, as a share of how far a noisy image is off, along a direction of such variance."""
    return alpha * sigma * (1 - variance) / (alpha**2 * variance + sigma**2)


def _directions(rows: Tensor, most: int) -> Tensor:
    """Get the main directions `(numbers, k)` of rows about their mean, the widest first, at most as many as they have.

    Of fewer rows than numbers the products of rows tell the directions, at a fraction of the cost.
    """
    own = rows - rows.mean(dim=0)
    found, mixed = torch.linalg.eigh((own @ own.T).double())
    # What has no variance to speak of is rounding, and at no right angle to anything.
    kept = min(most, int((found > _TRUE * found[-1].clamp_min(_LEAST)).sum()))
    ways = own.T @ mixed.flip(1)[:, :kept].float()
    return ways / ways.norm(dim=0)
