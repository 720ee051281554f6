"""What the numbers of label maps mean, how they are encoded, and whether they lie on their images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mask_sets import SHAPE, dataset_of, drawn, painted, written

from medgraft.errors import BadData, BadImage
from medgraft.files import LabelMap, save_nifti
from medgraft.samples.dataset import DataSet, Problem, read_samples
from medgraft.samples.label_maps import check_mask, checked_masks, decoded, encoded, mask_form
from medgraft.samples.mask_facts import MaskFacts, measured
from medgraft.samples.mask_meaning import Asked, MaskForm, called, form_of, numbers_named
from medgraft.values import ImageRef, Sample


def facts(*maps: np.ndarray, packed: bool = False) -> list[MaskFacts]:
    return [measured(LabelMap(values, "drawn", packed)) for values in maps]


def form(*maps: np.ndarray, notes: list[str] | None = None, packed: bool = False, **asked) -> MaskForm:
    told = [] if notes is None else notes
    return form_of(facts(*maps, packed=packed), Asked(**asked), notes=told)


# ---- what the numbers mean ----


@pytest.mark.parametrize("number", [1, 7, 255, 65535])
def test_one_number_is_one_class(number: int) -> None:
    notes: list[str] = []
    found = form(drawn(number, kind=np.uint16), drawn(kind=np.uint16), notes=notes)
    assert found == MaskForm(("foreground",), (number,))
    assert any("255 is read as one class" in note for note in notes) == (number == 255)


def test_255_beside_other_labels_is_unknown() -> None:
    notes: list[str] = []
    found = form(drawn(1, 3, 255), drawn(1), notes=notes)
    assert found == MaskForm(("label 1", "label 3"), (1, 3), ignored=(255,))
    assert any("255 in the masks is read as unknown" in note for note in notes)
    assert form(drawn(1, 255), names={1: "a", 255: "b"}) == MaskForm(("a", "b"), (1, 255))


def test_two_ways_to_save_a_mask_are_not_guessed_about() -> None:
    with pytest.raises(BadData, match="1 masks hold 0 and 1, 2 others 0 and 255: is 255 the same class, or unknown"):
        form(drawn(1), drawn(255), drawn(255))
    assert form(drawn(1), drawn(1, 255)).ignored == (255,)
    assert form(drawn(1), drawn(255), names={"1": "lesion", "255": "unknown"}) == MaskForm(
        ("lesion",), (1,), False, (255,)
    )


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["left", "right"], ("left", "right")),
        ({2: "right", 1: "left", 0: "background"}, ("left", "right")),
        ({"left": 1, "right": 2, "background": 0}, ("left", "right")),
        ({"1": "left", "2": "right", "3": "void"}, ("left", "right")),
    ],
)
def test_names_are_given_in_any_way(names, found) -> None:
    made = form(drawn(1, 2), names=names)
    assert made.names == found and made.values == (1, 2)
    assert made.ignored == ((3,) if "void" in names or "3" in names else ())


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["left"], r"1 names are given, and the masks hold 2 labels \(1, 2\)"),
        ({"left": "one"}, "'one' is no whole number"),
        ({1: "left", "1": "right"}, "named twice"),
        ({1: "left", 2: "left"}, "two numbers of the masks have the name 'left'"),
        ({0: "background"}, "name no class"),
        ({1: " "}, "no whole number with a name"),
    ],
)
def test_names_that_do_not_fit(names, why: str) -> None:
    with pytest.raises(BadData, match=why):
        form(drawn(1, 2), names=names)


def test_names_say_more_than_the_masks() -> None:
    notes: list[str] = []
    found = form(drawn(1), names={0: "liver", 1: "lesion", 2: "cyst"}, notes=notes)
    assert found.names == ("lesion", "cyst")
    assert any("holds 2 (cyst)" in note for note in notes) and any("0 in the masks (liver)" in note for note in notes)


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("opacity_mask", "opacity"),
        ("vessels", "vessels"),
        ("mask", "foreground"),
        ("Masks", "foreground"),
        ("labelsTr", "foreground"),
        ("masks_1stHO", "foreground"),
        ("t2_lesion_mask", "lesion"),
        ("optic_disc_seg", "optic disc"),
    ],
)
def test_a_single_class_is_called_as_its_column_is(column: str, name: str) -> None:
    assert form(drawn(255), called=column).names == (name,)
    assert called(column) == ("" if name == "foreground" else name)


def test_numbers_that_begin_anew_in_each_image_are_things() -> None:
    many = np.arange(1, 41, dtype=np.uint16).repeat(6).reshape(20, 12)
    assert form(many, np.where(many > 35, 0, many)) == MaskForm(("object",), (), True)
    assert form(many, many, instances=True, names=["nucleus"]) == MaskForm(("nucleus",), (), True)
    with pytest.raises(BadData, match=r"hold 40 different numbers, such as 1, 2, 3.*masks.instances to true"):
        form(many, many)
    with pytest.raises(BadData, match="hold 40 different numbers"):
        form(many, np.where(many == 1, 255, many))  # 255 is no 41st thing
    assert len(form(many, np.where(many > 35, 0, many), instances=False, names=[str(k) for k in range(40)]).names) == 40


def test_a_column_named_like_instances_holds_things() -> None:
    assert form(drawn(1, 2), called="instance_mask") == MaskForm(("object",), (), True)
    assert form(drawn(1, 2), called="cell_instances").names == ("cell",)
    assert not form(drawn(255), drawn(255), called="instance_mask").instances
    assert not form(drawn(1, 2), called="instances", instances=False).instances
    assert not form(drawn(1, 2), called="instances", names=["a", "b"]).instances
    with pytest.raises(BadData, match="all of one class, and 2 names are given"):
        form(drawn(1, 2), instances=True, names=["a", "b"])


@pytest.mark.parametrize("numbers", [(85, 170), (1, 2, 40), (51, 102, 153, 204, 255)])
def test_sparse_numbers_of_classes_are_no_things(numbers: tuple[int, ...]) -> None:
    found = form(drawn(*numbers), drawn(numbers[0]))
    assert not found.instances and found.values == tuple(n for n in numbers if n != 255)


def test_empty_masks_mean_nothing() -> None:
    with pytest.raises(BadData, match="all 2 masks are empty.*right files"):
        form(drawn(), drawn())


def test_colours_without_names_are_listed_with_their_share() -> None:
    with pytest.raises(BadData, match=r"#000000 89.6 %, #ff0000 6.94 %, #00ff00 3.47 %.*masks.colours.*\"#ff0000\""):
        form(drawn(0xFF0000, 0x00FF00, 0xFF0000, kind=np.uint32), packed=True)


def test_gray_with_three_channels_is_numbers() -> None:
    stored = LabelMap(drawn(0x070707, kind=np.uint32), "drawn", colours=True)
    found = form_of([measured(stored), *facts(drawn(7))], Asked(), notes=[])
    assert found == MaskForm(("foreground",), (7,))
    assert np.array_equal(encoded(stored, found), drawn(1))


def test_colours_with_names() -> None:
    colours = {"#FF0000": "lesion", "00ff00": "vessel", "#0000ff": "ignore"}
    found = form(drawn(1), colours=colours)
    assert found == MaskForm(("lesion", "vessel"), (0xFF0000, 0x00FF00), ignored=(0x0000FF,), colours=True)
    stored = LabelMap(drawn(0x00FF00, 0xFF0000, 0x0000FF, kind=np.uint32), "drawn", colours=True)
    assert np.array_equal(encoded(stored, found), drawn(2, 1, 255))
    palette = LabelMap(drawn(1, 2), "drawn", palette=(0, 0xFF0000, 0x00FF00))
    assert np.array_equal(encoded(palette, found), drawn(1, 2))
    white = form(drawn(1), colours={"#ffffff": "background", "#000000": "lesion"})
    assert white == MaskForm(("lesion",), (0,), background=0xFFFFFF, colours=True)
    assert np.array_equal(encoded(LabelMap(drawn(255), "drawn"), white), 1 - drawn(1))


@pytest.mark.parametrize(
    ("colours", "why"),
    [
        ({"red": "lesion"}, "'red': 'lesion' is no colour"),
        ({"#ff0000": ""}, "no colour of masks with a name"),
        ({"#000000": "lesion"}, "names black 'lesion', and no colour is the background"),
        ({"#ff0000": "a", "#00ff00": "a"}, "each class one colour and a name of its own"),
        ({"#ff0000": "background"}, "each class one colour"),
    ],
)
def test_colours_that_cannot_be_used(colours: dict[str, str], why: str) -> None:
    with pytest.raises(BadData, match=why):
        form(drawn(1), colours=colours)


def test_a_form_goes_through_json() -> None:
    made = MaskForm(("a", "b"), (0xFF0000, 3), ignored=(255,), background=7, colours=True)
    assert MaskForm.from_dict(json.loads(json.dumps({**made.to_dict(), "later": 1}))) == made
    assert numbers_named({"a": 1, "b": "2"}) == {1: "a", 2: "b"}


# ---- encoding ----

numbers = st.integers(0, 65535)


@st.composite
def forms(draw: st.DrawFn) -> MaskForm:
    largest = draw(st.sampled_from([255, 65535, 0xFFFFFF]))
    found = draw(st.lists(st.integers(0, largest), min_size=2, max_size=12, unique=True))
    ignored = tuple(found[2:3]) if draw(st.booleans()) else ()
    values = tuple(number for number in found[1:] if number not in ignored)
    names = tuple(f"class {k}" for k in range(len(values)))
    return MaskForm(names, values, ignored=ignored, background=found[0], colours=largest > 65535)


@settings(max_examples=60, deadline=None)
@given(made=forms(), shape=st.sampled_from([(5, 7), (3, 4, 5)]), seed=st.integers(0, 99))
def test_what_is_encoded_can_be_decoded(made: MaskForm, shape: tuple[int, ...], seed: int) -> None:
    known = np.array([made.background, *made.values, *made.ignored], np.uint32)
    stored = np.random.default_rng(seed).choice(known, shape)
    codes = encoded(LabelMap(stored, "drawn", colours=made.colours), made)
    assert codes.dtype == np.uint8 and codes.shape == shape
    assert np.array_equal(decoded(codes, made), stored)
    for place, value in enumerate(made.values, start=1):
        assert np.array_equal(codes == place, stored == value)
    assert np.array_equal(codes == 255, np.isin(stored, made.ignored))


@settings(max_examples=30, deadline=None)
@given(stored=arrays.arrays(np.uint16, (6, 8), elements=st.sampled_from([0, 1, 5, 300, 40000])))
def test_things_are_numbered_from_1_and_stay_the_same_things(stored: np.ndarray) -> None:
    codes = encoded(LabelMap(stored, "drawn"), MaskForm(("cell",), (), instances=True))
    there = np.unique(stored[stored > 0])
    assert codes.dtype == np.int32 and codes.max() == len(there)
    for place, number in enumerate(there, start=1):
        assert np.array_equal(codes == place, stored == number)


def test_a_label_that_means_nothing_is_named_with_the_known_ones() -> None:
    made = MaskForm(("anterior", "posterior"), (1, 2))
    match = (
        r"a.png: holds 3 \(25 pixels\), 9 \(25 pixels\), which is none of 1 = anterior, 2 = posterior\. Mend the mask"
    )
    with pytest.raises(BadData, match=match):
        encoded(LabelMap(drawn(1, 3, 9), "a.png"), made)
    red = MaskForm(("lesion",), (0xFF0000,), colours=True)
    with pytest.raises(BadData, match=r"#00ff00 \(25 pixels\), which is none of #ff0000 = lesion.*masks.colours"):
        encoded(LabelMap(drawn(0x00FF00, kind=np.uint32), "a.png", colours=True), red)
    with pytest.raises(BadData, match="in colours, and those that were learnt from in numbers"):
        encoded(LabelMap(drawn(0x00FF00, kind=np.uint32), "a.png", colours=True), made)


def test_a_class_that_a_form_has_not_is_not_decoded() -> None:
    for code in (3, 255):
        with pytest.raises(BadData, match=f"holds {code}, and the classes are 1 to 2"):
            decoded(drawn(code), MaskForm(("a", "b"), (1, 2)))


# ---- the grid ----


def test_a_mask_of_another_size_is_named() -> None:
    with pytest.raises(
        BadData, match=r"the mask has 30 x 24 pixels, its image 48 x 60 pixels: was it made on a resized"
    ):
        check_mask(LabelMap(drawn(1), "a.png"), (60, 48))
    with pytest.raises(BadData, match=r"its image 24 x 30 pixels: its axes are swapped.*EXIF"):
        check_mask(LabelMap(drawn(1), "a.png"), (30, 24))
    with pytest.raises(BadData, match=r"4 x 6 x 5 voxels, its image 4 x 5 x 6 voxels: its axes are swapped"):
        check_mask(LabelMap(np.zeros((5, 6, 4)), "a.nii"), (6, 5, 4))
    with pytest.raises(BadData, match="the mask is flat .* its image is a volume"):
        check_mask(LabelMap(drawn(1), "a.png"), (5, 24, 30))
    check_mask(LabelMap(drawn(1), "a.png"), SHAPE)


def test_a_mask_that_lies_elsewhere_is_named_with_the_distance() -> None:
    image = np.array([[0, 0, 2.0, -20], [0, 1, 0, 3], [4, 0, 0, 5], [0, 0, 0, 1]])

    def moved(mm: float, flip: int | None = None) -> LabelMap:
        affine = image.copy()
        affine[0, 3] += mm
        if flip is not None:
            affine[:, 3] += affine[:, flip] * ((5, 6, 7)[flip] - 1)
            affine[:, flip] *= -1
        return LabelMap(np.zeros((5, 6, 7), np.uint8), "a.nii", affine=affine)

    check_mask(moved(0.09), (5, 6, 7), image_affine=image)  # of voxels of at least 1 mm
    with pytest.raises(BadData, match=r"up to 0.5 mm from those of its image by their headers\. Resample"):
        check_mask(moved(0.5), (5, 6, 7), image_affine=image)
    for axis, apart in enumerate((16, 5, 12)):
        with pytest.raises(BadData, match=f"up to {apart} mm .* an axis is flipped or swapped"):
            check_mask(moved(0, axis), (5, 6, 7), image_affine=image)
    check_mask(moved(50), (5, 6, 7))
    check_mask(LabelMap(np.zeros((5, 6, 7), np.uint8), "a.nii"), (5, 6, 7), image_affine=image)


# ---- a summary of each ----


def test_things_are_counted_and_measured() -> None:
    values = np.zeros((40, 40), np.uint8)
    values[0:4, 0:4] = values[4:8, 4:8] = 1  # they touch at a corner
    values[20:30, 20:30] = 1
    values[10:12, 0:8] = 2
    values[35:, 35:] = 255
    (found,) = facts(values)
    assert found.counts == {0: 1600 - 132 - 16 - 25, 1: 132, 2: 16, 255: 25}
    assert found.things == 3 and found.side == pytest.approx(np.sqrt(32))
    (volume,) = facts(drawn(3, shape=(5, 24, 30)))
    assert volume.things == 1 and volume.side == pytest.approx(5)
    (none,) = facts(drawn())
    assert (none.things, none.side) == (0, 0)
    assert facts(np.arange(1, 61).repeat(9).reshape(20, 27))[0].things == 60


# ---- a data set of them ----


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read here as a worker process would: starting one takes a second, and one test below does."""
    from medgraft.files.worker import _do

    def read_many(refs, work, *, workers: int):
        return ((place, _do(work, ref)) for place, ref in enumerate(refs))

    monkeypatch.setattr("medgraft.files.read_many", read_many)


