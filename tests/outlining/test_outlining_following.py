"""Where following through a volume ends, what is said of it, and of points that it never comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from bright import Bright
from scipy import ndimage

import medgraft as mg

SHAPE = (20, 40, 48)
MIDDLE = (24, 20, 10)


class Stuck(Bright):
    """Draws what it is shown by a box, whatever the picture holds, and a rim of `wider` pixels more."""

    def __init__(self, wider: int = 0) -> None:
        super().__init__((0.5, 0.9, 0.4))
        self.wider = wider

    def _candidates(self, gray: np.ndarray, prompt: Any) -> np.ndarray:
        x0, y0, x1, y1 = (int(v) for v in prompt.boxes[0])
        mask = np.zeros(gray.shape, bool)
        mask[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = True  # the rim that the next slice may reach
        if self.wider:
            mask = ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=self.wider)
        return np.stack([mask] * 3)


def column(first: int, last: int, *, noise: float = 0) -> np.ndarray:
    """A bright column through the slices from `first` to `last`."""
    solid = np.random.default_rng(0).normal(0, noise, SHAPE) if noise else np.zeros(SHAPE)
    solid[first : last + 1, 12:28, 16:32] += 200
    return solid


def outlined(folder: Path, solid: np.ndarray, **words: Any) -> tuple[dict[str, Any], list[str]]:
    """The row of the only structure, and what was said."""
    said: list[str] = []
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    nibabel.Nifti1Image(solid.astype(np.int16).T, affine).to_filename(folder / "scan.nii.gz")
    listen = lambda event: said.append(event["text"]) if event["event"] == "warning" else None  # noqa: E731
    (row,) = mg.outline(folder / "scan.nii.gz", listen=listen, **words).rows
    return row, said


BOX = (14, 10, 34, 30)


@pytest.mark.parametrize("noise", [0, 20])
def test_it_ends_where_the_gray_levels_are_those_of_something_else(tmp_path, noise):
    words = {"box": BOX, "points": [MIDDLE], "backbone": Stuck()}
    row, said = outlined(tmp_path, column(7, 13, noise=noise), **words)
    assert row["slices"] == 7 and row["ends"] == "the gray levels are others; the gray levels are others"
    assert not said


def test_noise_and_a_slow_drift_of_brightness_end_nothing(tmp_path):
    solid = (column(0, 19, noise=15) + 100) * np.linspace(0.9, 1.1, SHAPE[0])[:, None, None]
    row, said = outlined(tmp_path, solid, box=BOX, points=[MIDDLE], backbone=Stuck())
    assert row["slices"] == SHAPE[0]
    assert said == ["structure 1 goes to the end of the volume (slices 0 to 19): look at it"]


def test_a_volume_of_one_value_is_followed_to_its_ends_which_is_said(tmp_path):
    row, said = outlined(tmp_path, np.full(SHAPE, 7), box=BOX, points=[MIDDLE], backbone=Stuck())
    assert row["slices"] == SHAPE[0] and any("end of the volume" in text for text in said)


def test_it_ends_where_the_area_runs_away_a_little_on_each_slice(tmp_path):
    row, said = outlined(tmp_path, np.full(SHAPE, 7), box=(20, 16, 30, 26), points=[MIDDLE], backbone=Stuck(1))
    assert "the area ran away" in row["ends"] and row["slices"] < 10
    assert not said


def test_a_point_that_following_never_comes_to_is_named(tmp_path):
    points = [MIDDLE, (24, 20, 9), (24, 20, 17), (25, 21, 18, 0)]
    row, said = outlined(tmp_path, column(7, 13), points=points, backbone=Bright())
    assert row["slices"] == 7
    assert said == ["points on slices 17, 18 (axis axial) were not used: no structure was followed to where they are"]


def test_a_box_may_have_points_alone_that_are_not_in_the_structure(tmp_path):
    model = Bright()
    row, _ = outlined(tmp_path, column(7, 13), box=(10, 6, 38, 34), points=[(11, 7, 9, 0)], backbone=model)
    assert row["slice"] == 9 and row["slices"] == 7
    assert model.asked[0].points.tolist() == [[11, 7, 0]]
