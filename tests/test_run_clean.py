"""The verb clean: keep what a run draws, paint over, cut; tables that train takes, and mistakes that are told."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

import medgraft as mg
from medgraft.cleaning.form import CleanForm
from medgraft.cleaning.picture import cleaned
from medgraft.cli import main
from medgraft.errors import BadData, BadRecipe, DiskFull, RunRefused
from medgraft.samples import read_samples
from tiny_data import make_tiny_data
from tiny_masks import make_pictures, make_volumes, picture


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_not_kept_is_black_and_what_is_kept_is_as_it_was() -> None:
    pixels = np.full((100, 140), 90, np.uint8)
    keep = np.zeros((100, 140), bool)
    keep[40:60, 50:90] = True
    keep[48:52, 60:70] = False  # a hole in it
    done = cleaned(pixels, CleanForm(), keep=keep)
    assert done.box == (0, 0, 140, 100)
    assert (done.picture[40:60, 50:90] == 90).all()
    assert (done.picture[:35] == 0).all()
    assert (done.picture[:, 95:] == 0).all()


def test_a_cut_holds_what_is_kept_and_a_margin() -> None:
    pixels = np.arange(100 * 140, dtype=np.int64).reshape(100, 140).astype(np.uint8)
    keep = np.zeros((100, 140), bool)
    keep[40:60, 50:90] = True
    done = cleaned(pixels, CleanForm(crop=True, margin=0.1, blank=False), keep=keep)
    x0, y0, x1, y1 = done.box
    assert x0 <= 50 - 4
    assert x1 >= 90 + 4
    assert y0 <= 40 - 4
    assert y1 >= 60 + 4
    assert x1 - x0 < 60
    assert (done.picture == pixels[y0:y1, x0:x1]).all()


def test_where_nothing_is_drawn_the_picture_stays_and_says_so() -> None:
    pixels = np.full((30, 40), 90, np.uint8)
    done = cleaned(pixels, CleanForm(crop=True), keep=np.zeros((30, 40), bool))
    assert (done.picture == pixels).all()
    assert "as it was" in done.told["why"]


def test_hidden_things_are_filled_from_around() -> None:
    pixels = np.full((60, 60), 100, np.uint8)
    tube = np.zeros((60, 60), bool)
    tube[:, 28:32] = True
    pixels[tube] = 255
    done = cleaned(pixels, CleanForm(), hide=tube)
    assert np.abs(done.picture.astype(int) - 100).max() <= 2


def test_masks_of_the_data_say_what_is_kept(tmp_path: Path) -> None:
    table = make_pictures(tmp_path / "pictures", count=8)
    done = mg.clean(table, out=tmp_path / "clean", keep="masks", crop=True)
    rows, facts = rows_of(tmp_path / "clean" / "manifest.csv"), rows_of(tmp_path / "clean" / "cleaned.csv")
    assert len(rows) == len(facts) == len(done.rows) == 8
    assert {row["patient"] for row in rows} == {"p000", "p001", "p002", "p003"}
    assert {row["site"] for row in rows} == {"north", "south"}
    for index, (row, fact) in enumerate(zip(rows, facts, strict=True)):
        small = np.asarray(Pillow.open(tmp_path / "clean" / row["path"]))
        labels = np.asarray(Pillow.open(tmp_path / "clean" / row["mask"]))
        pixels, mask = picture(index)
        x0, y0, x1, y1 = (int(fact[name]) for name in ("x0", "y0", "x1", "y1"))
        assert (labels == mask[y0:y1, x0:x1]).all()
        assert (mask > 0).sum() == (labels > 0).sum()  # nothing of it was cut off
        assert (small[labels > 0] == pixels[y0:y1, x0:x1][labels > 0]).all()
    assert (tmp_path / "clean" / "before-after.png").exists()
    told = json.loads((tmp_path / "clean" / "clean.json").read_text())
    assert (told["keep"], told["crop"], told["images"]) == ("masks", True, 8)


def test_label_maps_in_colour_keep_their_colours(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    colours = np.zeros((60, 70, 3), np.uint8)
    colours[10:30, 10:40], colours[40:50, 20:30] = (255, 0, 0), (0, 128, 255)
    for index in range(3):
        Pillow.fromarray(picture(index)[0][:60, :70]).save(tmp_path / "data" / "images" / f"{index}.png")
        Pillow.fromarray(colours).save(tmp_path / "data" / "masks" / f"{index}.png")
    mg.clean(tmp_path / "data", out=tmp_path / "clean", keep="masks", crop=True, margin=0.0)
    rows, facts = rows_of(tmp_path / "clean" / "manifest.csv"), rows_of(tmp_path / "clean" / "cleaned.csv")
    for row, fact in zip(rows, facts, strict=True):
        x0, y0, x1, y1 = (int(fact[name]) for name in ("x0", "y0", "x1", "y1"))
        written = np.asarray(Pillow.open(tmp_path / "clean" / row["mask"]))
        assert (written == colours[y0:y1, x0:x1]).all()


def test_a_run_says_what_is_kept_and_new_images_are_cleaned_alike(tmp_path: Path) -> None:
    table = make_pictures(tmp_path / "pictures", count=20)
    settings = {"masks.width": 8, "masks.patches": 8, "fit.batch_size": 8, "scores.resamples": 100}
    words = {"backbone": "embedded:resnet10t_small", "device": "cpu", "offline": True}
    mg.train(table, out=tmp_path / "run", epochs=3, settings=settings, label_column="none", **words)
    first = mg.clean(table, out=tmp_path / "one", keep=tmp_path / "run", device="cpu")
    assert len(first.rows) == 20
    new = tmp_path / "new"
    new.mkdir()
    Pillow.fromarray(picture(50)[0]).save(new / "a.png")
    second = mg.clean(new, out=tmp_path / "two", like=tmp_path / "one", device="cpu")
    assert len(second.rows) == 1
    shown = np.asarray(Pillow.open(tmp_path / "two" / "images" / "a.png"))
    mask = picture(50)[1]
    assert (shown == 0).mean() > 0.3
    assert (shown[mask == 1] > 0).mean() > 0.7


def test_letters_are_painted_over_and_the_data_are_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    for kind, level in (("ill", 150), ("well", 90)):
        (folder / kind).mkdir(parents=True)
        for index in range(12):
            noise = np.random.default_rng([level, index]).normal(level, 10, (120, 120))
            drawn = Pillow.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
            if kind == "ill":
                ImageDraw.Draw(drawn).text((6, 6), "R", fill=255, font=ImageFont.load_default(size=14))
            drawn.save(folder / kind / f"{index}.png")
    done = mg.clean(folder, out=tmp_path / "clean", marks=True)
    rows = rows_of(tmp_path / "clean" / "manifest.csv")
    assert [row["label"] for row in rows].count("ill") == 12
    marked = {row["source"]: int(row["marks"]) for row in rows_of(tmp_path / "clean" / "cleaned.csv")}
    assert sum(marked[name] > 0 for name in marked if "/ill/" in name) >= 10
    assert sum(marked[name] > 0 for name in marked if "/well/" in name) == 0
    assert any("painted over" in line for line in done.lines())
    plan = mg.plan(tmp_path / "clean" / "manifest.csv", offline=True, patients_unknown=True)
    assert plan.task == "classify"


@pytest.mark.slow
def test_what_a_cleaning_is_worth_is_told_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "films"
    rows = ["path,label,patient,mask"]
    data.mkdir()
    inside = np.zeros((96, 96), np.uint8)
    inside[34:80, 30:80] = 1
    Pillow.fromarray(inside).save(data / "inside.png")
    for number in range(72):
        dice = np.random.default_rng(number)
        drawn = Pillow.fromarray(np.clip(dice.normal(70, 12, (96, 96)), 0, 255).astype(np.uint8))
        ill = number % 2 == 1
        if ill:  # nothing but a letter tells the classes apart
            ImageDraw.Draw(drawn).text((8, 8), "R", fill=255, font=ImageFont.load_default(size=16))
        drawn.save(data / f"{number:02d}.png")
        rows.append(f"{number:02d}.png,{'ill' if ill else 'well'},p{number // 2},inside.png")
    (data / "films.csv").write_text("\n".join(rows) + "\n")
    argv = ["clean", data / "films.csv", "--keep", "masks", "--crop", "--compare"]
    argv += ["--mask-column", "mask", "--out", tmp_path / "clean", "--json"]
    monkeypatch.setattr(sys, "argv", ["medgraft", *map(str, argv)])
    main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["auroc"]
    assert told == json.loads((tmp_path / "clean" / "compared.json").read_text())["auroc"]
    before, after, difference = (told[name] for name in ("before", "after", "difference"))
    assert before["value"] > 0.9
    assert after["value"] < before["value"] - 0.15
    assert difference["value"] == pytest.approx(after["value"] - before["value"])
    assert difference["low"] < -0.15 and difference["low"] <= difference["value"] <= difference["high"] <= 0
    assert difference["n"] == before["n"] == after["n"] >= 10
    ours, theirs = (
        {row["patient"]: row["split"] for row in rows_of(tmp_path / "clean" / side / "samples.csv")}
        for side in ("before", "after")
    )
    assert ours == theirs


@pytest.mark.slow
def test_numbers_have_no_auroc(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.csv"
    lines = ["path,label"]
    for number in range(24):
        noise = np.random.default_rng(number).integers(0, 255, (64, 64)).astype(np.uint8)
        Pillow.fromarray(noise).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{number * 1.37:.3f}")
    numbers.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadData, match="an AUROC is of classes"):
        mg.clean(numbers, out=tmp_path / "clean", marks=True, compare=True)


def test_mistakes_are_told(tmp_path: Path) -> None:
    table = make_pictures(tmp_path / "pictures", count=4)
    with pytest.raises(BadRecipe, match="nothing is asked for"):
        mg.clean(table, out=tmp_path / "a")
    with pytest.raises(BadRecipe, match="needs something to keep"):
        mg.clean(table, out=tmp_path / "a", marks=True, crop=True)
    with pytest.raises(BadRecipe, match="Did you mean marks"):
        mg.clean(table, out=tmp_path / "a", mark=True)
    with pytest.raises(BadData, match="no such file"):
        mg.clean(tmp_path / "nowhere", out=tmp_path / "a", marks=True)
    with pytest.raises(BadData, match="holds no clean.json"):
        mg.clean(table, out=tmp_path / "a", like=tmp_path)
    with pytest.raises(RunRefused, match="not empty"):
        mg.clean(table, out=tmp_path / "pictures", marks=True)
    with pytest.raises(RunRefused, match="no run folder"):
        mg.clean(table, out=tmp_path / "a", keep=tmp_path)
    scans = make_volumes(tmp_path / "scans", count=3)
    with pytest.raises(BadData, match="volume"):
        mg.clean(scans, out=tmp_path / "b", marks=True)
    unmasked = make_tiny_data(tmp_path / "plain", patients=4)
    with pytest.raises(BadData, match="no label map"):
        mg.clean(unmasked, out=tmp_path / "c", keep="masks")


def test_missing_files_of_a_table_are_told_and_tolerated_as_asked(tmp_path: Path) -> None:
    table = make_pictures(tmp_path / "pictures", count=4)
    lines = table.read_text().splitlines()
    cells = lines[1].split(",")
    lines += [line.replace(cells[0], f"nope{number}.png") for number, line in enumerate(lines[1:2] * 3)]
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadData, match="3 of 7 files in the table are missing"):
        mg.clean(table, out=tmp_path / "a", marks=True)
    done = mg.clean(table, out=tmp_path / "b", marks=True, limit_bad=60)
    assert len(done.rows) == 4
    assert [path for path, _ in done.problems] == ["nope0.png", "nope1.png", "nope2.png"]


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones((30, 20), np.uint8), "the mask has 20 x 30 pixels, its image 40 x 30 pixels"),
        (np.full((30, 40), 70000, np.uint32), "holds the number 70000, and a PNG holds none above 65535"),
    ],
)
def test_a_label_map_that_does_not_fit_is_told_and_not_spoiled(tmp_path: Path, mask: np.ndarray, said: str) -> None:
    rows = ["path,mask"]
    for number, labels in enumerate([np.ones((30, 40), np.uint8), mask]):
        noise = np.random.default_rng(number).integers(0, 200, (30, 40)).astype(np.uint8)
        Pillow.fromarray(noise).save(tmp_path / f"{number}.png")
        np.save(tmp_path / f"{number}.npy", labels)
        rows.append(f"{number}.png,{number}.npy")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    done = mg.clean(tmp_path / "table.csv", out=tmp_path / "clean", marks=True)
    assert len(done.rows) == 1
    assert said in done.problems[0][1]
    assert [item.name for item in (tmp_path / "clean" / "images").iterdir()] == ["0.png"]


def test_a_full_disk_is_no_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_pictures(tmp_path / "pictures", count=2)

    def full(path: Path, array: np.ndarray) -> None:
        raise DiskFull("no space is left", where=path)

    monkeypatch.setattr("medgraft.cleaning.work.save_png", full)
    with pytest.raises(DiskFull):
        mg.clean(table, out=tmp_path / "clean", marks=True, limit_bad=100)


def test_labels_that_a_spreadsheet_would_run_stay_what_they_are(tmp_path: Path) -> None:
    rows = ["path,label,@site"]
    for number, label in enumerate(("+pos", "-neg", "=1")):
        Pillow.fromarray(picture(number)[0]).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{label},@{number}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    mg.clean(tmp_path / "table.csv", out=tmp_path / "clean", marks=True)
    assert "'+pos" in (tmp_path / "clean" / "manifest.csv").read_text()
    again = read_samples(tmp_path / "clean" / "manifest.csv").samples
    assert [sample.label for sample in again] == ["+pos", "-neg", "=1"]
    assert [sample.covariates for sample in again] == [{"@site": f"@{number}"} for number in range(3)]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grays_of_16_bits_stay_and_letters_are_found_in_them(tmp_path: Path, ending: str) -> None:
    pixels = np.random.default_rng(0).integers(1000, 4600, (120, 120)).astype(np.uint16)
    drawn = Pillow.new("L", (120, 120))
    ImageDraw.Draw(drawn).text((6, 6), "R", fill=255, font=ImageFont.load_default(size=14))
    pixels[np.asarray(drawn) > 128] = 8000
    Pillow.fromarray(pixels).save(tmp_path / f"film.{ending}")
    done = mg.clean(tmp_path / f"film.{ending}", out=tmp_path / "clean", marks=True)
    written = np.asarray(Pillow.open(tmp_path / "clean" / "images" / "film.png"))
    assert written.dtype == np.uint16
    assert done.rows[0]["marks"] == 1
    assert written[:30, :30].max() < 6000
    assert (written[40:] == pixels[40:]).all()
    shown = np.asarray(Pillow.open(tmp_path / "clean" / "before-after.png"))
    assert np.median(shown[100:300, 20:300]) > 60


def test_nothing_is_asked_beside_the_settings_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_pictures(tmp_path / "pictures", count=1)
    mg.clean(table, out=tmp_path / "first", marks=True)
    for more in ({"crop": True}, {"keep": "masks"}, {"margin": 0.2}):
        with pytest.raises(BadRecipe, match="was asked for beside it"):
            mg.clean(table, out=tmp_path / "a", like=tmp_path / "first", **more)
    words = ["medgraft", "clean", str(table), "--like", str(tmp_path / "first"), "--out", str(tmp_path / "a")]
    monkeypatch.setattr(sys, "argv", [*words, "--margin", "0.05"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    monkeypatch.setattr(sys, "argv", words)
    main()
    assert (tmp_path / "a" / "manifest.csv").exists()


@pytest.mark.parametrize("margin", ['"x"', "true", "null"])
def test_settings_without_a_meaning_are_told(tmp_path: Path, margin: str) -> None:
    (tmp_path / "clean.json").write_text("[1]")
    with pytest.raises(BadData, match=r"holds no clean\.json"):
        mg.clean(tmp_path, out=tmp_path / "a", like=tmp_path)
    kept = '"keep": null, "hide": null, "marks": true, "crop": false, "blank": true'
    (tmp_path / "clean.json").write_text(f'{{{kept}, "margin": {margin}}}')
    with pytest.raises(BadData, match="margin is"):
        mg.clean(tmp_path, out=tmp_path / "a", like=tmp_path)


def test_long_names_are_cut_and_stay_different(tmp_path: Path) -> None:
    deep = tmp_path / "data" / ("a" * 100) / ("ö" * 100)
    deep.mkdir(parents=True)
    for number in range(2):
        Pillow.fromarray(picture(number)[0]).save(deep / f"{number}.png")
    done = mg.clean(tmp_path / "data", out=tmp_path / "clean", marks=True)
    names = {Path(row["path"]).name for row in done.rows}
    assert len(names) == 2
    assert max(len(name.encode()) for name in names) < 140


def test_progress_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    table = make_pictures(tmp_path / "pictures", count=2)
    argv = ["medgraft", "clean", str(table), "--marks", "--out", str(tmp_path / "clean")]
    monkeypatch.setattr(sys, "argv", argv)
    main()
    assert "reading images" in capsys.readouterr().err