def test_masks_are_read_checked_and_understood(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, drawn(1, 2), drawn(), drawn(2, 255))
    seen: list[tuple[int, int]] = []
    found = checked_masks(dataset, workers=1, progress=lambda done, of: seen.append((done, of)))
    assert found.samples == dataset.samples and not found.problems
    assert found.form == MaskForm(("label 1", "label 2"), (1, 2), ignored=(255,))
    assert [sorted(fact.labels) for fact in found.facts] == [[1, 2], [], [2, 255]]
    assert any("1 of 3 masks are empty" in note for note in found.notes)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_meaning_alone_is_learnt(tmp_path: Path, at_once) -> None:
    samples = [*dataset_of(tmp_path, drawn(1, 2), drawn(255)).samples, Sample("x", ImageRef(tmp_path / "x.png"))]
    notes: list[str] = []
    assert mask_form(samples, names=["a", "b"], notes=notes) == MaskForm(("a", "b"), (1, 2), ignored=(255,))
    assert len(notes) == 1
    with pytest.raises(BadData, match="no image has a mask"):
        mask_form(samples[2:])


def test_every_mask_that_cannot_be_used_is_named(tmp_path: Path, at_once) -> None:
    good = [drawn(1)] * 5
    dataset = dataset_of(tmp_path, *good, drawn(1), drawn(1), drawn(1), drawn(1))
    written(tmp_path / "masks" / "5.png", drawn(1, shape=(12, 15)))
    (tmp_path / "masks" / "6.png").write_bytes(b"no image")
    (tmp_path / "images" / "7.png").unlink()
    (tmp_path / "masks" / "8.png").unlink()
    with pytest.raises(
        BadData, match=r"4 of 9 masks cannot be used, more than 1 %: masks/5.png \(mask of images/5.png"
    ):
        checked_masks(dataset, workers=1)
    found = checked_masks(dataset, workers=1, limit_bad=50)
    assert [sample.key for sample in found.samples] == [f"images/{number}.png" for number in range(5)]
    assert len(found.facts) == 5
    said = {problem.path: problem.reason for problem in found.problems}
    assert list(said) == [f"masks/{number}.png" for number in (5, 6, 7, 8)]
    assert "has 15 x 12 pixels, its image 30 x 24 pixels" in said["masks/5.png"]
    assert "its image cannot be read: there is no such file" in said["masks/7.png"]
    assert "no such file" in said["masks/8.png"]
    with pytest.raises(BadImage, match="text file"):
        mask_form(dataset.samples, workers=1)


