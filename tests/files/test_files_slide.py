"""Slides are read in parts: the right pixels, only the tiles needed, and nothing that memory would not hold."""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from medgraft.errors import BadImage, DiskFull, MissingExtra
from medgraft.files import open_slide, read_image, write_pyramid
from medgraft.files.slide_tiff import TiffSource

HIGH, WIDE = 700, 1000


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    row, column = np.mgrid[:HIGH, :WIDE]
    waves = [np.sin(row / a + column / b) for a, b in ((31, 47), (53, -29), (-71, 37))]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def strips(picture: np.ndarray, rows: int = 512):
    for top in range(0, len(picture), rows):
        yield picture[top : top + rows]


@pytest.fixture(scope="module")
def pyramid(picture: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "pyramid.tif"
    write_pyramid(path, strips(picture), size=(WIDE, HIGH), um_per_px=0.25, description="PHANTOM", quality=95)
    return path


def test_a_pyramid_has_its_levels_pitch_and_pixels(picture: np.ndarray, pyramid: Path):
    with open_slide(pyramid) as slide:
        assert slide.size == (WIDE, HIGH) and slide.um_per_px == pytest.approx(0.25)
        assert [(level.width, level.height, level.downsample) for level in slide.levels] == [
            (1000, 700, 1.0),
            (500, 350, 2.0),
        ]
        whole = slide.read(0, 0, width=WIDE, height=HIGH)
        assert np.abs(whole.astype(int) - picture).mean() < 2
        half = picture.reshape(HIGH // 2, 2, WIDE // 2, 2, 3).mean(axis=(1, 3))
        assert np.abs(slide.read(0, 0, width=500, height=350, level=1) - half).mean() < 2
    assert [item.name for item in pyramid.parent.iterdir()] == ["pyramid.tif"], "nothing is left beside it"


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (250, 250, 20, 20), (501, 13, 311, 687), (999, 699, 1, 1)])
def test_a_rectangle_is_a_part_of_the_whole(box: tuple[int, int, int, int], pyramid: Path):
    x, y, width, height = box
    with open_slide(pyramid) as slide:
        whole = slide.read(0, 0, width=WIDE, height=HIGH)
        np.testing.assert_array_equal(
            slide.read(x, y, width=width, height=height), whole[y : y + height, x : x + width]
        )


def test_outside_is_white(pyramid: Path):
    with open_slide(pyramid) as slide:
        part = slide.read(-30, 650, width=60, height=100)
        assert (part[:, :30] == 255).all() and (part[50:] == 255).all()
        np.testing.assert_array_equal(part[:50, 30:], slide.read(0, 650, width=30, height=50))
        assert (slide.read(5000, 5000, width=3, height=3) == 255).all()


def test_only_the_tiles_that_are_touched_are_decoded(pyramid: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    plain = TiffSource._decoded
    monkeypatch.setattr(TiffSource, "_decoded", lambda self, *key: asked.append(key) or plain(self, *key))
    with open_slide(pyramid) as slide:
        slide.read(300, 300, width=100, height=100)
        assert asked == [(0, 5)]
        slide.read(310, 310, width=250, height=10)
        assert asked == [(0, 5), (0, 6)], "a tile that was kept is not decoded again"


def test_an_overview_is_the_mean_whatever_the_levels(picture: np.ndarray, pyramid: Path, tmp_path: Path):
    flat = tmp_path / "flat.tif"
    tifffile.imwrite(flat, picture, tile=(128, 128), compression="zlib", photometric="rgb")
    exact = picture.reshape(70, 10, 100, 10, 3).mean(axis=(1, 3))
    with open_slide(flat) as slide, open_slide(pyramid) as levels:
        assert len(slide.levels) == 1
        assert np.abs(slide.overview(100) - exact).max() <= 0.51
        assert np.abs(levels.overview(100) - exact).mean() < 2
        assert slide.overview(4000).shape == (HIGH, WIDE, 3)
    with open_slide(flat, max_bytes=128 * 128 * 3 * 20) as slide:  # bands of a few rows
        assert np.abs(slide.overview(100) - exact).max() <= 0.51


WAYS = {
    "strips": {"rowsperstrip": 37, "compression": "lzw", "photometric": "rgb"},
    "plain": {"photometric": "rgb"},
    "separate": {"planarconfig": "separate", "tile": (64, 96), "compression": "zlib", "photometric": "rgb"},
    "predictor": {"tile": (256, 256), "compression": "zlib", "predictor": True, "photometric": "rgb"},
    "bigtiff": {"bigtiff": True, "tile": (256, 256), "photometric": "rgb", "byteorder": ">"},
}


@pytest.mark.parametrize("way", list(WAYS))
def test_tiffs_of_all_kinds_give_their_pixels(way: str, picture: np.ndarray, tmp_path: Path):
    path, given = tmp_path / "a.tif", dict(WAYS[way])
    stored = picture.transpose(2, 0, 1) if way == "separate" else picture
    tifffile.imwrite(path, stored, **given)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, width=WIDE, height=HIGH), picture)
        np.testing.assert_array_equal(slide.read(311, 222, width=40, height=300), picture[222:522, 311:351])
        assert slide.um_per_px is None


