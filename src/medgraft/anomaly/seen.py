"""Images looked at: a score each, and a map of how odd each place is, in the network's pixels and in the file's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from medgraft.files import way_back
from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.learn.model import Pixels
from medgraft.samples.loader import normalised
from medgraft.tasks.anomaly import Anomaly
from medgraft.values import Batch

_BLUR = 1 / 32  # of the side: findings are larger than the flaws that Roth et al. 2022 look for with 1 / 56
_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of one image.

    Attributes:
        score: how unlike normal images it is.
        map: `(H, W)` float32 in network pixels, how odd each place is; 0 beside the image.
        shape: (H, W) of the file.
    """

    score: float
    map: np.ndarray
    shape: tuple[int, int]

    def in_file(self, shape: Sequence[int], pixels: Pixels) -> np.ndarray:
        """Get the map in the pixels of a file of `shape` (H, W), float32."""
        return way_back(self.map, size=(int(shape[-2]), int(shape[-1])), fit=pixels.fit)


def seen_of(
    task: Anomaly, engine: Engine, rows: np.ndarray, area: np.ndarray, *, shapes: Sequence[Sequence[int]]
) -> list[Seen]:
    """Look at images.

    Args:
        task: in eval mode, on its device.
        engine: device and precision.
        rows: `(N, C, H, W)` uint8 or uint16 network pixels.
        area: `(N, 1, H, W)` float32, 1 where pixels belong to the image.
        shapes: of the files, each ends with H and W.
    """
    sizes = [(int(shape[-2]), int(shape[-1])) for shape in shapes]
    found: list[Seen] = []
    for start in range(0, len(rows), _AT_ONCE):
        stopping.check()
        some = slice(start, start + _AT_ONCE)
        pixels = normalised(rows[some], task.spec)
        batch = engine.move(Batch(pixels, keys=("",) * len(pixels)))
        inside = torch.from_numpy(area[some]).to(engine.device)
        with torch.inference_mode(), engine.autocast():
            odd, _, scores = task.unlike(batch, inside)
        maps = smoothed(odd.float(), inside).cpu().numpy()
        own = zip(scores.double().cpu(), maps, sizes[some], strict=True)
        found += [Seen(float(score), one, size) for score, one, size in own]
    return found


def smoothed(odd: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
    """Get maps `(N, h, w)` in network pixels `(N, H, W)`, blurred; what lies beside the image takes no part."""
    size = area.shape[-2:]
    whole = odd[:, None]
    cells = F.adaptive_avg_pool2d(area, (whole.shape[-2], whole.shape[-1]))
    # Cells beside the image are 0 and would pull down those at its edge, were they not left out of the mean.
    whole, cells = (_grown(one, size) for one in (whole * (cells > 0), (cells > 0).to(whole)))
    whole = torch.where(cells > 0, whole / cells.clamp_min(1e-6), torch.zeros_like(whole)) * area
    blurred, share = (_blurred(one, sigma=_BLUR * size[-1]) for one in (whole, area))
    return (blurred / share.clamp_min(1e-6) * area)[:, 0]


def _grown(values: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return F.interpolate(values, size=tuple(size), mode="bilinear", align_corners=False)


def _blurred(values: torch.Tensor, *, sigma: float) -> torch.Tensor:
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    flat = F.conv2d(values, kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(reach, 0))


def pieces(count: int, each: int = _AT_ONCE) -> Iterator[slice]:
    """Yield the parts in which so many images are looked at."""
    for start in range(0, count, each):
        yield slice(start, min(start + each, count))
