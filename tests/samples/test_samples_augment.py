"""Augmentation: the same bits everywhere, and numbers that mean what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medgraft import seeds
from medgraft.errors import UnknownName
from medgraft.samples import augment, intensity, presets
from medgraft.samples.presets import PRESETS, Preset, choose

ROOT = Path(__file__).resolve().parents[2]
STILL = augment.draw(Preset(), np.random.default_rng(0))


def picture(count: int = 4, channels: int = 3, size: tuple[int, int] = (40, 40), seed: int = 0) -> np.ndarray:
    """Smooth colourful images, uint8 (N, C, H, W)."""
    random = np.random.default_rng(seed)
    out = np.empty((count, channels, *size), np.uint8)
    for plane in out.reshape(-1, *size):
        plane[:] = np.clip(intensity.smooth(random.uniform(-100, 355, (8, 8)), *size), 0, 255)
    return out


def one(pixels: np.ndarray, **numbers: float) -> np.ndarray:
    """Apply the given numbers to one image, everything else unchanged."""
    return augment.apply(pixels[None], [{**STILL, **numbers}])[0].numpy()


EVERYTHING = replace(
    PRESETS["generic"], stain=0.2, elastic=0.02, elastic_p=1, blur=0.01, blur_p=1, resolution=0.5, resolution_p=1,
    noise=0.05, noise_p=1, speckle=0.1, speckle_p=1, bias=0.2, bias_p=1, erase=0.1, erase_p=1, shear=5, flip_v=0.5,
    turns=1, rotation=180,
)  # fmt: skip


@pytest.mark.parametrize("preset", [*PRESETS.values(), EVERYTHING], ids=[*PRESETS, "everything"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_bits_depend_on_seed_epoch_and_key_alone(preset: Preset, kind: str) -> None:
    # An odd width leaves tails behind vector registers; sizes of 1 and 5 make other batches.
    pixels = picture(5, 3, (37, 45))
    if kind == "uint16":
        pixels = pixels.astype(np.uint16) * 257 + 3
    if kind == "float32":
        pixels = (pixels / 255).astype(np.float32)
    keys = [f"case/{i}.png" for i in range(5)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = augment.augment(pixels, preset, keys=keys, seed=7, epoch=3)
        torch.set_num_threads(4)
        threaded = augment.augment(pixels, preset, keys=keys, seed=7, epoch=3)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(whole, threaded)
    for i in (4, 0, 2):
        alone = augment.augment(pixels[i : i + 1], preset, keys=keys[i : i + 1], seed=7, epoch=3)
        assert torch.equal(alone[0], whole[i])
    turned = augment.augment(pixels[::-1], preset, keys=keys[::-1], seed=7, epoch=3)
    assert torch.equal(turned.flip(0), whole)
    assert whole.dtype == torch.float32 and float(whole.min()) >= 0 and float(whole.max()) <= 1
    if preset.active:
        assert not torch.equal(whole, augment.augment(pixels, preset, keys=keys, seed=7, epoch=4))
        assert not torch.equal(whole, augment.augment(pixels, preset, keys=keys, seed=8, epoch=3))


def test_nothing_drawn_changes_nothing() -> None:
    for pixels, top in ((picture(), 255), (picture().astype(np.uint16) * 200, 65535)):
        same = augment.augment(pixels, PRESETS["none"], keys=list("abcd"), seed=0, epoch=1).numpy()
        np.testing.assert_array_equal(same, (pixels / top).astype(np.float32))


def test_a_caller_that_trains_in_bf16_gets_the_same_bits() -> None:
    plain = augment.augment(picture(), EVERYTHING, keys=list("abcd"), seed=0, epoch=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain, augment.augment(picture(), EVERYTHING, keys=list("abcd"), seed=0, epoch=0))


def test_apply_leaves_its_input_alone() -> None:
    pixels = torch.from_numpy(picture() / 255).float()
    before = pixels.clone()
    augment.augment(pixels, EVERYTHING, keys=list("abcd"), seed=0, epoch=0)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize(
    ("numbers", "truth"),
    [
        ({"flip_h": 1.0}, lambda x: x[:, :, ::-1]),
        ({"flip_v": 1.0}, lambda x: x[:, ::-1]),
        ({"turns": 1.0}, lambda x: np.rot90(x, -1, axes=(1, 2))),
        ({"turns": 2.0}, lambda x: np.rot90(x, 2, axes=(1, 2))),
        ({"turns": 3.0}, lambda x: np.rot90(x, 1, axes=(1, 2))),
        ({"rotation": 90.0}, lambda x: np.rot90(x, -1, axes=(1, 2))),
        ({"rotation": 180.0}, lambda x: np.rot90(x, 2, axes=(1, 2))),
        ({"flip_h": 1.0, "turns": 1.0}, lambda x: np.rot90(x[:, :, ::-1], -1, axes=(1, 2))),
    ],
)
def test_mirrors_and_turns_are_exact(numbers: dict[str, float], truth) -> None:
    pixels = picture(1)[0]
    np.testing.assert_allclose(one(pixels, **numbers), truth(pixels) / 255, atol=2e-5)


def test_shift_moves_the_content_and_blackens_the_rest() -> None:
    pixels = picture(1)[0]
    moved = one(pixels, shift_x=0.1, shift_y=-0.05)  # 4 to the right, 2 up, of 40
    np.testing.assert_allclose(moved[:, :38, 4:], pixels[:, 2:, :36] / 255, atol=2e-5)
    assert np.all(moved[:, :, :3] == 0) and np.all(moved[:, 39:] == 0)


def test_zoom_above_one_magnifies() -> None:
    pixels = np.zeros((1, 40, 40), np.uint8)
    pixels[:, 10:30, 10:30] = 255
    assert one(pixels, zoom=1.5).mean() == pytest.approx(1.5**2 * 0.25, rel=0.03)
    wide = one(pixels, stretch=1.44)  # the area stays, the width to height ratio grows
    assert wide.mean() == pytest.approx(0.25, rel=0.03)
    assert (wide[0] > 0.5).any(axis=0).sum() / (wide[0] > 0.5).any(axis=1).sum() == pytest.approx(1.44, rel=0.1)


def test_the_affine_agrees_with_scipy() -> None:
    from scipy.ndimage import affine_transform

    pixels = picture(1, 1, (48, 36))[0]
    numbers = {"rotation": 17.0, "zoom": 1.1, "stretch": 1.1, "shear": 4.0, "shift_x": 0.05, "shift_y": -0.03}
    back = augment.matrix({**STILL, **numbers}, 48, 36)
    linear = back[::-1, 1::-1]  # scipy counts rows first
    centre = np.array([(48 - 1) / 2, (36 - 1) / 2])
    offset = centre - linear @ centre + back[::-1, 2]
    truth = affine_transform(pixels[0] / 255.0, linear, offset, order=1)
    np.testing.assert_allclose(one(pixels, **numbers)[0][8:-8, 8:-8], truth[8:-8, 8:-8], atol=1e-4)


def test_a_rectangle_is_not_cut_by_quarter_turns() -> None:
    pixels = picture(1, 1, (20, 30))[0]
    np.testing.assert_allclose(one(pixels, turns=1.0), pixels / 255, atol=1e-5)
    np.testing.assert_allclose(one(pixels, turns=3.0), pixels[:, ::-1, ::-1] / 255, atol=1e-5)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_curve_is_gamma_then_contrast_then_gain(kind: str) -> None:
    pixels = picture(1)[0]
    given = {"uint8": pixels, "uint16": pixels.astype(np.uint16) * 257, "float32": np.float32(pixels / 255)}[kind]
    level = pixels / 255.0
    np.testing.assert_allclose(one(given, gamma=1.3), level**1.3, atol=2e-4)
    np.testing.assert_allclose(one(given, brightness=0.8), level * 0.8, atol=1e-6)
    pivot = level[:, ::4, ::4].mean()
    np.testing.assert_allclose(one(given, contrast=1.2), np.clip((level - pivot) * 1.2 + pivot, 0, 1), atol=2e-3)


def test_sixteen_bits_survive() -> None:
    ramp = np.arange(40 * 40, dtype=np.uint16).reshape(1, 40, 40) + 30_000  # 1600 levels inside seven of 256
    assert len(np.unique(one(ramp, gamma=1.2))) > 1500
    assert len(np.unique(one(ramp, brightness=0.9))) == 1600


def test_colour_changes_keep_gray_gray_and_luma() -> None:
    pixels = picture(1)[0]
    luma = np.tensordot([0.299, 0.587, 0.114], pixels / 255.0, axes=1)
    for channel in one(pixels, saturation=0.0):
        np.testing.assert_allclose(channel, luma, atol=1e-5)
    gray = np.repeat(pixels[:1], 3, axis=0)
    np.testing.assert_allclose(one(gray, hue=40.0, saturation=1.5), gray / 255, atol=1e-5)
    muted = np.clip(pixels, 100, 150)
    turned = one(muted, hue=30.0)
    np.testing.assert_allclose(
        np.tensordot([0.299, 0.587, 0.114], turned, axes=1),
        np.tensordot([0.299, 0.587, 0.114], muted / 255, axes=1),
        atol=1e-3,
    )
    assert np.abs(turned - muted / 255).max() > 0.02


def test_gray_images_take_no_colour_change() -> None:
    pixels = picture(1, 1)[0]
    np.testing.assert_array_equal(one(pixels, hue=30.0, saturation=0.2, stain_1=1.5), np.float32(pixels / 255))


def test_stain_scales_one_dye_in_optical_density() -> None:
    basis = intensity.stain_basis()
    assert basis @ basis[2] == pytest.approx([0, 0, 1], abs=1e-12)
    dye = 10 ** -(0.4 * basis[0])  # only haematoxylin
    pixels = np.broadcast_to(dye[:, None, None], (3, 8, 8)).astype(np.float32)
    stronger = one(pixels, stain_1=1.5)
    np.testing.assert_allclose(-np.log10(stronger[:, 4, 4]), 0.6 * basis[0], atol=2e-3)
    np.testing.assert_allclose(one(pixels, stain_2=1.5), pixels, atol=2e-3)


def test_blur_and_lost_resolution_keep_flat_areas_and_smooth_the_rest() -> None:
    flat = np.full((3, 40, 40), 130, np.uint8)
    for numbers in ({"blur": 0.03}, {"resolution": 1.7}):
        np.testing.assert_allclose(one(flat, **numbers), 130 / 255, atol=1e-5)
        rough = np.random.default_rng(0).integers(0, 256, (1, 40, 40), dtype=np.uint8)
        assert one(rough, **numbers).std() < 0.75 * (rough / 255).std()
        assert one(rough, **numbers).mean() == pytest.approx((rough / 255).mean(), abs=0.01)


def test_blur_agrees_with_scipy() -> None:
    from scipy.ndimage import gaussian_filter

    pixels = picture(1, 1)[0]
    truth = gaussian_filter(pixels[0] / 255.0, 0.04 * 40, mode="nearest", truncate=2.5)
    np.testing.assert_allclose(one(pixels, blur=0.04)[0], truth, atol=2e-3)


def test_noise_has_the_drawn_spread() -> None:
    flat = np.full((3, 64, 64), 128, np.uint8)
    noisy = one(flat, noise=0.05, key=12)
    assert noisy.std() == pytest.approx(0.05, rel=0.05)
    assert noisy.mean() == pytest.approx(128 / 255, abs=0.002)
    assert not np.array_equal(noisy[0], noisy[1])
    grainy = one(flat, speckle=0.1, key=12)
    assert grainy.std() == pytest.approx(0.1 * 128 / 255, rel=0.1)
    assert np.all(one(np.zeros_like(flat), speckle=0.1) == 0)  # black stays black


def test_bias_is_slow_and_bounded() -> None:
    flat = np.full((1, 64, 64), 100, np.uint8)
    shaded = one(flat, bias=0.3, key=5)[0] * 255 / 100
    assert 0.5 < shaded.min() < shaded.max() < 1.5 and shaded.std() > 0.01
    assert np.abs(np.diff(shaded, axis=0)).max() < 0.06


def test_erase_blanks_the_drawn_area_with_the_mean() -> None:
    pixels = np.full((1, 40, 40), 200, np.uint8)
    pixels[:, ::2] = 100
    cut = one(pixels, erase=0.1, erase_ratio=1.0, erase_x=0.5, erase_y=0.5)
    changed = cut != np.float32(pixels / 255)
    assert changed.mean() == pytest.approx(0.1, abs=0.02)
    assert len(np.unique(cut[changed])) == 1


def test_a_volume_is_changed_alike_in_every_slice() -> None:
    plane = picture(1, 1)[0]
    volume = np.repeat(plane[:, None], 3, axis=1)[None]  # (1, C, D, H, W)
    preset = replace(PRESETS["mr"], noise_p=0.0)
    out = augment.augment(volume, preset, keys=["a"], seed=0, epoch=2)
    assert out.shape == volume.shape
    assert torch.equal(out[0, 0, 0], out[0, 0, 1]) and torch.equal(out[0, 0, 0], out[0, 0, 2])
    assert torch.equal(out[0, :, 0], augment.augment(plane[None], preset, keys=["a"], seed=0, epoch=2)[0])


def test_one_range_does_not_move_another_draw() -> None:
    a = augment.draw(PRESETS["fundus"], seeds.generator(0, "augment", 1, "x"))
    b = augment.draw(PRESETS["fundus"].with_(noise=0.3, noise_p=1.0, hue=0), seeds.generator(0, "augment", 1, "x"))
    assert {k for k in a if a[k] != b[k]} <= {"noise", "hue"}


def test_draws_fill_their_ranges_and_stay_inside() -> None:
    preset = PRESETS["fundus"]
    drawn = [augment.draw(preset, seeds.generator(0, "augment", 0, i)) for i in range(800)]
    turns = np.array([d["rotation"] for d in drawn])
    assert -30 <= turns.min() < -27 and 27 < turns.max() <= 30
    zoom = np.array([d["zoom"] for d in drawn])
    assert 1 / 1.1 <= zoom.min() < 0.92 and 1.18 < zoom.max() <= 1.2
    assert np.mean([d["flip_h"] for d in drawn]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([d["blur"] > 0 for d in drawn]) == pytest.approx(0.15, abs=0.05)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_sound(name: str) -> None:
    preset = PRESETS[name]
    assert preset.name == name and preset.border in presets.BORDERS and preset.reasons
    for field in presets.numbers():
        value = getattr(preset, field)
        assert value >= 0
        if field.endswith("_p") or field in ("flip_h", "flip_v", "turns"):
            assert value <= 1
        if field.endswith("_p"):
            assert (value > 0) == (getattr(preset, field[:-2]) > 0), f"{field} without its range"
    for reason in preset.reasons.values():
        assert reason.endswith(".") and len(reason) > 20
    assert set(preset.reasons) <= {*presets.numbers(), "border", "all", "geometry", "intensity"}
    if name in ("chest", "ct", "mr"):
        assert preset.flip_h == 0 and preset.flip_v == 0 and preset.turns == 0
    if name in ("chest", "ct", "mr", "ultrasound"):
        assert preset.hue == 0 and preset.saturation == 0 and preset.stain == 0


def test_strength_scales_ranges_only() -> None:
    chest = PRESETS["chest"]
    assert not chest.with_(strength=0).active
    assert chest.with_(strength=2).rotation == 24 and chest.with_(strength=2).flip_h == 0
    assert PRESETS["skin"].with_(strength=0.5).flip_h == 0.5
    assert chest.with_(strength=1) == chest
    assert chest.with_(rotation=3.0).rotation == 3.0
    strong = PRESETS["fundus"].with_(strength=2)
    for i in range(200):
        drawn = augment.draw(strong, seeds.generator(1, "augment", 0, i))
        assert drawn["brightness"] > 0 and drawn["contrast"] > 0 and drawn["saturation"] >= 0


def test_wrong_words_are_answered_with_near_ones() -> None:
    with pytest.raises(UnknownName, match="rotation"):
        PRESETS["chest"].with_(rotatoin=3.0)
    with pytest.raises(UnknownName, match="reflection"):
        PRESETS["chest"].with_(border="mirror")
    with pytest.raises(UnknownName, match="fundus"):
        presets.preset("fundis")
    assert presets.preset("skin") is PRESETS["skin"]


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"modalities": {"DX": 30, "CR": 2}}, "chest"),
        ({"modalities": {"MR": 5}, "words": ["chest"]}, "mr"),
        ({"modalities": {"US": 5}}, "ultrasound"),
        ({"modalities": {"XX": 5}}, "generic"),
        ({"words": ["ham10000_sub", "melanoma", "nevus"], "gray": 0.0}, "skin"),
        ({"words": ["odir5k_sub", "glaucoma", "cataract"], "gray": 0.0}, "fundus"),
        ({"words": ["cxr_pneumonia_624", "NORMAL", "PNEUMONIA"], "gray": 0.9}, "chest"),
        ({"words": ["brain_tumor_mri", "meningioma"], "gray": 1.0}, "mr"),
        ({"words": ["bccd", "red blood cell"], "gray": 0.0}, "microscopy"),
        ({"words": ["actor", "fact"], "gray": 1.0}, "generic"),  # "ct" inside a word is no CT
        ({"gray": 0.0, "corners": 0.02, "rgb": (0.45, 0.25, 0.15)}, "fundus"),
        ({"gray": 0.0, "corners": 0.8, "rgb": (0.8, 0.6, 0.75)}, "histology"),
        ({"gray": 0.0, "corners": 0.53, "rgb": (0.73, 0.54, 0.57)}, "generic"),  # skin, whose pink is not violet
        ({"gray": 1.0}, "generic"),
        ({}, "generic"),
    ],
)
def test_choose(facts: dict, name: str) -> None:
    found, reason = choose(facts)
    assert found == name and found in PRESETS
    assert reason.endswith(".")


def test_the_page_on_augmentation_says_what_the_table_says() -> None:
    text = (ROOT / "docs" / "augmentation.md").read_text(encoding="utf-8")
    for name, meaning in presets.meanings().items():
        assert f"`{name}`" in text and meaning in text
    for name, preset in PRESETS.items():
        assert f"## {name}" in text
        section = text.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
        for field in presets.numbers():
            value = getattr(preset, field)
            assert (f"| `{field}` | {value:g} |" in section) == (value > 0)
        for reason in preset.reasons.values():
            assert reason in section
