"""Radiomic features: the reference values of IBSI on its digital phantom, and what must hold of any structure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibsi_phantom import FIRST_ORDER, GLCM, SHAPE, SPACING, VALUES

from medgraft.errors import BadRecipe
from medgraft.samples.textures import co_occurrence, discretised, features

FOUND = features(VALUES.astype(float), VALUES > 0, spacing=SPACING, bin_width=1.0)
EXPECTED = {
    **{f"shape_{name}": value for name, value in SHAPE.items()},
    **{f"firstorder_{name}": value for name, value in FIRST_ORDER.items()},
    **{f"glcm_{name}": value for name, value in GLCM.items()},
}


def to_three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def test_there_is_a_reference_for_every_feature_of_a_volume():
    assert set(FOUND) == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_phantom_has_the_value_of_the_manual(name: str):
    """The manual gives three digits; 5 in the fourth may be rounded either way."""
    assert FOUND[name] == pytest.approx(
        EXPECTED[name], abs=0.6 * 10 ** (math.floor(math.log10(abs(EXPECTED[name]))) - 2)
    )


def test_co_occurrence_of_a_picture_is_that_of_another_library():
    from skimage.feature import graycomatrix, graycoprops

    levels = np.random.default_rng(0).integers(0, 6, (20, 30)).astype(np.uint8)
    ours = co_occurrence(levels.astype(np.int64) + 1, np.ones(levels.shape, bool))
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    # Directions have different numbers of pairs, so they are merged before they become shares.
    merged = graycomatrix(levels, [1], angles, levels=6, symmetric=True).sum(axis=3, keepdims=True)
    merged = merged / merged.sum()
    pairs = {"contrast": "contrast", "dissimilarity": "dissimilarity", "correlation": "correlation"}
    pairs |= {"angular_second_moment": "ASM", "inverse_difference_moment": "homogeneity"}
    for name, theirs in pairs.items():
        assert ours[name] == pytest.approx(float(graycoprops(merged, theirs)[0, 0])), name


@given(st.integers(0, 10**6), st.floats(0.1, 50), st.floats(-1000, 1000))
@settings(max_examples=20, deadline=None)
def test_texture_does_not_depend_on_the_unit_of_the_values(seed, factor, shift):
    rng = np.random.default_rng(seed)
    values, mask = rng.integers(0, 16, (9, 11)).astype(float), rng.random((9, 11)) < 0.8
    mask[:2, :2] = True
    values[0, :2] = (0, 16)
    one = discretised(values, mask, bins=8)
    two = discretised(values * 4 + 256, mask, bins=8)
    assert np.array_equal(one, two)
    assert one[mask].min() == 1 and one[mask].max() == 8 and not one[~mask].any()
    assert np.isfinite(features(values * factor + shift, mask, spacing=(1, 1))["glcm_contrast"])


def test_a_structure_of_one_pixel_or_one_value_has_no_texture_and_no_error():
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    alone = features(np.full((5, 5), 7.0), mask, spacing=(1, 1))
    assert math.isnan(alone["glcm_contrast"]) and math.isnan(alone["firstorder_skewness"])
    assert alone["shape_area"] == 1 and alone["firstorder_entropy"] == 0
    flat = features(np.full((5, 5, 5), 7.0), np.ones((5, 5, 5), bool), spacing=(1, 1, 1))
    assert flat["glcm_contrast"] == 0 and flat["glcm_joint_entropy"] == 0


@given(st.floats(1e-6, 1e9))
@settings(max_examples=30, deadline=None)
def test_too_narrow_levels_are_refused_with_the_least_width_that_fits(span):
    values, mask = np.linspace(0, span, 1600).reshape(40, 40), np.ones((40, 40), bool)
    with pytest.raises(BadRecipe, match=r"at most 1024") as refused:
        discretised(values, mask, bin_width=span / 1100)
    width = float(str(refused.value.do).split()[2])
    assert width == pytest.approx(span / 1023, rel=0.011)
    assert discretised(values, mask, bin_width=width).max() <= 1024


def test_more_than_1024_levels_are_refused():
    values, mask = np.arange(64.0).reshape(8, 8), np.ones((8, 8), bool)
    assert features(values, mask, spacing=(1, 1), bins=1024)["glcm_contrast"] > 0
    with pytest.raises(BadRecipe, match="40000 gray levels are more than 1024"):
        features(values, mask, spacing=(1, 1), bins=40000)


@pytest.mark.parametrize("name", ["shape_circularity", "shape_solidity"])
def test_a_disc_is_round(name):
    rows, columns = np.indices((101, 101))
    disc = (rows - 50) ** 2 + (columns - 50) ** 2 <= 40**2
    found = features(rows.astype(float), disc, spacing=(0.5, 0.5))
    assert found[name] == pytest.approx(1, abs=0.02)
    assert found["shape_major_axis_length"] == pytest.approx(40, abs=0.2)
    assert found["shape_maximum_diameter"] == pytest.approx(40, abs=0.6)
