"""The net that foretells pixels: what is hidden is really hidden."""

from __future__ import annotations

import torch

from medgraft.nets.restorer import GRIDS, Restorer, RestorerForm, hidden, shapes
from medgraft.tasks.denoise import Denoise

FORM = RestorerForm((8, 16))


def test_four_grids_hide_every_pixel_once_behind_the_mean_of_its_neighbours():
    planes = torch.rand(2, 1, 8, 12)
    seen = torch.zeros(planes.shape)
    for grid in range(GRIDS):
        shown, spots = hidden(planes, torch.full((2,), grid))
        seen += spots
        assert torch.equal(shown[~spots], planes[~spots])
    assert torch.equal(seen, torch.ones_like(seen))
    shown, spots = hidden(planes, torch.full((2,), 3))
    assert spots[0, 0, 3, 5]
    around = (planes[0, 0, 2, 5] + planes[0, 0, 4, 5] + planes[0, 0, 3, 4] + planes[0, 0, 3, 6]) / 4
    torch.testing.assert_close(shown[0, 0, 3, 5], around)


def test_no_pixel_has_a_part_in_what_is_foretold_of_it():
    torch.manual_seed(0)
    task = Denoise(FORM).eval()
    planes = torch.randn(1, 1, 12, 12)
    before = task.foretold(planes)
    for row, column in ((0, 0), (5, 6), (1, 11), (11, 4)):
        changed = planes.clone()
        changed[0, 0, row, column] += 10
        after = task.foretold(changed)
        assert torch.equal(after[0, 0, row, column], before[0, 0, row, column])
        assert not torch.equal(after, before)


def test_what_a_window_shows_does_not_change_what_is_said_of_its_middle():
    torch.manual_seed(0)
    net = Restorer(FORM).eval()
    plane = torch.randn(1, 1, 48, 48)
    whole, part = net(plane), net(plane[..., 8:40, 8:40])
    torch.testing.assert_close(part[..., 12:-12, 12:-12], whole[..., 20:-20, 20:-20], rtol=1e-4, atol=1e-5)


def test_a_form_says_what_it_takes():
    assert shapes(RestorerForm((8, 16, 32)), (17, 24)) == (20, 24)
    assert RestorerForm.from_dict(FORM.to_dict()) == FORM
