"""The bank of normal places: what each distance says where it lies, wholes, and padding that takes no part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medgraft.errors import BadData, BadRecipe
from medgraft.nets.backbone import backbone
from medgraft.nets.patch_bank import PatchBank
from medgraft.nets.patch_scale import by_place, moments, topmost

pytestmark = pytest.mark.filterwarnings("ignore:.*starts from random numbers")
SIDE = 64


@pytest.fixture(scope="module")
def bank() -> PatchBank:
    net = backbone("none:timm:resnet10t", channels=1, image_size=SIDE, seed=1)
    return PatchBank(net, [2, 3])


def _images(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 1, SIDE, SIDE)).astype(np.float32))


def test_the_topmost_share_of_values():
    values = torch.arange(100.0)
    assert float(topmost(values, 0.05)) == pytest.approx(97.0)
    assert float(topmost(values, 0.001)) == 99.0
    assert float(topmost(values[:0], 0.5)) == 0.0


def test_a_learnt_image_is_near_and_a_strange_one_far(bank: PatchBank):
    images, whole = _images(10, 0), torch.ones(10, 1, SIDE, SIDE)
    seen = bank.learn([(images, whole)], images=10, share=1.0, most=5000, top=0.1, seed=0)
    assert seen == 10 * 8 * 8 == len(bank.bank) and len(bank.wholes) == 10
    near, inside, known = bank(images[:2], whole[:2])
    strange = _images(2, 5)
    strange[:, :, :20, :20] = 8.0
    far, _, odd = bank(strange, whole[:2])
    raw = (near - bank.shift) / bank.gain  # before each place has its own measure
    assert raw[near > 0].max() < 0.02 and near.max() < 0.1 * far[:, 0, 0].min() and inside.all()
    assert far[:, 0, 0].min() > far[:, -1, -1].max() > near.max()
    assert odd.min() > known.max()


def test_wholes_are_compared_by_the_last_levels_whichever_places_are():
    net = backbone("none:timm:resnet10t", channels=1, image_size=SIDE, seed=1)
    fine, images = PatchBank(net, [1]), _images(6, 0)
    area = torch.ones(6, 1, SIDE, SIDE)
    fine.learn([(images, area)], images=6, share=1.0, most=50, top=0.1, seed=0)
    assert fine.bank.shape[1] == net.channels[1]
    assert fine.wholes.shape == (6, net.channels[-1] + net.channels[-2])
    before, last = fine.wholes.split([net.channels[-2], net.channels[-1]], dim=1)
    # However many channels a level has, it weighs as much as the other one.
    assert float(before.square().sum()) == pytest.approx(float(last.square().sum()), rel=0.3)
    assert PatchBank(net, [1], whole_levels=[4]).whole_mean.shape == (net.channels[4],)


def test_a_channel_that_is_silent_in_normal_images_does_not_shout():
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)) * 10
    rows[:, 1], rows[:, 4:] = 0.0, rows[:, 4:] / 1000
    mean, std = moments(rows, (4, 2))
    assert torch.allclose(mean, rows.mean(dim=0)) and float(std[1]) == pytest.approx(0.2 * 0.75 * 10, rel=0.1)
    assert torch.allclose(std[4:], rows[:, 4:].std(dim=0, correction=0))  # another level has its own measure


def test_padding_takes_no_part(bank: PatchBank):
    area = torch.zeros(1, 1, SIDE, SIDE)
    area[:, :, 16:48] = 1
    images = _images(1, 2) * area
    _, inside, _ = bank.places(images, area)
    assert inside[0].sum() == 4 * 8 and not inside[0, :2].any()
    seen = bank.learn([(images, area)], images=1, share=1.0, most=5000, top=0.1, seed=0)
    assert seen == 32


def test_a_distance_says_less_where_normal_images_differ():
    dice = np.random.default_rng(0)
    steady, wild = 1 + 0.1 * dice.normal(size=400), 3 + 1.0 * dice.normal(size=400)
    distances = torch.from_numpy(np.concatenate([steady, wild]).astype(np.float32))
    spots = torch.tensor([0] * 400 + [5 * 6 + 5] * 400)  # two corners of a grid, none beside the other
    gain, shift = by_place(distances, spots, (6, 6))
    even = distances * gain.ravel()[spots] + shift.ravel()[spots]
    for own in even.split(400):
        assert float(own.mean()) == pytest.approx(float(distances.mean()), rel=0.1)
    # The steady corner is not blown up without end: no place counts as steadier than a part of all.
    assert float(even[400:].std()) == pytest.approx(float(distances.std(correction=0)), rel=0.1)
    assert float(gain[0, 0]) < 1 / 0.29 and float(gain[0, 0]) > float(gain[5, 5])
    # Where no normal image reaches, distances are taken as they are.
    assert float(gain[0, 5]) == pytest.approx(1.0, abs=1e-4) and float(shift[0, 5]) == pytest.approx(0.0, abs=1e-4)


def _sided(count: int, seed: int) -> torch.Tensor:
    """Stripes in the left half, noise without them in the right one."""
    images = 0.3 * _images(count, seed)
    images[:, :, :, : SIDE // 2] += 3 * torch.sin(torch.arange(SIDE // 2) * 1.5)
    return images


def test_what_is_usual_in_one_place_is_odd_in_another():
    net = backbone("none:timm:resnet10t", channels=1, image_size=SIDE, seed=1)
    area, images = torch.ones(8, 1, SIDE, SIDE), _sided(8, 0)
    wrong = _sided(1, 3).flip(-1)  # stripes on the other side
    odd = {}
    for apart in (0.0, 8.0):
        bank = PatchBank(net, [1], apart=apart)
        bank.learn([(images, area)], images=8, share=1.0, most=10_000, top=0.1, seed=0)
        assert bank.bank.shape[1] == net.channels[1] + (2 if apart else 0)
        same, other = (bank(one, area[:1])[0].mean() for one in (_sided(1, 3), wrong))
        odd[apart] = float(other / same)
    assert odd[8.0] > 2 * odd[0.0]
    # Of images that may be mirrored the other side is usual too, and each image is left out with its mirrored picture.
    bank = PatchBank(net, [1], apart=8.0)
    seen = bank.learn([(images, area)], images=8, share=1.0, most=20_000, top=0.1, seed=0, mirrored=True)
    assert seen == 2 * 8 * 16 * 16 and len(bank.wholes) == 8
    same, other = (bank(one, area[:1])[0].mean() for one in (_sided(1, 3), wrong))
    assert float(other / same) < 1.3 and float(bank.gain.std()) > 0


def test_one_image_alone_says_nothing_of_places(bank: PatchBank):
    images, whole = _images(4, 0), torch.ones(4, 1, SIDE, SIDE)
    bank.learn([(images, whole)], images=4, share=1.0, most=5000, top=0.1, seed=0)
    assert bank.gain.shape == (8, 8) and float(bank.gain.std()) > 0
    bank.learn([(images[:1], whole[:1])], images=1, share=1.0, most=5000, top=0.1, seed=0)
    assert torch.equal(bank.gain, torch.ones(8, 8)) and torch.equal(bank.shift, torch.zeros(8, 8))


def test_what_cannot_be_is_said(bank: PatchBank):
    with pytest.raises(BadRecipe, match="has 5 stages, and stage 9"):
        PatchBank(bank.backbone, [2, 8])
    with pytest.raises(BadData, match="no place"):
        bank.learn([], images=1, share=1.0, most=10, top=0.1, seed=0)


def test_a_score_among_many_kept_places_weighs_less(bank: PatchBank):
    images, whole = _images(6, 0), torch.ones(6, 1, SIDE, SIDE)
    bank.learn([(images, whole)], images=6, share=1.0, most=5000, top=0.1, seed=0)
    weights = bank.weights(_images(3, 9), whole[:3], neighbours=5)
    assert weights.shape == (3,) and ((weights >= 0) & (weights < 1)).all()
