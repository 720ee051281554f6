"""Windows over an image: every place once, the join is exact where all windows agree, memory holds one slab."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.tasks.windows import Sweep, padded, slabs, weights_of


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(5, 40), min_size=2, max_size=3),
    st.integers(8, 20),
    st.integers(0, 6),
    st.integers(1, 3),
)
def test_what_is_the_same_in_every_window_comes_back_as_it_was(shape, side, lap, batch):
    """A net that looks at single places alone must not notice that there are windows."""
    pixels = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    sweep = Sweep((side,) * len(shape), (lap,) * len(shape), (4,) * len(shape), batch)
    seen, at = [], 0
    for begin, part in slabs(pixels, sweep, lambda windows: windows * 2 + 1):
        assert begin == at
        at += part.shape[1]
        seen.append(part)
    assert at == shape[0]
    torch.testing.assert_close(torch.cat(seen, dim=1), pixels * 2 + 1)


def test_windows_have_sides_that_the_net_can_halve_and_are_run_in_batches():
    sizes = []

    def run(windows: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(windows.shape))
        return windows

    parts = list(slabs(torch.zeros(1, 21, 50), Sweep((16, 16), (4, 4), (8, 8), 3), run))
    assert sizes == [(3, 1, 16, 16), (1, 1, 16, 16)] * 2
    assert [begin for begin, _ in parts] == [0, 5]
    assert [part.shape[1] for _, part in parts] == [5, 16]
    sizes.clear()
    list(slabs(torch.zeros(1, 5, 6), Sweep((16, 16), (4, 4), (8, 8)), run))
    assert sizes == [(1, 1, 8, 8)]


def test_the_middle_of_a_window_counts_more_than_its_edge():
    """Two windows that disagree: near the middle of each its own answer stands."""
    answers = iter([0.0, 1.0])

    def run(windows: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 1, *windows.shape[2:]), next(answers))

    parts = [part for _, part in slabs(torch.zeros(1, 8, 24), Sweep((8, 16), (0, 8), (1, 1)), run)]
    row = torch.cat(parts, dim=1)[0, 4].numpy()
    assert (np.diff(row) >= 0).all() and row[8] < 0.1 and row[15] > 0.9
    assert weights_of((9, 9)).argmax() == 40


def test_padding_repeats_the_last_place():
    out = padded(torch.arange(6.0).reshape(1, 1, 2, 3), (2, 4))
    assert out.shape == (1, 1, 2, 4) and out[0, 0, 1].tolist() == [3.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize("depth", [64, 256])
def test_no_more_than_a_slab_is_held(depth):
    """However deep a volume is, the tensors that are handed on are no deeper than a window."""
    sweep = Sweep((16, 32, 32), (4, 8, 8), (8, 8, 8))
    parts = [part.shape[1] for _, part in slabs(torch.zeros(1, depth, 32, 32), sweep, lambda windows: windows)]
    assert sum(parts) == depth and max(parts) <= 16
