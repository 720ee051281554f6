"""Which arithmetic is measured to be fastest, and which is not tried."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgraft.learn import engine
from medgraft.learn.engine import fastest


@pytest.mark.parametrize(("axes", "tried"), [(2, {False, True}), (3, {False})])
def test_bfloat16_is_tried_for_pictures_and_not_for_volumes(
    axes: int, tried: set[bool], monkeypatch: pytest.MonkeyPatch
):
    # Backward through convolutions of small volumes is wrong in it on processors, and another one each time.
    monkeypatch.setattr(engine, "has_bf16", lambda device: True)
    net = nn.Conv2d(1, 2, 3) if axes == 2 else nn.Conv3d(1, 2, 3)
    seen = set()

    def run(pixels: torch.Tensor) -> None:
        seen.add(torch.is_autocast_enabled("cpu"))

    precision, _ = fastest(net, torch.zeros(1, 1, *(4,) * axes), run=run, seconds=0.01)
    assert seen == tried and precision in ("fp32", "bf16")[: 1 + (axes == 2)]
