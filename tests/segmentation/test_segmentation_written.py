"""Label maps written and shown: names, numbers of the user's own, measures; the worst and the best on the page."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow

from medgraft.errors import BadData
from medgraft.files.label_map import read_label_map
from medgraft.samples.framing import Frame
from medgraft.samples.mask_grid import SolidFrame
from medgraft.samples.mask_meaning import MaskForm
from medgraft.samples.picture_grid import PictureFrame
from medgraft.samples.resampling import regrid
from medgraft.samples.scan import Space, Turn
from medgraft.segmentation.facts import facts_of
from medgraft.segmentation.judge import Judged, Rules, verdicts
from medgraft.segmentation.shown import Gallery
from medgraft.segmentation.written import MaskWriter, columns_of, measures
from medgraft.values import ImageRef, Sample
from tiny_masks import make_pictures, make_volumes

ONE = MaskForm(("lesion",), (255,))
FRAME = PictureFrame((20, 30), (20, 30))


def disc(row: float, column: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:20, :30]
    return ((y - row) ** 2 + (x - column) ** 2 < radius**2).astype(np.uint8)


def test_files_are_named_after_their_images_and_none_is_written_over(tmp_path):
    writer = MaskWriter(tmp_path, ONE)
    refs = [
        ImageRef(Path("a/x.png")),
        ImageRef(Path("b/X.jpg")),
        ImageRef(Path("c/x.nii.gz")),
        ImageRef(Path("x.tif"), 2),
    ]
    names = [writer.write(ref, disc(9, 9, 5), FRAME).name for ref in refs]
    assert names[:3] == ["x.png", "X-2.png", "x-3.png"] and len({name.lower() for name in names}) == 4
    assert set(np.unique(np.asarray(Pillow.open(tmp_path / names[0])))) == {0, 255}  # as the user's own maps


def test_things_are_written_with_their_numbers_in_sixteen_bits(tmp_path):
    numbers = np.zeros((20, 30), np.int32)
    numbers[2:4, 2:4], numbers[8:10, 8:10] = 1, 300
    writer = MaskWriter(tmp_path, MaskForm(("nucleus",), (), instances=True))
    found = np.asarray(Pillow.open(writer.write(ImageRef(Path("a.png")), numbers, FRAME)))
    assert found.dtype == np.uint16 and found.max() == 300


def test_numbers_that_sixteen_bits_do_not_hold_are_written_as_tiff_and_never_wrap(tmp_path):
    numbers = np.zeros((20, 30), np.int32)
    numbers[2:4, 2:4], numbers[8:10, 8:10] = 1, 70_000
    things = MaskForm(("nucleus",), (), instances=True)
    writer = MaskWriter(tmp_path, things)
    path = writer.write(ImageRef(Path("a.png")), numbers, FRAME)
    assert path.name == "a.tif" and writer.write(ImageRef(Path("A.png")), numbers * 0, FRAME).name == "A-2.png"
    np.testing.assert_array_equal(read_label_map(path).values, numbers)
    large = MaskWriter(tmp_path, MaskForm(("lesion",), (100_000,))).write(ImageRef(Path("b.png")), disc(9, 9, 5), FRAME)
    np.testing.assert_array_equal(read_label_map(large).values, 100_000 * disc(9, 9, 5).astype(np.uint32))
    with pytest.raises(BadData, match=r"one\.png: a PNG holds numbers up to 65535, and the label map goes to 70000"):
        MaskWriter(tmp_path, things, name="one.png").write(ImageRef(Path("a.png")), numbers, FRAME)


@pytest.mark.parametrize(
    ("value", "kind"), [(200, np.uint8), (300, np.int16), (32_767, np.int16), (40_000, np.int32), (100_000, np.int32)]
)
def test_label_maps_of_volumes_have_as_many_bits_as_their_largest_number_needs(tmp_path, value, kind):
    mask = np.zeros((3, 4, 5), np.uint8)
    mask[1, 2] = 1
    way = regrid(mask.shape, (1.0, 1.0, 1.0), to_mm=1.0)
    frame = SolidFrame(Frame(Space(mask.shape, (1.0, 1.0, 1.0), None), Turn(), (0, 0, 0), way))
    path = MaskWriter(tmp_path, MaskForm(("organ",), (value,))).write(ImageRef(Path("a.nii.gz")), mask, frame)
    assert nibabel.load(path).get_data_dtype() == kind
    np.testing.assert_array_equal(read_label_map(path).values, value * mask.astype(np.int64))
    with pytest.raises(BadData, match="too large a number for a NIfTI file"):
        MaskWriter(tmp_path, MaskForm(("organ",), (2**31,))).write(ImageRef(Path("a.nii.gz")), mask, frame)


def test_measures_are_in_pixels_and_where_sizes_are_known_in_millimetres():
    mask = disc(9, 9, 5)
    count = int(mask.sum())
    assert measures(mask, ["lesion"], FRAME, apart=False) == {"pixels_lesion": count}
    known = PictureFrame((20, 30), (20, 30), (0.5, 0.2))
    assert float(measures(mask, ["lesion"], known, apart=False)["mm2_lesion"]) == pytest.approx(count * 0.1, rel=1e-3)
    things = measures(2 * mask.astype(np.int32), ["lesion"], FRAME, apart=True)
    assert things == {"things": 2, "pixels_lesion": count}
    assert columns_of(["lesion"], [things], apart=True) == ["things", "pixels_lesion"]


def judged_of(rules: Rules, shifts: list[int]) -> tuple[Judged, Gallery]:
    judged, gallery = Judged(), Gallery(rules)
    pixels = np.full((1, 20, 30), 90, np.uint8)
    for number, shift in enumerate(shifts):
        truth, drawn = disc(9, 9, 6), disc(9, 9 + shift, 6)
        sample = Sample(f"image {number:02d}", ImageRef(Path(f"{number}.png")), "lesion", f"p{number}")
        judged.add(sample, truth, drawn, frame=FRAME, rules=rules)
        gallery.add(judged, pixels, truth, drawn, FRAME)
    return judged, gallery


def test_the_page_shows_the_worst_first_and_some_of_the_best():
    rules = Rules(("lesion",), 2.0, "px", False, False)
    shifts = [3, 0, 9, 1, 12, 5, 2, 7, 4, 15, 6, 8, 10, 11, 13, 14]
    judged, gallery = judged_of(rules, shifts)
    rows = gallery.rows()
    kinds = [row["kind"] for row in rows]
    assert kinds == ["mistake"] * 8 + ["right"] * 4
    dice = judged.dice()
    worst = [f"image {place:02d}" for place in np.argsort(dice, kind="stable")[:8]]
    assert [row["key"] for row in rows[:8]] == worst
    assert rows[8]["key"] == f"image {int(dice.argmax()):02d}"
    assert rows[0]["image"].shape == (20, 64, 3)


def test_an_image_without_any_structure_neither_counts_nor_breaks_the_tables():
    rules = Rules(("lesion", "vessel"), 2.0, "px", False, False)
    judged, gallery = judged_of(Rules(("lesion",), 2.0, "px", False, False), [0, 2, 4, 6])
    judged = Judged()
    for number, sample in enumerate(["a", "b", "c", "d"]):
        truth = disc(9, 9, 6) if number else np.zeros((20, 30), np.uint8)
        drawn = disc(9, 9 + number, 6) if number else truth
        judged.add(Sample(sample, ImageRef(Path("x.png")), "lesion"), truth, drawn, frame=FRAME, rules=rules)
    found = verdicts({"test": judged, "val": judged}, rules, seed=0, resamples=100)
    assert found["scores"]["test"]["dice"]["value"] > 0.5
    assert found["per_class"]["vessel"]["dice"]["value"] is None and found["per_class"]["vessel"]["dice"]["why"]
    assert np.isnan(judged.dice()[0]) and gallery.rows()


def test_facts_say_which_classes_lie_in_one_order_and_how_thick_they_are(tmp_path):
    from medgraft.samples.dataset import Columns, read_samples
    from medgraft.samples.label_maps import checked_masks

    checked = checked_masks(read_samples(make_pictures(tmp_path / "flat", count=16), columns=Columns(mask="mask")))
    facts = facts_of(list(checked.samples), checked.form, workers=1)
    assert (facts.axes, facts.shape, facts.gray, facts.thin) == (2, (64, 80), True, False)
    assert 0 in dict(facts.sided) and 8 < facts.thickness < 20
    solid = checked_masks(read_samples(make_volumes(tmp_path / "deep", count=9)))
    facts = facts_of(list(solid.samples), solid.form, workers=1)
    assert facts.axes == 3 and facts.spacing_mm == pytest.approx((3.0, 1.5, 1.5))
    assert [axis for axis, _ in facts.sided] == [1]  # one lies in front of the other
