"""Label maps as large as slides: strips of any height become tiles, lossless, with their resolution."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medgraft.files import open_slide
from medgraft.files.label_tiff import write_label_tiff


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 700), st.integers(1, 600), st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_what_is_written_in_strips_comes_back_whole(tmp_path, width, height, heights):
    labels = np.random.default_rng(width).integers(0, 5, (height, width)).astype(np.uint8)
    edges = np.clip(np.concatenate([[0], np.cumsum(heights), [height]]), 0, height)
    strips = [labels[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True) if b > a]
    write_label_tiff(tmp_path / "map.tif", strips, size=(width, height), um_per_px=0.5, note="1 tumour")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "map.tif"), labels)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_large_numbers_have_the_bits_that_they_need_and_never_wrap(tmp_path, kind):
    labels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (300, 400)).astype(kind)
    write_label_tiff(tmp_path / "map.tif", [labels[:77], labels[77:]], size=(400, 300), kind=kind)
    found = tifffile.imread(tmp_path / "map.tif")
    assert found.dtype == kind
    np.testing.assert_array_equal(found, labels)
    with pytest.raises(ValueError, match="do not fit a label map of uint8"):
        write_label_tiff(tmp_path / "other.tif", [labels], size=(400, 300))
    assert not (tmp_path / "other.tif").exists()


def test_the_resolution_is_that_of_the_net(tmp_path):
    write_label_tiff(tmp_path / "map.tif", [np.zeros((300, 400), np.uint8)], size=(400, 300), um_per_px=2.0)
    with open_slide(tmp_path / "map.tif") as slide:
        assert slide.um_per_px == pytest.approx(2.0) and slide.size == (400, 300)


@pytest.mark.parametrize("heights", [(10,), (20, 20)])
def test_strips_that_do_not_fill_it_leave_no_file(tmp_path, heights):
    strips = [np.zeros((height, 50), np.uint8) for height in heights]
    with pytest.raises(ValueError, match=r"rows|fit"):
        write_label_tiff(tmp_path / "map.tif", strips, size=(50, 30))
    assert list(tmp_path.iterdir()) == []