def test_what_the_test_part_alone_has_is_not_learnt(tmp_path: Path, at_once) -> None:
    dataset = dataset_of(tmp_path, drawn(1), drawn(1, 2), drawn(1, 2, 3), splits="tte")
    found = checked_masks(dataset, workers=1, limit_bad=50)
    assert found.form.values == (1, 2) and len(found.samples) == 2
    assert "mask of images/2.png: holds 3 (25 pixels)" in found.problems[0].reason
    named = replace(dataset, mask_names={1: "a", 2: "b", 3: "c"})
    assert checked_masks(named, workers=1).form.names == ("a", "b", "c")


def test_names_and_column_of_the_data_are_used(tmp_path: Path, at_once) -> None:
    dataset = dataset_of(tmp_path, drawn(255), mask_column="vessels")
    assert checked_masks(dataset, workers=1).form.names == ("vessels",)
    assert checked_masks(dataset, workers=1, names=["artery"]).form.names == ("artery",)
    colours = dataset_of(tmp_path / "c", painted(0xFF0000), painted())
    with pytest.raises(BadData, match="masks are in colours.*#ff0000 1.74 %"):
        checked_masks(colours, workers=1)
    found = checked_masks(colours, workers=1, colours={"#ff0000": "lesion"})
    assert found.form.names == ("lesion",) and len(found.samples) == 2
    with pytest.raises(BadData, match="1 of 2 masks cannot be used.*#ff0000"):
        checked_masks(colours, workers=1, colours={"#00ff00": "lesion"}, limit_bad=0)