def test_gray_and_sixteen_bits_become_colours_of_eight(picture: np.ndarray, tmp_path: Path):
    gray, deep = picture[..., 0], picture.astype(np.uint16) * 256 + 7
    tifffile.imwrite(tmp_path / "gray.tif", gray, tile=(128, 128), photometric="minisblack")
    tifffile.imwrite(tmp_path / "white.tif", 255 - gray, tile=(128, 128), photometric="miniswhite")
    tifffile.imwrite(tmp_path / "deep.tif", deep, tile=(128, 128), photometric="rgb")
    for name in ("gray", "white"):
        with open_slide(tmp_path / f"{name}.tif") as slide:
            np.testing.assert_array_equal(slide.read(0, 0, width=WIDE, height=HIGH), np.repeat(gray[..., None], 3, -1))
    with open_slide(tmp_path / "deep.tif") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, width=WIDE, height=HIGH), picture)


DEEP = {
    "strips": {"rowsperstrip": 37, "compression": "zlib", "photometric": "minisblack"},
    "plain": {"photometric": "minisblack"},
    "white": {"tile": (128, 128), "photometric": "miniswhite"},
    "colour": {"tile": (128, 128), "photometric": "rgb"},
}


@pytest.mark.parametrize("most", [4095, 4096])
@pytest.mark.parametrize("way", list(DEEP))
def test_twelve_bits_in_sixteen_are_as_bright_as_in_an_image_that_is_read_whole(way, most, picture, tmp_path):
    values = picture.astype(np.uint16) * 16
    values[-1, -1] = most  # one sample above 4095 says that there are 16 bits
    stored = {"colour": values, "white": 65535 - values[..., 0]}.get(way, values[..., 0])
    tifffile.imwrite(tmp_path / "a.tif", stored, **DEEP[way])
    whole = read_image(tmp_path / "a.tif")
    assert whole.range[1] == (4095 if most == 4095 else 65535)
    with open_slide(tmp_path / "a.tif") as slide:
        part = slide.read(0, 0, width=WIDE, height=HIGH)
    shown = np.moveaxis(np.broadcast_to(whole.display(), (3, HIGH, WIDE)), 0, -1)
    assert np.abs(part / 255 - shown).max() <= 1 / 255


def test_a_pyramid_says_by_a_small_level_how_many_bits_it_has(picture: np.ndarray, tmp_path: Path, monkeypatch):
    tall = np.tile(picture[..., 0], (4, 4)).astype(np.uint16) * 16
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for step in (1, 2, 4, 8):
            tiff.write(tall[::step, ::step], tile=(256, 256), photometric="minisblack")
    asked = []
    plain = TiffSource._samples
    monkeypatch.setattr(TiffSource, "_samples", lambda self, *key: asked.append(key) or plain(self, *key))
    with open_slide(tmp_path / "a.tif") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, width=99, height=88)[..., 0], tall[:88, :99] >> 4)
    assert {level for level, _ in asked} == {0, 1}  # of 4000, 2000, 1000 and 500 pixels
    assert sum(level == 0 for level, _ in asked) == 1


def test_an_ome_pyramid_has_its_levels_and_pitch(picture: np.ndarray, tmp_path: Path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        more = {"tile": (128, 128), "photometric": "rgb"}
        about = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
        tiff.write(picture, subifds=1, metadata=about, **more)
        tiff.write(picture[::2, ::2], subfiletype=1, **more)
    with open_slide(path) as slide:
        assert [level.downsample for level in slide.levels] == [1.0, 2.0] and slide.um_per_px == 0.5
        np.testing.assert_array_equal(slide.read(9, 9, width=99, height=99, level=1), picture[18:216:2, 18:216:2])


def test_ordinary_pictures_are_slides_of_one_level(picture: np.ndarray, tmp_path: Path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        assert slide.levels[0].width == WIDE and slide.maker == "picture" and slide.um_per_px is None
        np.testing.assert_array_equal(slide.read(10, 20, width=30, height=40), picture[20:60, 10:40])
    with pytest.raises(BadImage, match="too large"):
        open_slide(tmp_path / "a.png", max_bytes=1_000_000)


def test_a_strip_that_memory_would_not_hold_is_refused_with_what_to_do(picture: np.ndarray, tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", picture, compression="zlib", rowsperstrip=HIGH, photometric="rgb")
    with pytest.raises(BadImage, match=r"strip has 1000 x 700 pixels.*vips tiffsave"):
        open_slide(tmp_path / "a.tif", max_bytes=1_000_000)
    with open_slide(tmp_path / "a.tif", max_bytes=3_000_000) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, width=50, height=50), picture[:50, :50])


def test_too_large_a_rectangle_and_levels_that_are_not_there_are_refused(pyramid: Path):
    with open_slide(pyramid, max_bytes=1_000_000) as slide:
        with pytest.raises(BadImage, match="in parts"):
            slide.read(0, 0, width=1000, height=700)
        with pytest.raises(BadImage, match="level 7"):
            slide.read(0, 0, width=1, height=1, level=7)


def test_stacks_are_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 64, 64), np.uint8), photometric="minisblack")
    with pytest.raises(BadImage, match="5 planes"):
        open_slide(tmp_path / "stack.tif")


