"""Things put into normal pictures, and the head that learns to see them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from medgraft import seeds
from medgraft.nets import foreign
from medgraft.nets.backbone import backbone
from medgraft.nets.patch_bank import PatchBank

SIDE = 64


def _pictures(count: int, channels: int = 1) -> np.ndarray:
    """A disc with blurred noise on an empty ground."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    disc = (np.hypot(x, y) < 24).astype(np.float32)
    noise = np.random.default_rng(0).normal(size=(count, channels, SIDE, SIDE)).astype(np.float32)
    return disc * (1 + 0.6 * ndimage.gaussian_filter(noise, (0, 0, 1.5, 1.5)))


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_put_in_lies_where_there_is_structure_and_is_marked(channels: int):
    pictures, inside = _pictures(3, channels), np.ones((SIDE, SIDE), bool)
    inside[:20] = False  # padded
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    covered, centres = [], []
    for number in range(40):
        picture = pictures[number % 3] * inside
        changed, cover = foreign.put_in(picture, pictures, inside=inside, dice=seeds.generator(0, "t", index=number))
        again, _ = foreign.put_in(picture, pictures, inside=inside, dice=seeds.generator(0, "t", index=number))
        assert np.array_equal(changed, again) and changed.dtype == np.float32 and changed.shape == picture.shape
        assert cover.min() >= 0 and cover.max() <= 1 and not cover[~inside].any()
        assert picture.min() <= changed.min() and changed.max() <= picture.max()
        assert np.array_equal(changed[:, ~inside], picture[:, ~inside])
        # What is marked is changed; what is not marked is changed by little at most.
        apart = np.abs(changed - picture).mean(0)
        assert not (cover > 0.5).any() or apart[cover > 0.5].mean() > 5 * apart[cover == 0].mean()
        covered.append(cover.mean())
        centres.append(float(cover[np.hypot(x, y) > 30].sum() / max(cover.sum(), 1e-6)))
    assert 0.005 < np.mean(covered) < 0.2 and np.mean(centres) < 0.2


def test_a_picture_without_structure_is_left_as_it_is():
    flat = np.full((1, SIDE, SIDE), 3, np.float32)
    changed, cover = foreign.put_in(flat, flat[None], inside=np.ones((SIDE, SIDE), bool), dice=seeds.generator(0, "t"))
    assert np.array_equal(changed, flat) and not cover.any()
    none = np.zeros((SIDE, SIDE), bool)
    changed, cover = foreign.put_in(flat, flat[None], inside=none, dice=seeds.generator(0, "t"))
    assert np.array_equal(changed, flat) and not cover.any()


def test_the_head_sees_a_spot_that_it_was_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(foreign, "PICTURES", 240)
    monkeypatch.setattr(foreign, "_STEPS", 300)
    net = backbone("embedded:resnet10t", channels=1, image_size=SIDE, offline=True)
    pictures, area = torch.from_numpy(_pictures(24)), torch.ones(24, 1, SIDE, SIDE)
    banks = []
    for weight in (0.0, 0.5, 0.5):
        banks.append(PatchBank(net, [0, 1], apart=2.0, foreign=weight))
        banks[-1].learn([(pictures[:20], area[:20])], images=20, share=0.2, most=2000, top=0.1, seed=0)
    plain, seeing, again = banks
    assert plain.head is None and seeing.head is not None
    shown, there = pictures[20:].clone(), np.zeros((4, 32, 32), bool)
    shown[:, :, 26:38, 26:38] += 0.4
    there[:, 13:19, 13:19] = True
    rows, _ = seeing._looked(shown, area[:4], device=torch.device("cpu"))
    y, x = np.mgrid[:32, :32] - 15.5
    disc = np.broadcast_to(np.hypot(x, y) < 10, there.shape)
    blind = foreign.ForeignHead(rows.shape[-1]).eval()
    learnt, chance = (roc_auc_score(there[disc], one(rows).detach().numpy()[disc]) for one in (seeing.head, blind))
    assert learnt > 0.8 and learnt > chance + 0.1, (learnt, chance)
    # It counts beside the distance: places that it finds foreign are odder than they were.
    more = (seeing(shown, area[:4])[0] - plain(shown, area[:4])[0])[torch.from_numpy(there)].mean()
    less = (seeing(shown, area[:4])[0] - plain(shown, area[:4])[0])[:, 10:12, 10:22].mean()
    assert float(more) > float(less)
    assert torch.equal(seeing(shown, area[:4])[0], again(shown, area[:4])[0])
