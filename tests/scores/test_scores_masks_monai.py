"""Scores of masks beside MONAI's: the same numbers, but for sizes of twisted pieces of surfaces in volumes.

There MONAI gives an element of the surface Dice the area of its triangles, here it has that of their vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn_masks import ball
from scipy import ndimage

from medgraft.scores.mask_cases import mask_scores
from medgraft.scores.surfaces import border_gaps, hd, nsd

pytestmark = pytest.mark.slow  # MONAI takes seconds to import


@pytest.fixture(scope="module")
def monai() -> Any:
    return pytest.importorskip("monai.metrics")


def tensor(mask: np.ndarray) -> Any:
    torch = pytest.importorskip("torch")
    return torch.as_tensor(mask[None, None].astype(np.float32))


def pairs(axes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Blobs of every form beside rougher and shifted ones; nothing touches the border, which MONAI crops."""
    random, shape, found = np.random.default_rng(axes), (44, 40, 36)[:axes], []
    inside = np.zeros(shape, dtype=bool)
    inside[(slice(3, -3),) * axes] = True
    for blur in (1.0, 2.0, 3.0):
        field = ndimage.gaussian_filter(random.normal(size=shape), blur)
        other = field + 0.4 * field.std() * ndimage.gaussian_filter(random.normal(size=shape), blur) / field.std()
        found.append(((field > field.std()) & inside, (other > other.std()) & inside))
    middle = tuple(side / 2 for side in shape)
    found.append((ball(shape, middle, 13), ball(shape, [at + 2 for at in middle], 12)))
    return found


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 0.6)])
@pytest.mark.parametrize("axes", [2, 3])
def test_scores_agree_with_monais(monai: Any, axes: int, spacing: tuple[float, ...]):
    steps = spacing[:axes]
    for truth, found in pairs(axes):
        got = mask_scores(truth * 1, found * 1, classes=("a",), spacing_mm=steps, tolerance=1.0)
        pair = {"y_pred": tensor(found), "y": tensor(truth), "include_background": True}
        assert got["dice"][0] == pytest.approx(float(monai.compute_dice(**pair)), abs=1e-6)
        for tolerance in (0.0, 0.7, 1.0, 2.5):
            theirs = monai.compute_surface_dice(
                **pair, class_thresholds=[tolerance], spacing=list(steps), use_subvoxels=True
            )
            ours = nsd(truth, found, spacing=steps, tolerance=tolerance)
            assert ours == pytest.approx(float(theirs), abs=1e-5 if axes == 2 else 0.02), tolerance
        words = {**pair, "spacing": list(steps)}
        far, near = (float(monai.compute_hausdorff_distance(**words, percentile=share)) for share in (None, 95))
        mean = float(monai.compute_average_surface_distance(**words, symmetric=True))
        got_far = hd(border_gaps(truth, found, spacing=steps))
        assert [got_far, got["hd95"][0], got["assd"][0]] == pytest.approx([far, near, mean], rel=1e-5)
