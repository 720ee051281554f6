"""The best that lines can say of a noisy image: images as one Gaussian, whose mean and main directions are measured."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_LEAST = 1e-6  # variance of a direction, of pixels in -1..1
_MOST_WAYS, _MOST_LOOKS = 128, 1024
_WAYS_KEPT, _LOOKS_KEPT = 2**23, 2**27  # numbers of all directions, in the file of a model; of all images in memory


def directions_of(numbers: int, images: int) -> int:
    """Get how many directions are measured of images of so many numbers: few images do not tell of many.

    Example:
        >>> directions_of(64 * 64, 400), directions_of(64 * 64, 9000), directions_of(256 * 256 * 3, 9000)
        (100, 128, 42)
    """
    return max(1, min(_MOST_WAYS, images // 4, _WAYS_KEPT // numbers))


def looked_at(numbers: int) -> int:
    """Get how many images of so many numbers are looked at, at most."""
    return max(2, min(_MOST_LOOKS, _LOOKS_KEPT // numbers))


class Gaussian(nn.Module):
    """A Gaussian of images, and the v that it foresees: what a net then learns is the rest.

    The variances along its main directions are measured; along all others one mean variance is taken. At much noise
    nearly all that can be known of an image is known so, and there a net would need thousands of steps to learn it.

    Args:
        numbers: of an image, or of its latent.
        directions: how many are kept.

    Attributes:
        mean: `(numbers,)`.
        ways: `(numbers, directions)` of length 1, at right angles to each other.
        variances: `(directions,)`, the largest first.
        rest: the mean variance along each other direction.

    Source: the Wiener filter; that diffusion is nearly linear at much noise: Wang and Vastola, arXiv:2311.10892.
    """

    mean: Tensor
    ways: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, numbers: int, directions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("ways", torch.zeros(numbers, directions))
        self.register_buffer("variances", torch.ones(directions))
        self.register_buffer("rest", torch.ones(()))

    @torch.no_grad()
    def learn(self, batches: Iterable[Tensor], *, most: int) -> int:
        """Measure images, and get how many were looked at.

        Args:
            batches: `(N, ...)` each.
            most: images that are looked at.

        Raises:
            ValueError: there are fewer than two.
        """
        rows: list[Tensor] = []
        count = 0
        for batch in batches:
            rows.append(batch.detach().flatten(1).cpu().float()[: most - count])
            count += len(rows[-1])
            if count >= most:
                break
        if count < 2:
            raise ValueError(f"{count} images have no variance")
        flat = torch.cat(rows)
        mean = flat.mean(dim=0)
        flat -= mean
        # Of fewer images than numbers the products of images tell the directions, at a fraction of the cost.
        found, mixed = torch.linalg.eigh((flat @ flat.T).double() / count)
        kept = min(self.ways.shape[1], count - 1)
        variances, mixed = found.flip(0)[:kept].float(), mixed.flip(1)[:, :kept].float()
        ways = flat.T @ mixed
        ways /= ways.norm(dim=0).clamp_min(1e-12)
        total = flat.square().sum() / count
        left = max(1, flat.shape[1] - kept)
        self.mean.copy_(mean)
        self.ways.zero_()[:, :kept] = ways.to(self.ways)
        self.rest.copy_(((total - variances.sum()) / left).clamp_min(_LEAST))
        self.variances.copy_(self.rest)
        self.variances[:kept] = variances.clamp_min(_LEAST).to(self.variances)
        return count

    def v(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Get the expected v of noisy images, float32 in their shape.

        Args:
            x_t: `(N, ...)`.
            alpha: `(N, 1, ...)` what is left of the image.
            sigma: the same of the noise.
        """
        with torch.autocast(x_t.device.type, enabled=False):
            a, s = alpha.reshape(-1, 1).float(), sigma.reshape(-1, 1).float()
            off = x_t.float().flatten(1) - a * self.mean
            share, plain = (a * s * (1 - one) / (a * a * one + s * s) for one in (self.variances, self.rest))
            said = plain * off - s * self.mean + ((share - plain) * (off @ self.ways)) @ self.ways.T
        return said.view(x_t.shape)
