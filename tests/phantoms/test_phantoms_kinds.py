"""Every kind: same seed, same picture; and what is said of a picture agrees with what is painted."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from medgraft.errors import UnknownName
from medgraft.phantoms import KINDS, VOLUMES
from medgraft.phantoms.case import Case, patient_of
from medgraft.phantoms.opacities import severities

SIZE = 96
FLAT = [kind for kind in KINDS if kind not in VOLUMES]
HEALTHY = {"fundus": "healthy", "chest": "clear", "glomeruli": "none", "keratitis": "healthy"}


@pytest.fixture(scope="module")
def cases() -> dict[str, list[Case]]:
    return {kind: [KINDS[kind](index, seed=3, size=SIZE) for index in range(30)] for kind in FLAT}


def digest(case: Case) -> str:
    parts = [case.pixels.tobytes(), case.mask.tobytes(), repr((case.label, case.grade, case.lesions)).encode()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("kind", FLAT)
def test_same_seed_gives_the_same_bits_in_any_order(kind: str, cases: dict[str, list[Case]]):
    for index in (17, 3, 0):
        assert digest(KINDS[kind](index, seed=3, size=SIZE)) == digest(cases[kind][index])


@pytest.mark.parametrize("kind", FLAT)
def test_other_seeds_and_numbers_give_other_pictures(kind: str, cases: dict[str, list[Case]]):
    everything = [case.pixels.tobytes() for case in cases[kind]]
    everything += [KINDS[kind](index, seed=4, size=SIZE).pixels.tobytes() for index in range(5)]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("kind", FLAT)
def test_shapes_names_and_statistics(kind: str, cases: dict[str, list[Case]]):
    for case in cases[kind]:
        assert case.pixels.dtype == np.uint8
        assert case.pixels.shape == ((SIZE, SIZE) if kind == "chest" else (SIZE, SIZE, 3))
        assert case.mask.shape == (SIZE, SIZE) and case.mask.dtype == np.uint8
        assert case.name.startswith(f"phantom_{kind}_") and case.patient.startswith("phantom-")
        assert 20 < case.pixels.mean() < 235 and case.pixels.std() > 12
        assert case.mask.max() < len(case.mask_names)
        assert all(isinstance(value, str) for value in case.covariates.values())
        if case.anatomy is not None:
            assert case.anatomy.max() < len(case.anatomy_names)
    assert len({case.name for case in cases[kind]}) == len(cases[kind])


@pytest.mark.parametrize("kind", FLAT)
def test_every_lesion_is_in_the_mask_at_its_centre(kind: str, cases: dict[str, list[Case]]):
    for case in cases[kind]:
        assert bool(case.lesions) == bool(case.mask.any())
        for lesion in case.lesions:
            row, column = round(lesion.row), round(lesion.column)
            assert case.mask[row, column] > 0, (case.name, lesion)
            assert lesion.kind in case.mask_names and lesion.radius > 0
            near = case.mask[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4]
            assert near.any()


@pytest.mark.parametrize("kind", list(HEALTHY))
def test_the_label_follows_from_the_lesions(kind: str, cases: dict[str, list[Case]]):
    for case in cases[kind]:
        assert (case.label == HEALTHY[kind]) == (not case.lesions)


@pytest.mark.parametrize("kind", FLAT)
def test_both_classes_are_common(kind: str, cases: dict[str, list[Case]]):
    labels = [case.label for case in cases[kind]]
    counts = [labels.count(label) for label in set(labels)]
    assert len(counts) == 2 and min(counts) >= 8


def test_two_eyes_of_a_patient_agree(cases: dict[str, list[Case]]):
    eyes = cases["fundus"]
    pairs = list(zip(eyes[::2], eyes[1::2], strict=True))
    for right, left in pairs:
        assert right.patient == left.patient
        assert (right.covariates["eye"], left.covariates["eye"]) == ("right", "left")
        shared = ("age", "sex", "camera")
        assert all(right.covariates[name] == left.covariates[name] for name in shared)
        assert abs((right.grade or 0) - (left.grade or 0)) <= 2
    assert sum(right.grade == left.grade for right, left in pairs) > len(pairs) / 2
    assert len({case.patient for case in eyes}) == len(pairs)


def test_the_disc_lies_on_the_side_of_the_nose(cases: dict[str, list[Case]]):
    for case in cases["fundus"]:
        assert case.anatomy is not None
        column = np.argwhere(case.anatomy == case.anatomy_names.index("disc"))[:, 1].mean()
        assert (column > SIZE / 2) == (case.covariates["eye"] == "right")


def test_fundus_lesions_are_inside_the_field_and_outside_is_black(cases: dict[str, list[Case]]):
    for case in cases["fundus"]:
        assert case.anatomy is not None
        outside = case.anatomy == 0
        assert not case.mask[outside].any()
        assert case.pixels[outside].mean() < 20 < case.pixels[~outside].mean()


@pytest.fixture(scope="module")
def by_grade() -> dict[int, list[Case]]:
    found: dict[int, list[Case]] = {grade: [] for grade in range(5)}
    for index in range(80):
        case = KINDS["fundus"](index, seed=8, size=64)
        assert case.grade is not None
        found[case.grade].append(case)
    return found


def test_grades_mean_what_the_scale_says(by_grade: dict[int, list[Case]]):
    found = by_grade
    assert all(found.values()), "every grade occurs"
    kinds = {grade: [{lesion.kind for lesion in case.lesions} for case in found[grade]] for grade in found}
    assert all(not names for names in kinds[0])
    assert all(names == {"microaneurysm"} for names in kinds[1])
    assert all({"microaneurysm", "haemorrhage"} <= names and "new_vessels" not in names for names in kinds[2])
    assert all("new_vessels" not in names for names in kinds[3])
    assert all("new_vessels" in names for names in kinds[4])
    bleeding = [
        np.mean([sum(lesion.kind == "haemorrhage" for lesion in case.lesions) for case in found[grade]])
        for grade in range(4)
    ]
    assert bleeding[0] == bleeding[1] == 0 < bleeding[2] < bleeding[3]


def test_area_of_lesions_grows_with_the_grade(by_grade: dict[int, list[Case]]):
    means = [float(np.mean([(case.mask > 0).sum() for case in by_grade[grade]])) for grade in range(4)]
    assert means == sorted(means) and len(set(means)) == 4


def test_a_microaneurysm_is_darker_than_its_surroundings():
    darker, total = 0, 0
    for index in range(16):
        case = KINDS["fundus"](index, seed=2, size=224)
        green = case.pixels[..., 1].astype(float)
        for lesion in case.lesions:
            if lesion.kind != "microaneurysm":
                continue
            row, column = round(lesion.row), round(lesion.column)
            ring = green[row - 5 : row + 6, column - 5 : column + 6]
            darker += green[row - 1 : row + 2, column - 1 : column + 2].mean() < ring.mean()
            total += 1
    assert total > 50 and darker / total > 0.85


def test_severity_of_the_zones_follows_the_mask(cases: dict[str, list[Case]]):
    for case in cases["chest"]:
        assert case.anatomy is not None
        scores = [int(case.covariates[f"z{zone}"]) for zone in range(1, 7)]
        assert scores == severities(np.where(case.anatomy <= 6, case.anatomy, 0), case.mask)
        assert int(case.covariates["severity"]) == sum(scores)
        assert (sum(scores) > 0) == bool(case.lesions)


def test_severity_grows_with_the_opaque_area():
    scores, areas = [], []
    for index in range(60):
        case = KINDS["chest"](index, seed=6, size=64)
        assert case.anatomy is not None
        lung = (case.anatomy > 0) & (case.anatomy <= 6)
        scores.append(int(case.covariates["severity"]))
        areas.append(float((case.mask[lung] > 0).mean()))
    assert np.corrcoef(scores, areas)[0, 1] > 0.9
    assert max(scores) >= 6


def test_opacities_lie_in_the_lungs_and_are_brighter_than_the_lung_round_them():
    contrasts = []
    for index in range(30):
        case = KINDS["chest"](index, seed=5, size=96)
        assert case.anatomy is not None
        lung = (case.anatomy > 0) & (case.anatomy <= 6)
        assert (case.mask[~lung & (case.anatomy != 7)] > 0).sum() <= 3
        ill = (case.mask > 0) & lung
        ring = ndimage.binary_dilation(ill, iterations=7) & lung & ~ndimage.binary_dilation(ill, iterations=2)
        if ill.sum() > 30 and ring.sum() > 30:
            contrasts.append(case.pixels[ill].mean() - case.pixels[ring].mean())
    assert len(contrasts) > 8 and np.mean(contrasts) > 8 and np.mean(np.array(contrasts) > 0) > 0.8


def test_the_lungs_are_darker_than_the_belly(cases: dict[str, list[Case]]):
    for case in cases["chest"]:
        if case.label == "clear":
            assert case.anatomy is not None
            lung = (case.anatomy > 0) & (case.anatomy <= 6)
            assert case.pixels[lung].mean() + 20 < case.pixels[-8:, SIZE // 4 : -SIZE // 4].mean()


def test_chest_has_sixteen_bits_when_asked():
    deep = KINDS["chest"](1, seed=0, size=SIZE, bits=16)
    flat = KINDS["chest"](1, seed=0, size=SIZE)
    assert deep.pixels.dtype == np.uint16 and len(np.unique(deep.pixels)) > 2000
    assert np.abs(deep.pixels / 257 - flat.pixels).max() <= 0.51


def test_a_skin_lesion_has_one_piece_of_truth_and_is_darker(cases: dict[str, list[Case]]):
    darker = []
    for case in cases["skin"]:
        assert len(case.lesions) == 1 and case.lesions[0].kind == case.label
        inside = case.mask > 0
        assert 0.01 < inside.mean() < 0.6
        assert set(np.unique(case.mask)) == {0, case.mask_names.index(case.label)}
        darker.append(case.pixels[inside].mean() < case.pixels[SIZE // 4 : -SIZE // 4][:, SIZE // 4 : -SIZE // 4].max())
    assert all(darker)


def test_an_infiltrate_is_in_the_cornea_and_paler_than_what_it_covers(cases: dict[str, list[Case]]):
    paler = []
    for case in cases["keratitis"]:
        assert case.anatomy is not None
        inside = np.isin(case.anatomy, [case.anatomy_names.index(name) for name in ("iris", "pupil")])
        wide = ndimage.binary_dilation(inside, iterations=3)
        assert not case.mask[~wide].any()
        spot = case.mask == case.mask_names.index("infiltrate")
        rest = inside & (case.mask == 0)
        if case.covariates["light"] == "plain" and spot.sum() > 10:
            paler.append(case.pixels[spot].mean() - case.pixels[rest].mean())
    assert len(paler) > 3 and np.mean(paler) > 30


def test_two_photographs_of_an_eye_agree(cases: dict[str, list[Case]]):
    seen: dict[str, Case] = {}
    for case in cases["keratitis"]:
        other = seen.setdefault(case.patient, case)
        assert other.label == case.label
        assert all(other.covariates[name] == case.covariates[name] for name in ("age", "sex"))
    assert len(seen) < len(cases["keratitis"])


def test_a_defect_takes_up_dye_under_cobalt_light():
    greener = []
    for index in range(40):
        case = KINDS["keratitis"](index, seed=9, size=48)
        assert case.anatomy is not None
        kinds = [case.mask_names.index(name) for name in ("infiltrate", "defect")]
        lesion, cornea = np.isin(case.mask, kinds), case.anatomy == case.anatomy_names.index("iris")
        dyed = case.covariates["light"] == "cobalt" and any(one.kind == "defect" for one in case.lesions)
        if dyed and lesion.sum() > 15:
            here, there = (case.pixels[part].mean(axis=0) for part in (lesion, cornea & (case.mask == 0)))
            greener.append(here[1] / here[2] > 1.5 * there[1] / there[2])
    assert greener and all(greener)


def test_eyes_are_red_in_health_too_but_less_often(cases: dict[str, list[Case]]):
    """Redness of the white: ill eyes have more, and no threshold parts the two."""
    found: dict[str, list[float]] = {"healthy": [], "keratitis": []}
    for index in range(40):
        case = KINDS["keratitis"](index, seed=4, size=48)
        if case.covariates["light"] == "plain":
            assert case.anatomy is not None
            white = case.pixels[case.anatomy == case.anatomy_names.index("white")].mean(axis=0)
            found[case.label].append(float(white[0] - white[1]))
    healthy, ill = found["healthy"], found["keratitis"]
    assert np.median(ill) > np.median(healthy) and max(healthy) > min(ill)


def test_patients_come_in_blocks_and_images_stay_together():
    found = [patient_of(index, sizes=(1, 2, 3)) for index in range(12)]
    assert found[:6] == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert found[6:] == [(number + 3, place) for number, place in found[:6]]


def test_an_unknown_kind_is_named_with_its_neighbour():
    with pytest.raises(UnknownName, match="fundus"):
        KINDS["fundos"]
