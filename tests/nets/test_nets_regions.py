"""Regions cut out of maps: the values and gradients of torchvision's kernel, whatever the boxes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import MultiScaleRoIAlign

from medgraft.nets.regions import RegionAlign

SHAPE = (96, 160)  # of the pictures


def maps_of(strides: tuple[int, ...], *, images: int, random: torch.Generator) -> dict[str, torch.Tensor]:
    sizes = [(SHAPE[0] // stride, SHAPE[1] // stride) for stride in strides]
    return {str(i): torch.randn(images, 5, *size, generator=random) for i, size in enumerate(sizes)}


def boxes_of(counts: list[int], random: torch.Generator) -> list[torch.Tensor]:
    """Boxes from a hundredth of a pixel to twice the picture; many reach over its edges."""
    found = []
    for count in counts:
        low = torch.rand(count, 2, generator=random) * 220 - 40
        found.append(torch.cat([low, low + 10 ** (torch.rand(count, 2, generator=random) * 4.5 - 2)], dim=1))
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([(4,), (8, 16), (4, 8, 16, 32)]),
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
    st.booleans(),
)
def test_values_and_gradients_are_torchvisions(seed, strides, counts, last):
    random = torch.Generator().manual_seed(seed)
    maps, boxes = maps_of(strides, images=len(counts), random=random), boxes_of(counts, random)
    theirs = MultiScaleRoIAlign(list(maps), output_size=7, sampling_ratio=2)
    found = []
    for one in (RegionAlign(strides), theirs):
        layout = torch.channels_last if last else torch.contiguous_format
        own = {name: values.clone(memory_format=layout).requires_grad_() for name, values in maps.items()}
        regions = one(own, boxes, [SHAPE] * len(counts))
        assert regions.shape == (sum(counts), 5, 7, 7)
        (regions * torch.arange(7.0)).sin().sum().backward()
        grads = [torch.zeros_like(v) if v.grad is None else v.grad for v in own.values()]
        found.append((regions.detach(), grads))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=1e-4)
    for ours, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, other, atol=1e-3, rtol=1e-3)


def test_both_ways_agree():
    """The way for other devices, which a processor can walk too."""
    random = torch.Generator().manual_seed(0)
    maps, boxes = maps_of((8, 16), images=2, random=random), boxes_of([5, 3], random)
    one = RegionAlign((8, 16))
    images, places = torch.tensor([0] * 5 + [1] * 3), torch.cat(boxes)
    other = one._by_torchvision(list(maps.values()), places, images, one._levels_of(places))
    torch.testing.assert_close(one(maps, boxes, None), other, atol=1e-4, rtol=1e-4)


def test_autocast_leaves_float32_maps_as_they_are():
    random = torch.Generator().manual_seed(1)
    maps, boxes = maps_of((8,), images=1, random=random), boxes_of([4], random)
    one = RegionAlign((8,))
    plain = one(maps, boxes, None)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(one(maps, boxes, None), plain)