def test_masks_that_are_not_there_count(tmp_path: Path, at_once) -> None:
    dataset = dataset_of(tmp_path, drawn(1), drawn(1))
    bare = replace(dataset, samples=(*dataset.samples, Sample("x", ImageRef(tmp_path / "x.png"))))
    assert any("1 images have no mask" in note for note in checked_masks(bare, workers=1).notes)
    lost = tuple(Problem(f"masks/{number}.png", "no such file", part=True) for number in (7, 8))
    with pytest.raises(BadData, match="2 of 4 masks cannot be used"):
        checked_masks(replace(bare, problems=lost), workers=1)
    with pytest.raises(BadData, match="no image has a mask"):
        checked_masks(replace(dataset, samples=bare.samples[2:]), workers=1)


def test_volumes_are_compared_by_their_headers(tmp_path: Path, at_once) -> None:
    affine = np.diag([3.0, 2, 1, 1])
    for number in range(3):
        save_nifti(tmp_path / f"{number}.nii.gz", np.zeros((5, 24, 30), np.float32), affine=affine)
        off = affine + (number == 2) * np.array([[0, 0, 0, 40.0]] + [[0] * 4] * 3)
        save_nifti(tmp_path / f"m{number}.nii.gz", drawn(1, 2, shape=(5, 24, 30)), affine=off)
    refs = [(ImageRef(tmp_path / f"{n}.nii.gz"), ImageRef(tmp_path / f"m{n}.nii.gz")) for n in range(3)]
    samples = tuple(Sample(image.path.name, image, mask=mask) for image, mask in refs)
    found = checked_masks(DataSet(samples, "table", "", tmp_path), workers=1)
    assert len(found.samples) == 2 and "up to 40 mm" in found.problems[0].reason


