"""Large GPUs take larger patches and steps; processors, and small ones, what was tried on them."""

from __future__ import annotations

import pytest

from medgraft.segmentation import room
from medgraft.segmentation.room import room_of


@pytest.mark.parametrize(("gib", "times"), [(6, 1), (12, 4), (80, 8)])
def test_more_memory_more_room(monkeypatch, gib, times):
    plain = room_of("cpu")
    assert plain.words == ""
    monkeypatch.setattr(room, "resolve_device", lambda name: "cuda")
    monkeypatch.setattr(room, "_memory", lambda name: gib * 2**30)
    found = room_of("auto")
    assert found.step_pixels == times * plain.step_pixels and found.step_voxels == times * plain.step_voxels
    assert found.patch_voxels == times * plain.patch_voxels
    assert found.words == (f"; the GPU has {gib} GiB" if times > 1 else "")
