"""The way back: what lies at a place of the network's picture lies at the same place of the file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.files import network_pixels, way_back
from medgraft.values import Image


def picture(height: int, width: int, row: int, column: int) -> Image:
    pixels = np.zeros((1, height, width), np.float32)
    pixels[0, max(row - 6, 0) : row + 7, max(column - 6, 0) : column + 7] = 255
    return Image(pixels, source="drawn", range=(0.0, 255.0), bits=8)


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(60, 200), st.integers(60, 200)),
    size=st.tuples(st.sampled_from([64, 96]), st.sampled_from([64, 96])),
    place=st.tuples(st.floats(0.42, 0.58), st.floats(0.42, 0.58)),
)
def test_a_spot_comes_back_to_where_it_was(fit: str, sides: tuple, size: tuple, place: tuple) -> None:
    height, width = sides
    row, column = round(place[0] * height), round(place[1] * width)
    image = picture(height, width, row, column)
    small = network_pixels(image, size=size, channels=1, fit=fit)[0].astype(np.float32) / 255
    back = way_back(small, height=height, width=width, fit=fit)
    assert back.shape == (height, width)
    if back.max() < 0.5:
        return  # cropped away
    weight = np.where(back > 0.5, back, 0)
    found = (np.indices(back.shape) * weight).sum(axis=(1, 2)) / weight.sum()
    assert abs(found[0] - row) < 3.5 and abs(found[1] - column) < 3.5


def test_what_the_crop_cut_away_has_no_value() -> None:
    back = way_back(np.ones((64, 64), np.float32), height=64, width=128, fit="crop")
    assert back[:, :30].max() == 0 and back[:, 98:].max() == 0 and back[:, 34:94].min() == 1
