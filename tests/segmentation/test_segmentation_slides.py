"""Slides drawn on by a run whose net looks at brightness alone: numbers, names, refusals and where files go."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

from medgraft.errors import BadData
from medgraft.files import save_nifti
from medgraft.learn.engine import Engine
from medgraft.samples.framing import FrameForm
from medgraft.samples.mask_meaning import MaskForm
from medgraft.samples.picture_grid import PictureForm
from medgraft.samples.things import Parting
from medgraft.segmentation import slides
from medgraft.segmentation.opened import MaskRun
from medgraft.segmentation.results import MaskResults
from medgraft.tasks.windows import Sweep
from medgraft.values import InputSpec

TWO = MaskForm(("lesion", "vessel"), (1, 2))
HIGH, WIDE = 64, 4200


class Brightness:
    """Draws the first class where pixels are dark and the second where they are darker still."""

    sweep = Sweep((64, 512), (0, 32), (1, 1), 2)

    def __init__(self, names: tuple[str, ...], *, apart: bool = False) -> None:
        self.answers, self.apart, self.parting = SimpleNamespace(classes=names), apart, Parting()
        self.backbone = SimpleNamespace(spec=InputSpec(mean=(0.0,) * 3, std=(1.0,) * 3))

    def told(self, windows: torch.Tensor) -> torch.Tensor:
        light = windows.mean(dim=1)
        level = (light < 0.6).long() + (light < 0.25).long()
        return torch.nn.functional.one_hot(level, 3).movedim(-1, 1).float()

    def chances(self, pixels: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        yield 0, self.told(pixels[None])[0]

    def said(self, mask: np.ndarray) -> str:
        return "|".join(name for k, name in enumerate(self.answers.classes, start=1) if (mask == k).any())


def opened(form: MaskForm = TWO, *, grid: Any = None) -> MaskRun:
    run: Any = object.__new__(MaskRun)
    run.folder, run.masks = Path("runs/s"), form
    run.form = SimpleNamespace(grid=grid or PictureForm(3), axes=2)
    run.task, run.engine = Brightness(form.names, apart=form.instances), Engine("cpu")
    run.device = run.engine.device
    return run


def drawn(seed: int = 0) -> np.ndarray:
    """Get a label map as large as a small slide: blocks of both classes, and long stretches of glass."""
    labels = np.zeros((HIGH, WIDE), np.uint8)
    for number, left in enumerate(range(1200 + 100 * seed, 2400, 300)):
        labels[16:48, left : left + 120] = 1 + number % 2
    return labels


def write_slide(path: Path, labels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.array([240, 120, 40], np.uint8)[labels]
    tifffile.imwrite(path, np.repeat(pixels[..., None], 3, axis=-1), photometric="rgb", tile=(256, 256))
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


COLOURS = MaskForm(("lesion", "vessel"), (0xFF0000, 0x00FF00), colours=True)
HIGH_NUMBERS = MaskForm(("lesion", "vessel"), (7, 300))


@pytest.mark.parametrize(
    ("form", "numbers", "kind"),
    [(TWO, [0, 1, 2], np.uint8), (COLOURS, [0, 1, 2], np.uint8), (HIGH_NUMBERS, [0, 7, 300], np.uint16)],
)
def test_a_slide_has_the_numbers_of_the_users_own_and_of_colours_those_of_the_classes(tmp_path, form, numbers, kind):
    labels = drawn()
    opened(form).predict_to(tmp_path / "out", write_slide(tmp_path / "s.tif", labels))
    path = tmp_path / "out" / "masks" / "s.tif"
    found = tifffile.imread(path)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, np.array(numbers)[labels])
    with tifffile.TiffFile(path) as tiff:
        assert f"{numbers[1]} lesion, {numbers[2]} vessel" in tiff.pages[0].description


def test_slides_of_one_stem_do_not_write_over_each_other(tmp_path):
    first, second = drawn(), drawn(1)
    write_slide(tmp_path / "in" / "a" / "s.tif", first)
    write_slide(tmp_path / "in" / "b" / "S.tif", second)
    Pillow.fromarray(np.full((40, 50, 3), 40, np.uint8)).save(tmp_path / "in" / "s.png")
    done = opened().predict_to(tmp_path / "out", tmp_path / "in", workers=1)
    assert (done.count, done.failed) == (3, 0)
    names = [row["mask"] for row in rows_of(tmp_path / "out" / "predictions.csv")]
    assert names == ["masks/s.tif", "masks/S-2.tif", "masks/s-3.png"]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / names[0]), first)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / names[1]), second)
    assert {path.name for path in (tmp_path / "out" / "overlays").iterdir()} == {"s.png", "S-2.png", "s-3.png"}


def test_a_table_alone_is_written_of_slides_too_and_rows_without_any_file(tmp_path):
    labels = drawn()
    slide = write_slide(tmp_path / "in" / "s.tif", labels)
    done = opened().predict_to(tmp_path / "out.csv", slide)
    assert (done.out, done.count, done.failed) == (tmp_path / "out.csv", 1, 0)
    (row,) = rows_of(tmp_path / "out.csv")
    assert (row["predicted"], row["mask"]) == ("lesion|vessel", "")
    assert int(row["pixels_vessel"]) == int((labels == 2).sum())
    (kept,) = opened().predict_to(None, slide).rows
    assert kept["pixels_lesion"] == int((labels == 1).sum())
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out.csv"}


@pytest.mark.parametrize(
    ("form", "grid", "why"),
    [(MaskForm(("nucleus",), (), instances=True), None, "told apart"), (TWO, PictureForm(3, side=64), "64 pixels")],
)
def test_a_slide_that_cannot_be_drawn_on_is_named_and_the_rest_is_drawn(tmp_path, monkeypatch, form, grid, why):
    run = opened(form, grid=grid)
    monkeypatch.setattr(
        "medgraft.segmentation.drawing.told_apart", lambda inside, ways, seams, parting: (inside > 0) * 1
    )
    write_slide(tmp_path / "in" / "s.tif", drawn())
    Pillow.fromarray(np.full((40, 50, 3), 120, np.uint8)).save(tmp_path / "in" / "a.png")
    done = run.predict_to(tmp_path / "out.csv", tmp_path / "in", workers=1)
    assert (done.count, done.failed) == (2, 1)
    said = {Path(row["path"]).name: row for row in rows_of(tmp_path / "out.csv")}
    assert why in said["s.tif"]["error"] and said["a.png"]["error"] == ""
    assert int(said["a.png"][f"pixels_{form.names[0]}"]) == 40 * 50
    with pytest.raises(BadData, match=f"none of the 1 images.*{why}"):
        run.predict_to(tmp_path / "alone.csv", tmp_path / "in" / "s.tif")


def test_what_is_said_of_glass_is_on_the_device_of_the_net(tmp_path, monkeypatch):
    """The answers of a GPU cannot be added to numbers that lie elsewhere; "meta" stands for it here."""
    asked: list[torch.Tensor] = []

    def kept(shape, cut, *, sweep, run, blank):
        asked.append(blank)
        yield 0, torch.zeros((3, *shape))

    monkeypatch.setattr(slides, "slabs_of", kept)
    run: Any = opened()
    run.device = torch.device("meta")
    run.predict_to(tmp_path / "out", write_slide(tmp_path / "s.tif", drawn()))
    assert asked[0].device == run.device


@pytest.mark.parametrize("name", ["o.nii.gz", "o.nii", "o.gz", "o.tif", "o.json", "o.csv.gz"])
def test_pictures_are_not_written_into_files_of_another_kind(tmp_path, name):
    Pillow.fromarray(np.full((40, 50, 3), 120, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(BadData, match=r"pictures are not written as .*Give a folder, \.csv or \.png"):
        opened().predict_to(tmp_path / name, tmp_path / "a.png", workers=1)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png"}
    assert BadData.exit_code == 2


@pytest.mark.parametrize("name", ["o.png", "o.nii", "o.gz", "o.tif"])
def test_volumes_are_not_written_into_files_of_another_kind(tmp_path, name):
    with pytest.raises(BadData, match=r"volumes are not written as .*Give a folder, \.csv or \.nii\.gz"):
        MaskResults(TWO.names, TWO, tmp_path / name, volumes=True)


def test_the_file_that_is_named_is_the_one_that_is_written(tmp_path):
    Pillow.fromarray(np.full((40, 50, 3), 120, np.uint8)).save(tmp_path / "a.png")
    done = opened().predict_to(tmp_path / "out" / "B.nii.PNG", tmp_path / "a.png", workers=1)
    assert done.out is not None and done.out.name == "B.nii.PNG"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["B.nii.PNG"]
    with Pillow.open(done.out) as found:
        assert found.format == "PNG" and (np.asarray(found) == 1).all()
    with pytest.raises(BadData, match="label map of a slide is a TIFF"):
        opened().predict_to(tmp_path / "s.png", write_slide(tmp_path / "s.tif", drawn()))


def test_of_volumes_too(tmp_path):
    run: Any = opened(grid=FrameForm((1.0, 1.0, 1.0)))
    run.form.axes = 3
    run.drawn = lambda key, one: SimpleNamespace(mask=np.full((4, 5, 6), 2, np.uint8), predicted="vessel")
    save_nifti(tmp_path / "v.nii.gz", np.zeros((4, 5, 6), np.int16), affine=np.eye(4))
    done = run.predict_to(tmp_path / "Out.NII.gz", tmp_path / "v.nii.gz", workers=1)
    assert done.out == tmp_path / "Out.NII.gz" and done.out.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"v.nii.gz", "Out.NII.gz"}
