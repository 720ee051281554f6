"""What drawn voxels mean: their size, their sides and their unit, in the file as another library reads it."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medgraft.files import read_image, save_nifti
from medgraft.generation.choices import in_hu
from medgraft.generation.meaning import Meaning, shared_ways, spacing_drawn, ways_of
from medgraft.generation.written import write_image
from medgraft.values import ImageRef
from tiny_masks import AFFINE

CT = Meaning((3.0, 1.5, 1.0), "SPL", (-1000.0, 1000.0), "HU")


def test_the_size_of_a_drawn_voxel_is_the_median_of_what_resizing_makes():
    rows = [
        {"shape": [1, 40, 64, 64], "spacing_mm": [2.0, 1.0, 1.0]},
        {"shape": [1, 80, 64, 128], "spacing_mm": [2.0, 1.0, 1.0]},
        {"shape": [1, 20, 32, 64], "spacing_mm": [6.0, 2.0, 1.0]},
    ]
    assert spacing_drawn(rows, (20, 32, 32)) == (6.0, 2.0, 2.0)
    unknown = [{**row, "spacing_mm": None} for row in rows]
    assert spacing_drawn([*rows[:1], *unknown[:1]], (20, 32, 32)) == (4.0, 2.0, 2.0)
    assert spacing_drawn([*rows[:1], *unknown], (20, 32, 32)) is None


def test_ways_are_those_of_the_affine():
    assert ways_of(AFFINE) == "SPL"
    turned = AFFINE[:, [1, 0, 2, 3]]
    assert ways_of(turned) == "PSL"
    tilted = AFFINE.copy()
    tilted[:3, :3] = np.array([[0.1, 0, -1.5], [0.2, -1.4, 0.1], [3.0, 0.3, 0]])
    assert ways_of(tilted) == "SPL"
    assert ways_of(None) == "" and ways_of(np.diag([0.0, 1, 1, 1])) == ""


@pytest.mark.parametrize("ways", ["SPL", "IAR", "LPS", "RSA"])
def test_an_affine_says_the_same_sides_again(ways):
    affine = Meaning((3.0, 1.5, 1.0), ways).affine((5, 7, 9))
    assert affine is not None and ways_of(affine) == ways
    assert np.linalg.norm(affine[:3, :3], axis=0).tolist() == [3.0, 1.5, 1.0]
    np.testing.assert_allclose(affine @ [2, 3, 4, 1], [0, 0, 0, 1], atol=1e-12)
    assert Meaning(None, ways).affine((5, 7, 9)) is None and Meaning((1.0, 1.0, 1.0)).affine((5, 7, 9)) is None


def test_a_volume_is_written_in_hu_with_its_sides_and_read_back(tmp_path: Path):
    image = np.linspace(-1, 1, 4 * 5 * 6).reshape(1, 4, 5, 6).astype(np.float32)
    path = write_image(tmp_path, "one", image, note="synthetic: drawn by medgraft, no patient", meaning=CT)
    other = nibabel.load(path)
    assert nibabel.aff2axcodes(other.affine) == ("L", "P", "S") and other.header.get_zooms() == (1.0, 1.5, 3.0)
    np.testing.assert_array_equal(np.asarray(other.dataobj).T, np.rint(image[0] * 1000))
    assert bytes(other.header["descrip"]).decode().startswith("synthetic") and b"HU" in bytes(other.header["descrip"])
    again = read_image(path)
    assert again.spacing_mm == (3.0, 1.5, 1.0) and again.range == (-1000.0, 1000.0)
    np.testing.assert_allclose(2 * again.display() - 1, image, atol=1e-3)


def test_without_a_window_black_is_0_and_white_1000(tmp_path: Path):
    image = np.array([-1.0, 0.0, 0.5, 1.0], np.float32).reshape(1, 1, 2, 2).repeat(2, axis=1)
    path = write_image(tmp_path, "one", image, note="synthetic", meaning=Meaning((1.0, 2.0, 2.0)))
    found = nibabel.load(path)
    assert np.unique(np.asarray(found.dataobj)).tolist() == [0, 500, 750, 1000]
    assert int(found.header["sform_code"]) == 0 and int(found.header["qform_code"]) == 0
    assert b"0 black to 1000 white" in bytes(found.header["descrip"])


def test_a_narrow_window_keeps_its_fractions():
    own = Meaning(window=(0.0, 2.0))
    values = own.values(np.array([-1.0, 0.25, 1.0]))
    assert values.dtype == np.float32 and values.tolist() == [0.0, 1.25, 2.0] and own.words == "unit of the files"
    assert Meaning.from_dict(CT.to_dict()) == CT and Meaning.from_dict(Meaning().to_dict()) == Meaning()


def test_volumes_that_lie_in_different_ways_claim_no_side(tmp_path: Path):
    values = np.zeros((4, 5, 6), np.int16)
    turned = AFFINE.copy()
    turned[:, 1] *= -1
    for name, affine in (("a", AFFINE), ("b", AFFINE), ("c", turned), ("d", None)):
        save_nifti(tmp_path / f"{name}.nii.gz", values, affine=affine)
    refs = {name: ImageRef(tmp_path / f"{name}.nii.gz") for name in "abcd"}
    assert shared_ways([refs["a"], refs["b"]]) == ("SPL", "")
    ways, note = shared_ways(list(refs.values()))
    assert ways == "" and "2 SPL" in note and "1 SAL" in note and "1 unknown" in note
    assert shared_ways([refs["d"]])[0] == "" and "no volume says" in shared_ways([refs["d"]])[1]


def test_hu_are_known_by_the_file_or_by_air():
    assert in_hu([{"unit": "HU", "low": 0.0}, {"unit": "value", "low": -1000.0}])
    assert not in_hu([{"unit": "value", "low": -1000.0}, {"unit": "value", "low": 0.0}])
    assert not in_hu([{"unit": "display", "low": -1000.0}]) and not in_hu([])