def test_a_damaged_tile_is_named_and_the_others_are_read(pyramid: Path, tmp_path: Path):
    data = bytearray(pyramid.read_bytes())
    with tifffile.TiffFile(pyramid) as tiff:
        page = tiff.pages[0]
        start, count = page.dataoffsets[5], page.databytecounts[5]
    data[start : start + count] = b"\0" * count
    (tmp_path / "a.tif").write_bytes(data)
    with open_slide(tmp_path / "a.tif") as slide:
        with pytest.raises(BadImage, match=r"tile 5 of page 0 is damaged"):
            slide.read(300, 300, width=10, height=10)
        assert slide.read(0, 0, width=200, height=200).shape == (200, 200, 3)


def test_a_tile_that_unfolds_into_more_than_was_said_is_not_decoded(pyramid: Path, tmp_path: Path):
    data = bytearray(pyramid.read_bytes())
    with tifffile.TiffFile(pyramid) as tiff:
        start = tiff.pages[0].dataoffsets[0]
    size = data.index(b"\xff\xc0", start) + 5
    data[size : size + 4] = (60000).to_bytes(2, "big") * 2
    (tmp_path / "a.tif").write_bytes(data)
    with open_slide(tmp_path / "a.tif") as slide, pytest.raises(BadImage, match="60000 x 60000"):
        slide.read(0, 0, width=10, height=10)


@pytest.mark.parametrize("cut", [6, 300, 20_000])
def test_cut_files_are_bad_images(cut: int, pyramid: Path, tmp_path: Path):
    (tmp_path / "a.tif").write_bytes(pyramid.read_bytes()[:cut])
    with pytest.raises(BadImage), open_slide(tmp_path / "a.tif") as slide:
        slide.read(0, 0, width=WIDE, height=HIGH)


def test_threads_may_share_a_slide(pyramid: Path):
    with open_slide(pyramid) as slide:
        whole = slide.read(0, 0, width=WIDE, height=HIGH)
        wrong: list[int] = []

        def look(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(25):
                x, y = int(rng.integers(0, WIDE - 90)), int(rng.integers(0, HIGH - 90))
                if not np.array_equal(slide.read(x, y, width=90, height=90), whole[y : y + 90, x : x + 90]):
                    wrong.append(seed)

        threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_without_openslide_its_formats_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain = builtins.__import__

    def without(name: str, *rest):
        if name == "openslide":
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.delitem(sys.modules, "medgraft.files.slide_openslide", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(MissingExtra, match=r"medgraft\[slide\]"):
        open_slide(tmp_path / "a.mrxs")


def test_too_few_strips_write_nothing(picture: np.ndarray, tmp_path: Path):
    with pytest.raises(ValueError, match="rows"):
        write_pyramid(tmp_path / "a.tif", strips(picture[:512]), size=(WIDE, HIGH), um_per_px=1.0)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    with pytest.raises(DiskFull):
        write_pyramid(tmp_path / "a.tif", strips(picture), size=(WIDE, HIGH), um_per_px=1.0)
    assert not list(tmp_path.iterdir())


def test_a_real_svs_is_read_tile_by_tile(shared: Callable[[str], Path]):
    path = shared("data/wsi_io") / "CMU-1-Small-Region.svs"
    whole = tifffile.imread(path)
    with open_slide(path) as slide:
        assert (slide.size, slide.um_per_px, slide.maker) == ((2220, 2967), 0.499, "svs")
        assert len(slide.levels) == 1, "label and macro are no levels"
        np.testing.assert_array_equal(slide.read(1801, 1000, width=419, height=333), whole[1000:1333, 1801:2220])
    with pytest.raises(BadImage, match="15 planes"):
        open_slide(path.with_name("multi-channel-z-series.ome.tif"))


def test_openslide_gives_the_same_pixels(shared: Callable[[str], Path]):
    pytest.importorskip("openslide")
    from medgraft.files.slide_openslide import OpenSlideSource

    path = shared("data/wsi_io") / "CMU-1-Small-Region.svs"
    source = OpenSlideSource(path, None)
    with open_slide(path) as slide:
        assert (source.sizes, source.um_per_px) == ([slide.size], slide.um_per_px)
        part = source.rectangle(0, (700, 900, 1100, 1200))
        np.testing.assert_array_equal(part, slide.read(700, 900, width=400, height=300))
    source.close()
