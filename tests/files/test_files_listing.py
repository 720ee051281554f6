"""Which images a folder holds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import zoo_series
import zoo_tiff
from PIL import Image as Pillow
from zoo_other import HTML, nifti, pair
from zoo_raster import PNG_RGB, moving

from medgraft.errors import BadImage
from medgraft.files import list_images, read_image, save_png, write_dicom
from medgraft.files.listing import ref_named
from medgraft.values import ImageRef

SLICE = np.arange(48, dtype=np.int16).reshape(6, 8)


def listed(folder: Path, **options: bool) -> tuple[list[str], dict[str, str]]:
    problems: dict[str, str] = {}
    refs = list_images(folder, on_problem=lambda p, why: problems.update({p.name: why}), **options)
    return [
        str(ref.path.relative_to(folder)) + (f"#{ref.index}" if ref.index is not None else "") for ref in refs
    ], problems


def test_a_folder_is_walked_in_order_without_system_files(tmp_path: Path) -> None:
    for name in (
        "b/2.png",
        "b/10.png",
        "a/x.PNG",
        "._x.png",
        ".hidden/y.png",
        "Thumbs.db",
        ".DS_Store",
        "__MACOSX/z.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PNG_RGB)
    names, problems = listed(tmp_path)
    assert names == ["a/x.PNG", "b/10.png", "b/2.png"]
    assert problems == {}


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(PNG_RGB)
    (tmp_path / "labels.csv").write_text("path,label\ngood.png,1\n")
    (tmp_path / "page.dcm").write_bytes(HTML)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "loop.png").symlink_to("loop.png")
    names, problems = listed(tmp_path)
    assert names == ["good.png"]
    assert "text file" in problems["labels.csv"]
    assert "web page" in problems["page.dcm"]
    assert "empty" in problems["empty.jpg"]
    assert "back to itself" in problems["loop.png"]


def test_folders_that_loop_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(PNG_RGB)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    names, problems = listed(tmp_path)
    assert names == ["a/x.png"]
    assert "folder above it" in problems["up"]


def test_odd_names_are_listed_and_read(tmp_path: Path) -> None:
    odd = ["-dash.png", "new\nline.png", "caf\u00e9.png", "cafe\u0301.png", os.fsdecode(b"\xff\xfe.png"), " .png"]
    for name in odd:
        (tmp_path / name).write_bytes(PNG_RGB)
    refs = list_images(tmp_path)
    assert {ref.path.name for ref in refs} == set(odd)
    assert all(read_image(ref).pixels.shape == (3, 12, 17) for ref in refs)


def test_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(PNG_RGB)
    (tmp_path / "t.txt").write_text("hello")
    assert [ref.path for ref in list_images(tmp_path / "x.png")] == [tmp_path / "x.png"]
    with pytest.raises(BadImage, match="text file"):
        list_images(tmp_path / "t.txt")
    with pytest.raises(BadImage, match="no such file"):
        list_images(tmp_path / "none.png")


def test_series_become_one_reference(tmp_path: Path) -> None:
    zoo_series.series([0, 2.5, 5, 7.5])(tmp_path / "s")
    (ref,) = list_images(tmp_path)
    assert len(ref.files) == 4 and ref.path == tmp_path / "s"
    assert read_image(ref).pixels.shape == (1, 4, 10, 13)
    assert read_image(tmp_path / "s").pixels.shape == (1, 4, 10, 13)
    assert len(list_images(tmp_path, series=False)) == 4


def test_localizers_are_left_out(tmp_path: Path) -> None:
    zoo_series._with_localizer(tmp_path / "s")
    names, problems = listed(tmp_path)
    assert names == ["s"]
    assert "localizer" in problems["scout.dcm"]


def test_echoes_and_phases_are_several_volumes(tmp_path: Path) -> None:
    heights = [0, 2.5, 5, 0, 2.5, 5]
    zoo_series.series(heights, each=lambda k: {"EchoTime": 10 + k // 3})(tmp_path / "echo")
    zoo_series.series(heights, each=lambda k: {"SeriesInstanceUID": "1.2.9", "AcquisitionNumber": k // 3})(
        tmp_path / "phase"
    )
    refs = list_images(tmp_path)
    assert [len(ref.files) for ref in refs] == [3, 3, 3, 3]
    assert all(read_image(ref).pixels.shape[1] == 3 for ref in refs)


def test_too_few_slices_stand_alone(tmp_path: Path) -> None:
    zoo_series.series([0, 2.5])(tmp_path / "two")
    zoo_series.series([5, 5, 5], each=lambda k: {"TriggerTime": 30 * k, "SeriesInstanceUID": "1.2.8"})(
        tmp_path / "beat"
    )
    assert [ref.files for ref in list_images(tmp_path)] == [()] * 5


def test_pairs_and_volumes(tmp_path: Path) -> None:
    pair(tmp_path / "p.hdr")
    (tmp_path / "v.nii").write_bytes(nifti(zoo_series.STACK))
    assert listed(tmp_path)[0] == ["p.hdr", "v.nii"]


def test_frames_on_request(tmp_path: Path) -> None:
    write_dicom(tmp_path / "cine.dcm", np.stack([SLICE] * 3))
    (tmp_path / "moving.gif").write_bytes(moving("GIF"))
    (tmp_path / "volume.dcm").write_bytes(zoo_series.enhanced([0, 2.5, 5]))
    assert listed(tmp_path)[0] == ["cine.dcm", "moving.gif", "volume.dcm"]
    assert listed(tmp_path, frames=True)[0] == [
        "cine.dcm#0",
        "cine.dcm#1",
        "cine.dcm#2",
        "moving.gif#0",
        "moving.gif#1",
        "volume.dcm",
    ]


def test_for_pictures_volumes_are_taken_apart_too(tmp_path: Path) -> None:
    """What a run on pictures lists: what is listed can be read as a picture, or says itself why not."""
    (tmp_path / "volume.dcm").write_bytes(zoo_series.enhanced([0, 2.5, 5]))
    np.save(tmp_path / "gray.npy", np.zeros((2, 5, 7), np.uint8))
    np.save(tmp_path / "colour.npy", np.zeros((5, 7, 3), np.uint8))
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 5, 7, 3), np.uint8), labels=np.zeros((2, 1)))
    (tmp_path / "v.nii").write_bytes(nifti(zoo_series.STACK))
    write_dicom(tmp_path / "cine.dcm", np.stack([SLICE] * 2))
    (tmp_path / "pages.tif").write_bytes(zoo_tiff.pages(zoo_tiff.GRAY, zoo_tiff.GRAY))
    names, _ = listed(tmp_path, frames=True, series=False)
    apart = ["cine.dcm#0", "cine.dcm#1", "colour.npy", "gray.npy#0", "gray.npy#1", "pages.tif#0", "pages.tif#1"]
    assert names == [*apart, "set.npz", "v.nii", *(f"volume.dcm#{k}" for k in range(3))]
    for name in names:
        if name not in ("set.npz", "v.nii"):
            assert read_image(ref_named(tmp_path / name)).pixels.ndim == 3
    assert [ref.index for ref in list_images(tmp_path / "set.npz" / "images", frames=True, series=False)] == [0, 1]


def test_pages_that_are_no_frames_stay_one_file(tmp_path: Path) -> None:
    """The levels of a slide, and the preview in a photograph: reading says what they are."""
    first, second = (Pillow.fromarray(np.full((8, 8), value, np.uint8)) for value in (9, 200))
    first.save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=[second])
    (tmp_path / "slide.tif").write_bytes(zoo_tiff.pages(zoo_tiff.BIG, zoo_tiff.BIG[::2, ::2]))
    assert listed(tmp_path, frames=True, series=False)[0] == ["photo.jpg", "slide.tif"]
    with pytest.raises(BadImage, match="holds 2 frames.*FILE#0 to FILE#1"):
        read_image(tmp_path / "photo.jpg")
    assert read_image(ref_named(f"{tmp_path}/photo.jpg#1")).pixels.mean() > 150


def test_a_frame_is_named_as_it_is_printed(tmp_path: Path) -> None:
    write_dicom(tmp_path / "cine.dcm", np.stack([SLICE] * 3))
    (ref,) = list_images(f"{tmp_path}/cine.dcm#2", frames=True)
    assert ref == ImageRef(tmp_path / "cine.dcm", 2) and str(ref).endswith("cine.dcm#2")
    (tmp_path / "odd#1").write_bytes(PNG_RGB)  # the name of a file comes first
    assert list_images(tmp_path / "odd#1") == [ImageRef(tmp_path / "odd#1")]
    with pytest.raises(BadImage, match="frames 0 to 2"):
        read_image(list_images(tmp_path / "cine.dcm#3")[0])


def test_a_folder_of_many_is_not_one_image(tmp_path: Path) -> None:
    for k in range(3):
        save_png(tmp_path / f"{k}.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(BadImage, match="folder with 3 images"):
        read_image(tmp_path)
