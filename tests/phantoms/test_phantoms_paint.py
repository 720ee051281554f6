"""The brushes do what they say."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.phantoms import paint
from medgraft.seeds import generator


def test_a_stamp_covers_the_area_of_its_disc():
    for radius in (2.0, 5.5, 11.3):
        cover = paint.stamp(64, np.array([[31.4, 30.2]]), radii=np.array([radius]), soft=0.6)
        assert cover.sum() == pytest.approx(np.pi * radius**2, rel=0.06)
        row, column = np.average(np.indices((64, 64)).reshape(2, -1), axis=1, weights=cover.ravel())
        assert (row, column) == pytest.approx((31.4, 30.2), abs=0.05)


def test_a_disc_thinner_than_a_pixel_is_fainter():
    peaks = [paint.stamp(9, np.array([[4.0, 4.0]]), radii=np.array([r]), soft=0.6).max() for r in (0.1, 0.3, 0.6)]
    assert 0 < peaks[0] < peaks[1] < peaks[2] <= 1


def test_stamps_at_and_beyond_the_edge_do_not_wrap_round():
    points = np.array([[0.0, 0.0], [63.0, 63.0], [-50.0, 10.0], [10.0, 400.0], [32.0, -3.0]])
    cover = paint.stamp(64, points, radii=np.full(5, 4.0))
    assert cover[0, 0] == 1 and cover[63, 63] == 1
    assert cover[0, 63] == 0 and cover[63, 0] == 0 and cover[10, 10] == 0
    assert cover[32, 0] > 0 and cover[31:34, 60:].max() == 0


def test_noise_has_mean_zero_and_deviation_one():
    values = np.stack([paint.noise(generator(0, "noise", index=k), 96, cells=12, octaves=3) for k in range(30)])
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert values.std() == pytest.approx(1, abs=0.06)
    steps = np.abs(np.diff(values[0], axis=0)).max()
    assert steps < 1.5, "noise is smooth"


def test_a_curve_goes_through_its_control_points():
    control = np.array([[0, 0], [3, 1], [4, 5], [9, 2]], float)
    line = paint.curve(control, 301)
    assert line[[0, 100, 200, 300]] == pytest.approx(control, abs=1e-4)


def test_children_start_on_their_parents_and_are_thinner():
    line = np.stack([np.linspace([0, 0], [1, 1], 50), np.linspace([0, 1], [1, 0], 50)]).astype(np.float32)
    parents = paint.Branches(line, np.full((2, 50), 0.1, np.float32))
    kids = paint.grow(generator(1, "tree"), parents, growth=paint.Growth(4, 0.3))
    assert kids.points.shape == (8, 60, 2) and kids.radii.shape == (8, 60)
    gaps = np.linalg.norm(kids.points[:, 0][:, None, None] - line[None], axis=-1).min(axis=(1, 2))
    assert gaps.max() < 1e-5
    assert kids.radii.max() < 0.1 and (np.diff(kids.radii, axis=1) < 0).all()


def test_a_ramp_turns_round_with_its_edges():
    values = np.array([0.0, 0.5, 1.0], np.float32)
    assert paint.ramp(values, (0, 1)) == pytest.approx([0, 0.5, 1])
    assert paint.ramp(values, (1, 0)) == pytest.approx([1, 0.5, 0])


def test_letters_can_be_read():
    sign = paint.letters("L", scale=2)
    assert sign.shape == (14, 12)
    assert sign[:, 0].all() and sign[-1, :10].all() and not sign[0, 4:].any()


@pytest.mark.parametrize("slab", [1, 10_000])
def test_a_volume_is_mixed_alike_slice_by_slice_and_at_once(monkeypatch: pytest.MonkeyPatch, slab: int):
    from medgraft.phantoms import space

    monkeypatch.setattr(space, "_SLAB", slab)
    random = np.random.default_rng(0)
    volume, value = random.random((4, 5, 6), np.float32), random.random((4, 5, 6), np.float32)
    share = random.random((4, 1, 6), np.float32)
    expected = volume + (value - volume) * share
    space.mix(volume, value, share)
    np.testing.assert_allclose(volume, expected, rtol=1e-6)
