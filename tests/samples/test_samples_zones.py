"""Severities of zones, from columns and from masks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgraft.errors import BadData, BadTable
from medgraft.samples.dataset import DataSet, read_samples
from medgraft.samples.zones import ZoneColumns, named_zones, with_zones, zone_shares


@pytest.fixture
def read(tmp_path: Path):
    """Write a table and empty files for its images, and read it."""

    def write(text: str) -> DataSet:
        for number in range(4):
            (tmp_path / f"{number}.png").touch()
        (tmp_path / "labels.csv").write_text(text)
        return read_samples(tmp_path / "labels.csv")

    return write


def test_columns_become_zones_and_are_covariates_no_longer(read):
    found = with_zones(read("path,label,z2,z1,sex\n0.png,a,1,0,F\n1.png,b,,3,M\n"), ZoneColumns())
    first, second = found.samples
    assert dict(first.zones) == {"z1": 0, "z2": 1} and first.covariates == {"sex": "F"}
    assert second.zones["z1"] == 3 and math.isnan(second.zones["z2"])
    assert any("2 of 2 images" in note for note in found.notes)


def test_zones_alone_make_a_sample_whose_diagnosis_is_unknown(read):
    found = with_zones(read("path,label,z1,z2\n0.png,a,,\n1.png,,1,2\n2.png,,,\n"), ZoneColumns())
    assert [sample.label for sample in found.samples] == ["a", "", None]


def test_columns_are_taken_in_the_order_they_are_asked_for(read):
    found = with_zones(read("path,label,low,high\n0.png,a,1,0\n1.png,b,0,1\n"), ZoneColumns(("high", "low")))
    assert list(found.samples[0].zones) == ["high", "low"]


def test_the_sum_of_the_zones_gives_no_answer_away(read):
    text = "path,label,z1,z2,severity,age\n0.png,a,1,2,3,40\n1.png,b,0,2,2,50\n"
    assert dict(with_zones(read(text), ZoneColumns()).samples[0].covariates) == {"age": "40"}


def test_mistakes_are_named(read):
    with pytest.raises(BadTable, match=r"1 severities are no numbers \(z1 of 0.png: 'much'\)"):
        with_zones(read("path,label,z1\n0.png,a,much\n1.png,b,1\n"), ZoneColumns())
    with pytest.raises(BadTable, match="column 'zz' is not there"):
        with_zones(read("path,label,z1\n0.png,a,1\n1.png,b,1\n"), ZoneColumns(("zz",)))
    with pytest.raises(BadData, match="no column holds the severity of a zone"):
        with_zones(read("path,label,sex\n0.png,a,M\n1.png,b,F\n"), ZoneColumns())


def test_only_names_of_zones_are_taken():
    assert named_zones(["zone_3", "Z1", "z-2", "zeta", "z", "z1b"]) == ["Z1", "z-2", "zone_3"]


def test_shares_of_the_boxes_of_an_organ():
    organ, opaque = np.zeros((12, 10), bool), np.zeros((12, 10), bool)
    organ[2:8, 1:4] = organ[2:8, 6:9] = True  # two lungs; their box is rows 2 to 7 and columns 1 to 8
    opaque[2:4, 1:4] = True  # the upper third of the first
    opaque[6:8, 6:7] = True  # a third of the lower third of the second
    opaque[0, :] = True  # outside the organ, which counts nowhere
    shares = zone_shares(opaque, (3, 2), region=organ)
    assert np.allclose(shares, [1, 0, 0, 0, 0, 1 / 3])


def test_a_zone_without_a_pixel_of_the_organ_is_unknown():
    organ = np.zeros((4, 4), bool)
    organ[0, :2] = organ[3, 2:] = True
    shares = zone_shares(np.ones((4, 4), bool), (2, 2), region=organ)
    assert np.array_equal(shares, [1, np.nan, np.nan, 1], equal_nan=True)
    assert np.isnan(zone_shares(np.ones((4, 4), bool), (2, 2), region=np.zeros((4, 4), bool))).all()


def test_masks_are_measured(read, tmp_path: Path):
    mask, lungs = np.zeros((6, 4), np.uint8), np.full((6, 4), 1, np.uint8)
    mask[:2, :1] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(lungs).save(tmp_path / "lungs.png")
    text = "path,label,opacity,lungs\n0.png,a,mask.png,lungs.png\n1.png,b,,lungs.png\n"
    for region in (None, "lungs"):
        found = with_zones(read(text), ZoneColumns(mask="opacity", region=region)).samples
        assert list(found[0].zones.values()) == [0.5, 0, 0, 0, 0, 0]
        assert all(math.isnan(value) for value in found[1].zones.values())
    with pytest.raises(BadData, match="the mask of 1.png is not there"):
        with_zones(read(text.replace("b,,", "b,gone.png,")), ZoneColumns(mask="opacity"))
