"""Pictures of the page: many images on one sheet."""

from __future__ import annotations

import numpy as np

from medgraft.report.pictures import sheet


def test_a_sheet_is_no_larger_than_its_images_need():
    wide, high = np.full((20, 60), 9, np.uint8), np.full((60, 30, 3), 7, np.uint8)
    assert sheet([wide] * 5, columns=3, cell=120, gap=6).shape == (2 * 40 + 6, 3 * 120 + 2 * 6, 3)
    both = sheet([wide, high], columns=8, cell=120, gap=6)
    assert both.shape == (120, 2 * 120 + 6, 3)
    ends = both[60, [2, 118, 126 + 32, 126 + 88]]
    np.testing.assert_array_equal(ends[:, 0], [9, 9, 7, 7])
    assert both[2, 60].tolist() == [255, 255, 255]  # the wide image lies in the middle of its cell
