"""Every animal of the zoo is read right, or refused with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zoo
from zoo_case import Case

from medgraft.errors import BadImage
from medgraft.files import content_key, network_pixels, read_image, read_pixels
from medgraft.values import ImageRef


def _ref(case: Case, path: Path) -> ImageRef:
    if case.series:
        return ImageRef(path, files=tuple(sorted(p for p in path.iterdir() if p.is_file())))
    return ImageRef(path, index=case.index)


@pytest.mark.parametrize("case", zoo.CASES, ids=str)
def test_zoo(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    case.make(path)
    ref = _ref(case, path)
    if case.pixels is None:
        with pytest.raises(BadImage) as caught:
            read_image(ref, **case.options)
        assert case.refused in str(caught.value), str(caught.value)
        assert caught.value.where, "a refusal says where"
        assert "\n" not in str(caught.value)
        return
    image = read_image(ref, **case.options)
    assert image.pixels.shape == case.pixels.shape
    assert image.pixels.dtype == np.float32
    assert np.isfinite(image.pixels).all()
    assert np.abs(image.pixels.astype(np.float64) - case.pixels).max() <= case.within, image.notes
    assert case.note in " | ".join(image.notes)
    if case.range is not None:
        assert image.range == pytest.approx(case.range)
    assert image.range[1] > image.range[0]
    assert len(content_key(image)) == 32
    if image.pixels.ndim == 3 and not case.options and not case.series:
        direct = read_pixels(ref, size=(9, 11), channels=3)
        assert np.array_equal(direct, network_pixels(image, size=(9, 11), channels=3))


def test_zoo_is_big() -> None:
    assert len(zoo.CASES) >= 120
    assert len({(c.name, c.index, str(c.options), c.within) for c in zoo.CASES}) == len(zoo.CASES)