# ---- real images ----


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "column", "made", "count"),
    [
        ("chase_db1", None, MaskForm(("foreground",), (255,)), 28),
        ("covid_cxr_seg", None, MaskForm(("label 1", "label 2"), (1, 2)), 100),
        ("covid_cxr_seg", "opacity_mask", MaskForm(("opacity",), (255,)), 100),
        ("dsb2018_nuclei", None, MaskForm(("object",), (), instances=True), 230),
        ("hippocampus_msd", None, MaskForm(("label 1", "label 2"), (1, 2)), 260),
    ],
)
def test_real_masks(shared, name: str, column: str | None, made: MaskForm, count: int) -> None:
    from medgraft.samples.dataset import Columns

    dataset = read_samples(shared(f"data/{name}/manifest.csv"), columns=Columns(mask=column))
    found = checked_masks(dataset)
    assert found.form == made and len(found.samples) == count and not found.problems
    if name == "dsb2018_nuclei":  # by the table of those who made it
        assert [len(fact.labels) for fact in found.facts] == [int(s.covariates["n_nuclei"]) for s in found.samples]
    if name == "hippocampus_msd":
        for sample, fact in zip(found.samples, found.facts, strict=True):
            assert [fact.counts[1], fact.counts[2]] == [int(sample.covariates[f"vox_label{k}"]) for k in (1, 2)]
    if column:
        assert sum(not fact.labels for fact in found.facts) == 5
