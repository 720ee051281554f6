"""The survey: facts, and warnings that keep a result honest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medgraft.errors import BadData
from medgraft.files import save_png, write_dicom
from medgraft.samples.bias import cramers_v
from medgraft.samples.dataset import Problem, read_samples, tolerated
from medgraft.samples.facts import facts_of
from medgraft.samples.survey import Survey, limit_bad, survey, usable


def paint(path: Path, seed: int, shape: tuple[int, ...] = (24, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def look(folder: Path) -> Survey:
    dataset = read_samples(folder, limit_bad=100)
    return survey(dataset, facts_of(dataset.samples, workers=1))


def warned(found: Survey, *words: str) -> bool:
    return any(all(word in text for word in words) for text in found.warnings)


def test_the_facts_of_a_small_set(tmp_path):
    rows = ["path,label,patient,split"]
    for n in range(12):
        paint(tmp_path / f"{n}.png", n, (24, 32) if n < 8 else (30, 30))
        rows.append(f"{n}.png,{'ab'[n % 2]},p{n // 4},{('train', 'val', 'test')[n // 4]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    found = look(tmp_path)
    assert (found.images, found.labelled, found.patients) == (12, 12, 3)
    assert found.classes == {
        "a": {"all": 6, "train": 2, "val": 2, "test": 2},
        "b": {"all": 6, "train": 2, "val": 2, "test": 2},
    }
    assert found.splits == {"train": 4, "val": 4, "test": 4}
    assert found.images_per_patient == {"low": 4, "median": 4, "high": 4}
    assert found.width == {"low": 30, "median": 32, "high": 32}
    assert found.height == {"low": 24, "median": 24, "high": 30}
    assert found.shapes == {"1 x 24 x 32": 8, "1 x 30 x 30": 4}
    assert found.bits == {"8": 12}
    assert (found.gray, found.gray_in_rgb) == (12, 0)
    assert found.intensity["8-bit"]["mean"] == pytest.approx(127.5, abs=4)
    assert found.target is not None and found.target[0] == "classes"
    assert found.leaks == ()
    assert found.preset == "generic"


def test_it_is_strict_json(tmp_path):
    for n in range(4):
        paint(tmp_path / "ab"[n % 2] / f"{n}.png", n // 2)
    found = look(tmp_path)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["duplicates"]["exact"] == 2
    assert values["duplicates"]["pairs"][0]["kind"] == "exact"
    assert values["leaks"] == {"count": 0, "kinds": {}, "pairs": []}
    assert set(values) == set(Survey.__dataclass_fields__)


def test_unreadable_and_missing_files_are_in_the_quarantine(tmp_path):
    for n in range(4):
        paint(tmp_path / f"{n}.png", n)
    (tmp_path / "bad.png").write_bytes((tmp_path / "0.png").read_bytes()[:300])
    rows = "".join(
        f"{name}.png,{label}\n" for name, label in zip(["0", "1", "2", "3", "bad", "gone"], "ababab", strict=True)
    )
    (tmp_path / "labels.csv").write_text(f"path,label\n{rows}")
    found = look(tmp_path)
    assert found.images == 4
    assert {problem.path for problem in found.quarantine} == {"gone.png", "bad.png"}
    assert all(problem.reason for problem in found.quarantine)


def test_the_limit_of_bad_files(tmp_path):
    for n in range(40):
        paint(tmp_path / "ab"[n % 2] / f"{n}.png", n)
    dataset = read_samples(tmp_path)
    records = facts_of(dataset.samples, workers=1)

    def broken(count: int) -> list[dict]:
        return [{"key": r["key"], "error": "truncated"} if n < count else r for n, r in enumerate(records)]

    assert limit_bad(dataset, broken(0)) == []
    assert limit_bad(dataset, broken(1)) == [Problem(dataset.samples[0].key, "truncated")]
    with pytest.raises(
        BadData, match=r"2 of 40 files cannot be used, more than 1 %: a/0\.png \(truncated\).*--limit-bad"
    ):
        limit_bad(dataset, broken(2))
    assert len(limit_bad(dataset, broken(2), percent=5)) == 2
    with pytest.raises(BadData, match="1 of 40"):
        limit_bad(dataset, broken(1), percent=0)
    assert len(usable(dataset, broken(3))) == 37


@pytest.mark.parametrize(
    ("total", "percent", "count"), [(10, 1, 1), (99, 1, 1), (200, 1, 2), (1000, 0.5, 5), (50, 0, 0)]
)
def test_how_many_bad_files_are_tolerated(total, percent, count):
    assert tolerated(total, percent) == count


def test_all_bad_is_refused_even_when_one_is_tolerated(tmp_path):
    paint(tmp_path / "a" / "1.png", 0)
    dataset = read_samples(tmp_path)
    with pytest.raises(BadData, match="1 of 1"):
        limit_bad(dataset, [{"key": "a/1.png", "error": "broken"}])


def test_leaks_and_contradictory_copies_are_warned_of(tmp_path):
    for n in range(6):
        paint(tmp_path / "train" / "ab"[n % 2] / f"{n}.png", n)
    paint(tmp_path / "test" / "a" / "x.png", 1)  # the same pixels as train/b/1.png
    paint(tmp_path / "test" / "b" / "y.png", 50)
    found = look(tmp_path)
    assert [(leak.kind, leak.first, leak.second) for leak in found.leaks] == [
        ("exact", "train/b/1.png", "test/a/x.png")
    ]
    assert warned(found, "given splits share 1 pairs")
    assert warned(found, "1 pairs of copies have different labels", "test/a/x.png (a)", "train/b/1.png (b)")


def test_copies_under_two_patients_are_warned_of(tmp_path):
    for n in range(4):
        paint(tmp_path / f"{n}.png", n % 3)
    (tmp_path / "labels.csv").write_text("path,label,patient\n0.png,a,p\n1.png,b,q\n2.png,b,r\n3.png,a,s\n")
    assert warned(look(tmp_path), "1 pairs of copies carry different patients", "0.png and 3.png")


def test_gray_in_colour_and_mixtures_are_said(tmp_path):
    for n in range(3):
        gray = np.random.default_rng(n).integers(0, 256, (16, 16, 1), dtype=np.uint8)
        (tmp_path / "a").mkdir(exist_ok=True)
        save_png(tmp_path / "a" / f"{n}.png", np.repeat(gray, 3, axis=2))
        paint(tmp_path / "b" / f"{n}.png", n + 10, (16, 16, 3))
    found = look(tmp_path)
    assert (found.gray, found.gray_in_rgb) == (3, 3)
    assert any("3 of 6 images are gray but stored with three channels" in note for note in found.notes)
    assert warned(found, "3 colour and 3 gray images are mixed")


def test_classes_with_too_few_patients_are_warned_of(tmp_path):
    rows = ["path,label,patient"]
    for n in range(10):
        paint(tmp_path / f"{n}.png", n)
        rows.append(f"{n}.png,{'rare' if n < 4 else 'common'},p{n // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert warned(look(tmp_path), "fewer than 3 patients", "'rare' (2)")
    assert not warned(look(tmp_path), "'common'")


def test_numbers_have_a_range_and_no_classes(tmp_path):
    rows = ["path,label"]
    for n in range(12):
        paint(tmp_path / f"{n}.png", n)
        rows.append(f"{n}.png,{n / 4}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    found = look(tmp_path)
    assert found.classes is None
    assert found.labels == {"low": 0, "median": 1.375, "high": 2.75}


def test_a_scanner_that_gives_the_class_away_is_warned_of(tmp_path):
    for n in range(40):
        sick = n % 2
        write_dicom(
            tmp_path / ("sick" if sick else "well") / f"{n}.dcm",
            np.random.default_rng(n).integers(0, 4096, (16, 16), dtype=np.uint16),
            PatientID=f"p{n}",
            Modality="DX",
            Manufacturer="Acme" if sick else "Bolt",
            PhotometricInterpretation="MONOCHROME1" if sick else "MONOCHROME2",
            PixelSpacing=[0.2, 0.2],
        )
    found = look(tmp_path)
    assert warned(found, "source correlates with class", "manufacturer", "0% of the rest")
    assert warned(found, "MONOCHROME1")
    assert found.modalities == {"DX": 40}
    assert found.preset == "chest"
    assert found.spacing_mm == {"low": 0.2, "median": 0.2, "high": 0.2}
    assert found.patients == 40


def test_a_scanner_that_is_shared_fairly_is_not_warned_of(tmp_path):
    for n in range(40):
        write_dicom(
            tmp_path / ("sick" if n % 2 else "well") / f"{n}.dcm",
            np.random.default_rng(n).integers(0, 4096, (16, 16), dtype=np.uint16),
            PatientID=f"p{n}",
            Manufacturer="Acme" if n % 4 < 2 else "Bolt",
        )
    assert not warned(look(tmp_path), "source correlates")


def test_a_column_named_site_is_a_source_and_sex_is_none(tmp_path):
    rows = ["path,label,site,sex"]
    for n in range(40):
        paint(tmp_path / f"{n}.png", n, (8, 8))
        rows.append(f"{n}.png,{'ab'[n % 2]},{'NS'[n % 2]},{'FM'[n % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    found = look(tmp_path)
    assert warned(found, "source correlates with class", "'site'")
    assert not warned(found, "'sex'")


def test_cramers_v_against_known_values():
    rng = np.random.default_rng(0)
    assert cramers_v(list("aabb") * 50, list("xxyy") * 50) == pytest.approx(1, abs=0.01)
    assert cramers_v(list("abab") * 50, list("xxyy") * 50) == 0
    assert cramers_v(["a"] * 9, list("xyz") * 3) == 0
    assert cramers_v([], []) == 0
    chance = [cramers_v(rng.integers(0, 8, 100).tolist(), rng.integers(0, 4, 100).tolist()) for _ in range(100)]
    assert float(np.mean(chance)) < 0.08, "many levels and few images must not look like an association"
    # 2 x 2 table 40 10 / 20 30: chi2 = 16.667, phi2 = 1/6, corrected by Bergsma's formula
    one = ["a"] * 50 + ["b"] * 50
    other = ["x"] * 40 + ["y"] * 10 + ["x"] * 20 + ["y"] * 30
    assert cramers_v(one, other) == pytest.approx(np.sqrt((1 / 6 - 1 / 99) / (1 - 1 / 99)), rel=1e-6)


@pytest.mark.slow
def test_real_covid_images_come_from_another_source(shared):
    found = look(shared("data/covid_cxr"))
    assert warned(found, "source correlates with class", "shape of the image", "'covid'")
    assert (found.images, found.patients, found.preset) == (1124, 682, "chest")
    assert found.duplicates.count("exact") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "preset", "images"),
    [("ham10000_sub", "skin", 1329), ("odir5k_sub", "fundus", 1200), ("cxr_pneumonia_624", "chest", 624)],
)
def test_real_sets_have_no_false_alarm(shared, name, preset, images):
    found = look(shared(f"data/{name}"))
    assert (found.images, found.preset) == (images, preset)
    assert found.leaks == ()
    assert not warned(found, "source correlates")
    assert found.quarantine == ()
