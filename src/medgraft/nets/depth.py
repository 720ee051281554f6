"""How a net made for pictures acts along the third axis: where it reaches, where it strides, with what weights.

A net halves the picture several times. At each halving the depth is halved
too, or is left alone where slices lie so far apart that their voxels are not
yet as coarse in the plane as along depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from medgraft.errors import BadRecipe

WINDOWS = ("spread", "binomial", "centre")
_WITHIN = 2.0  # nnU-Net's factor: an axis joins in once its spacing is below so many times the finest


@dataclass(frozen=True)
class DepthPlan:
    """What happens along depth at each halving of the picture.

    Attributes:
        strides: 1 or 2 for each halving: slices for one slice after it.
        reach_from: halvings before kernels reach from slice to slice; before, they stay inside their slice.
    """

    strides: tuple[int, ...]
    reach_from: int = 0

    def at(self, scale: int) -> Site:
        """Get what a module may do whose picture was halved `scale` times before it."""
        return Site(self.strides[scale:], scale >= self.reach_from)


@dataclass(frozen=True)
class Site:
    """What one module may do along depth.

    Attributes:
        strides: 1 or 2 for each halving of the picture that is still to come.
        reach: True where its kernel may reach into neighbouring slices.
    """

    strides: tuple[int, ...]
    reach: bool

    def stride(self, in_plane: int) -> int:
        """Get the stride along depth of a module with a stride in the plane."""
        if in_plane == 1:
            return 1
        share = self.strides[: max(1, round(math.log2(in_plane)))]
        return in_plane if share and min(share) > 1 else math.prod(share)

    def extent(self, in_plane: int) -> int:
        """Get the size of a kernel along depth for its size in the plane."""
        return in_plane if self.reach else 1


def plan_depth(
    halvings: int, *, spacing_mm: Sequence[float] | None = None, depth_stride: Sequence[int] | None = None
) -> DepthPlan:
    """Decide where a net reaches and strides along depth.

    Args:
        halvings: how often the net halves the picture.
        spacing_mm: (D, H, W) of the voxels it will see. Depth is halved, and kernels reach along it, once
            its spacing is less than twice the finest; None takes the voxels for cubes.
        depth_stride: 1 or 2 for each halving, said by hand; kernels then reach along depth everywhere.

    Raises:
        BadRecipe: both were given, or one has wrong numbers.

    Source: Isensee et al., "nnU-Net", Nature Methods 2021, arXiv:1904.08128, the rule for anisotropic data.

    Example:
        >>> plan_depth(5, spacing_mm=(5.0, 1.0, 1.0))
        DepthPlan(strides=(1, 1, 2, 2, 2), reach_from=2)
    """
    if depth_stride is not None:
        if spacing_mm is not None:
            raise BadRecipe("both spacing_mm and depth_stride were given", do="Give one of them.")
        strides = tuple(depth_stride)
        if len(strides) != halvings or not set(strides) <= {1, 2}:
            raise BadRecipe(
                f"depth_stride {strides} does not fit a net that halves the picture {halvings} times",
                do=f"Give {halvings} numbers, each 1 or 2.",
            )
        return DepthPlan(strides)
    if spacing_mm is None:
        return DepthPlan((2,) * halvings)
    if len(spacing_mm) != 3 or not all(math.isfinite(side) and side > 0 for side in spacing_mm):
        raise BadRecipe(f"{tuple(spacing_mm)} is no spacing of a volume", do="Give three millimetres: (D, H, W).")
    depth, plane = float(spacing_mm[0]), float(min(spacing_mm[1:]))
    factors: list[int] = []
    reach_from = halvings + 1
    for scale in range(halvings + 1):
        near = depth < _WITHIN * min(depth, plane)
        reach_from = min(reach_from, scale) if near else reach_from
        # The picture is halved whatever the spacing: its weights were made so.
        factors.append(2 if near else 1)
        depth, plane = depth * factors[-1], plane * 2
    return DepthPlan(tuple(factors[:halvings]), reach_from)


def window(how: str, extent: int) -> torch.Tensor:
    """Get the shares of a 2-D kernel in the slices of its volume, float32 of shape (extent,); they sum to 1.

    Args:
        how: "spread" gives every slice the same, "binomial" more to the middle, "centre" all to the middle
            (to the two middle ones of an even number).
        extent: slices.

    Raises:
        BadRecipe: there is no such way.

    Source: Carreira, Zisserman, "Quo vadis, action recognition?", CVPR 2017, arXiv:1705.07750 ("spread");
        Girdhar et al., "Detect-and-track", CVPR 2018, arXiv:1712.09184 ("centre").

    Example:
        >>> window("binomial", 3)
        tensor([0.2500, 0.5000, 0.2500])
    """
    if how not in WINDOWS:
        raise BadRecipe(f"there is no way to inflate named {how!r}", do=f"Known: {', '.join(WINDOWS)}.")
    if how == "spread":
        return torch.full((extent,), 1.0 / extent)
    if how == "binomial":
        return torch.tensor([math.comb(extent - 1, k) for k in range(extent)]) / 2.0 ** (extent - 1)
    shares = torch.zeros(extent)
    middle = slice((extent - 1) // 2, extent // 2 + 1)
    shares[middle] = 1.0 / len(shares[middle])
    return shares


def depth_padding(slices: int, *, extent: int, stride: int, dilation: int, front: int | None) -> tuple[int, int]:
    """Get the slices to add before and after, so that ceil(slices / stride) come out.

    Args:
        slices: D.
        extent: of the kernel along depth.
        stride: along depth.
        dilation: along depth.
        front: padding of the picture, so that depth is sampled at the same places; None splits evenly.
    """
    wanted = (math.ceil(slices / stride) - 1) * stride + dilation * (extent - 1) + 1
    total = max(wanted - slices, 0)
    before = total // 2 if front is None else min(max(front, total // 2), total)
    return before, total - before


def pad_depth(x: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """Repeat the first and the last slice of `(N, C, D, H, W)`.

    Zeros would darken the ends, where there is no border of the body but only the end of the scan.
    """
    if not before and not after:
        return x
    # A copy by cat: its gradient is the same on every run, which that of torch's own padding is not on a GPU.
    first = x[:, :, :1].expand(-1, -1, before, -1, -1)
    last = x[:, :, -1:].expand(-1, -1, after, -1, -1)
    return torch.cat([first, x, last], dim=2)
