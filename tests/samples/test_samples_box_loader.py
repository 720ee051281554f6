"""Boxes go where the pixels go: through the network's square, every augmentation, windows, and back."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medgraft.files import file_corners, network_corners, read_pixels
from medgraft.samples import augment
from medgraft.samples.box_loader import BoxLoader, cut, exact, moved
from medgraft.samples.loader import Items
from medgraft.samples.presets import PRESETS, Preset
from medgraft.samples.store import Store
from medgraft.values import ImageRef, InputSpec

STILL = augment.draw(Preset(), np.random.default_rng(0))
PLAIN = InputSpec((64, 64), 1, (0.0,), (1.0,))


@given(
    size=st.tuples(st.integers(20, 900), st.integers(20, 900)),
    network=st.sampled_from([(64, 64), (96, 128), (512, 512)]),
    fit=st.sampled_from(["pad", "stretch", "crop"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_to_the_network_and_back_is_the_same_box(size, network, fit, seed):
    random = np.random.default_rng(seed)
    points = np.sort(random.random((5, 2, 2)), axis=1)
    corners = (points * np.array([size[1], size[0]])).reshape(5, 4)
    there = network_corners(corners, size=size, network=network, fit=fit)
    back = file_corners(there, size=size, network=network, fit=fit)
    np.testing.assert_allclose(back, corners, atol=1e-9)


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("size", [(40, 80), (80, 40), (57, 91), (300, 200)])
def test_the_box_of_a_bright_patch_is_the_box_of_its_network_pixels(tmp_path: Path, fit: str, size: tuple[int, int]):
    picture = np.zeros(size, np.uint8)
    top, left = int(size[0] * 0.4), int(size[1] * 0.45)
    height, width = size[0] // 5, size[1] // 6
    picture[top : top + height, left : left + width] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    pixels = read_pixels(tmp_path / "a.png", size=(256, 256), channels=1, fit=fit)[0]
    rows, columns = np.nonzero(pixels > 127)
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
    corners = np.array([[left, top, left + width, top + height]], float)
    told = network_corners(corners, size=size, network=(256, 256), fit=fit)[0]
    assert np.abs(told - seen).max() <= 1.0  # a pixel that is half covered may count or not


@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(PRESETS)))
@settings(max_examples=60, deadline=None)
def test_a_box_follows_whatever_moves_the_pixels(seed: int, name: str):
    side, random = 64, np.random.default_rng(seed)
    x, y = random.integers(16, 36, 2).tolist()
    width, height = random.integers(8, 14, 2).tolist()
    picture = np.zeros((1, 1, side, side), np.float32)
    picture[0, 0, y : y + height, x : x + width] = 1.0
    preset = exact(PRESETS[name])
    still = {"brightness", "contrast", "gamma", "blur", "noise", "speckle", "bias", "resolution", "stain"}
    numbers = augment.draw(preset.with_(**dict.fromkeys(still, 0.0)), random)
    shown = augment.apply(picture, [numbers])[0, 0].numpy()
    rows, columns = np.nonzero(shown > 0.5)
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
    (told,) = cut(
        moved(np.array([[x, y, x + width, y + height]], float), numbers, height=side, width=side),
        height=side,
        width=side,
    )
    assert np.abs(told - seen).max() <= 1.0


@given(turns=st.integers(0, 3), flips=st.tuples(st.booleans(), st.booleans()))
def test_mirrors_and_quarter_turns_are_exact(turns: int, flips: tuple[bool, bool]):
    numbers = {**STILL, "turns": float(turns), "flip_h": float(flips[0]), "flip_v": float(flips[1])}
    picture = np.zeros((1, 1, 32, 32), np.float32)
    picture[0, 0, 3:8, 20:29] = 1.0
    rows, columns = np.nonzero(augment.apply(picture, [numbers])[0, 0].numpy() > 0.5)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    (told,) = moved(np.array([[20.0, 3.0, 29.0, 8.0]]), numbers, height=32, width=32)
    np.testing.assert_allclose(told, seen, atol=1e-9)


def test_no_preset_turns_a_box_into_a_lozenge():
    for preset in PRESETS.values():
        kept = exact(preset)
        assert kept.rotation == kept.shear == kept.elastic == kept.erase == 0 and kept.border == "zeros"


def make_store(folder: Path, count: int = 6, side: int = 64) -> tuple[Store, np.ndarray]:
    """Pictures of one bright rectangle each, and targets that say where; the last picture holds none."""
    folder.mkdir(parents=True, exist_ok=True)
    random, targets = np.random.default_rng(3), np.full((count, 2, 6), np.nan, np.float32)
    for index in range(count):
        picture = np.full((side, side), 20, np.uint8)
        if index < count - 1:
            x, y = random.integers(4, side - 20, 2).tolist()
            width, height = random.integers(8, 14, 2).tolist()
            picture[y : y + height, x : x + width] = 230
            targets[index, 0] = [x, y, x + width, y + height, index % 2, 0]
        Image.fromarray(picture).save(folder / f"{index}.png")
    refs = [ImageRef(folder / f"{index}.png") for index in range(count)]
    network = {"size": (side, side), "channels": 1, "fit": "pad"}
    return Store.open(refs, network, folder=folder / "cache", workers=1), targets


def loader_of(folder: Path, **words) -> BoxLoader:
    store, targets = make_store(folder)
    keys = [f"k{index}" for index in range(len(targets))]
    items = Items(list(range(len(targets))), keys, targets)
    return BoxLoader(store, items, spec=PLAIN, batch_size=2, **words)


@pytest.mark.parametrize("crop", [0, 32])
def test_batches_tell_where_the_bright_rectangles_are(tmp_path: Path, crop: int):
    preset = Preset(zoom_in=0.3, zoom_out=0.2, shift=0.1, flip_h=0.5, flip_v=0.5, turns=1.0, rotation=20.0)
    loader = loader_of(tmp_path, shuffle=True, preset=preset, crop=crop)
    judged = 0
    for epoch, batch in itertools.product(range(4), range(3)):
        (pixels, rows) = next(
            (b.pixels, b.targets) for i, b in enumerate(loader.epoch(epoch)) if i == batch and b.targets is not None
        )
        assert pixels.shape[-1] == (crop or 64)
        for picture, boxes in zip(pixels, rows, strict=True):
            boxes = boxes[torch.isfinite(boxes[:, 0])]
            bright = torch.nonzero(picture[0] > 0.5)
            if len(boxes) == 0:
                assert len(bright) <= 14, "what is seen of a rectangle has a box, but for a sliver of a pixel"
                continue
            (y0, x0), (y1, x1) = bright.amin(0).tolist(), (bright.amax(0) + 1).tolist()
            assert np.abs(boxes[0, :4].numpy() - [x0, y0, x1, y1]).max() <= 1.0
            judged += 1
    assert judged >= 12


def test_a_box_that_is_hardly_seen_is_ignored_and_one_outside_is_gone(tmp_path: Path):
    from medgraft.samples.box_loader import _shown

    rows = np.array([[0, 0, 10, 10, 1, 0], [28, 0, 38, 10, 1, 0], [40, 40, 50, 50, 0, 0], [2, 2, 4, 4, 0, 1]], float)
    found = _shown(rows, (0, 0), None, height=32, width=30)
    assert found[:, :5].tolist() == [[0, 0, 10, 10, 1], [28, 0, 30, 10, 1], [2, 2, 4, 4, 0]]
    assert found[:, 5].tolist() == [0, 1, 1]


def test_batches_are_a_function_of_seed_epoch_and_step(tmp_path: Path):
    words = {"shuffle": True, "preset": Preset(zoom_in=0.3, flip_h=0.5, noise=0.1, noise_p=1.0), "crop": 32, "seed": 5}
    first, again = loader_of(tmp_path / "a", **words), loader_of(tmp_path / "b", **words)
    for one, other in zip(list(first.epoch(3))[1:], again.epoch(3, start_step=1), strict=True):
        assert one.keys == other.keys and torch.equal(one.pixels, other.pixels)
        torch.testing.assert_close(one.targets, other.targets, equal_nan=True, rtol=0, atol=0)


def test_validation_is_whole_and_plain(tmp_path: Path):
    loader = loader_of(tmp_path, shuffle=False, preset=None, crop=32)
    (first, *_) = loader.epoch(0)
    store, targets = make_store(tmp_path)
    assert first.pixels.shape == (2, 1, 64, 64)
    torch.testing.assert_close(first.targets[:, 0], torch.from_numpy(targets[:2, 0]))


def test_some_of_the_items_keep_their_boxes(tmp_path: Path):
    loader = loader_of(tmp_path, shuffle=False)
    part = loader.part([4, 1])
    (batch,) = part.epoch(0)
    _, targets = make_store(tmp_path)
    assert batch.keys == ("k4", "k1")
    torch.testing.assert_close(batch.targets[:, 0], torch.from_numpy(targets[[4, 1], 0]))
