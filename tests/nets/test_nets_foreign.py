"""The head that learns to see what was put into normal pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medgraft.nets import foreign, patch_bank
from medgraft.nets.backbone import backbone
from medgraft.nets.patch_bank import PatchBank
from medgraft.phantoms.foreign import put_in
from tiny_discs import SIDE, make_discs


def test_the_head_sees_a_spot_that_it_was_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(foreign, "PICTURES", 240)
    monkeypatch.setattr(foreign, "_STEPS", 300)
    net = backbone("embedded:resnet10t", channels=1, image_size=SIDE, offline=True)
    pictures, area = torch.from_numpy(make_discs(24)), torch.ones(24, 1, SIDE, SIDE)
    banks = []
    for weight in (0.0, 0.5, 0.5):
        banks.append(PatchBank(net, [0, 1], apart=2.0, foreign=weight))
        banks[-1].learn([(pictures[:20], area[:20])], images=20, share=0.2, most=2000, top=0.1, seed=0, put_in=put_in)
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


def test_of_large_pictures_fewer_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patch_bank, "_KEPT", 5 * SIDE * SIDE)
    pictures, area = torch.from_numpy(make_discs(8)), torch.ones(8, 1, SIDE, SIDE)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    batches = [(pictures[:4], area[:4]), (pictures[4:], area[4:])]
    passed = list(patch_bank._remembered(batches, kept, most=100))
    assert [len(one) for one, _ in passed] == [4, 4] and [len(one) for one, _ in kept] == [4, 1]
