"""How much of images a training step may hold: by the memory of the machine that it runs on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medgraft.learn.engine import resolve_device

_STEP_PIXELS, _STEP_VOXELS, _PATCH_VOXELS = 2**19, 2**18, 2**17  # on processors, where time is short and not memory
_TIMES = ((24.0, 8), (8.0, 4))  # GiB of a GPU, and how many times as much it takes


@dataclass(frozen=True)
class Room:
    """What a step may hold.

    Attributes:
        step_pixels: network pixels of all patches of a step.
        step_voxels: the same in volumes.
        patch_voxels: voxels of one patch.
        words: why, as an addition to a reason; "" on processors.
    """

    step_pixels: int
    step_voxels: int
    patch_voxels: int
    words: str = ""


def room_of(device: str) -> Room:
    """Get the room of a device: "auto", "cpu", "cuda" or "cuda:1".

    A step of a GPU of 8 GiB takes four times, of 24 GiB eight times what suits a processor. A voxel of the finest map
    costs about a kilobyte while it is learnt from.

    Raises:
        BadRecipe: the device is not there.
    """
    name = resolve_device(device)
    gib = _memory(name) / 2**30 if name.startswith("cuda") else 0.0
    times = next((factor for least, factor in _TIMES if gib >= least), 1)
    words = f"; the GPU has {gib:.0f} GiB" if times > 1 else ""
    return Room(_STEP_PIXELS * times, _STEP_VOXELS * times, _PATCH_VOXELS * times, words)


def _memory(name: str) -> int:
    return int(torch.cuda.get_device_properties(name).total_memory)
