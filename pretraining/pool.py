"""A pool of rendered images that training draws its views from, renewed bit by bit.

Rendering costs more than a view, and one image with other crops teaches
nearly as much as another image of its program (one instance a class is
enough for formula-driven learning: Nakamura et al. 2023, arXiv 2307.14710).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pretraining.numbers import NUMBERS
from pretraining.programs import Programs
from pretraining.render import MASKS, render

BLOCK = 256
_DRAWN_BY = ("programs", "fields", "shapes", "numbers", "render", "pool")  # files that say how an image looks
_MIXED = 0.15  # share of images that are a mixture of two renders (Shaders-21k's best variant, Baradad et al. 2022)


@dataclass(frozen=True)
class Taken:
    """Images out of the pool.

    Attributes:
        images: `(N, 3, S, S)` uint8.
        masks: `(N, 4, S/2, S/2)` uint8, 255 = inside.
        numbers: `(N, K)` float32; NaN where they mean nothing.
        programs: `(N, 2)` the program, and the one mixed in.
        shares: `(N,)` share of the first program; 1 = no mixture.
    """

    images: Tensor
    masks: Tensor
    numbers: Tensor
    programs: Tensor
    shares: Tensor


class Pool:
    """Rendered images in memory, block by block.

    Args:
        programs: what to render, on the device.
        count: images held; rounded up to whole blocks.
        size: S in pixels.
        seed: block b's images are a function of (seed, b) on one kind of device.
        device: where to render and to keep them.
        folder: keeps them on disk, mapped into memory, for the next call; None keeps them in memory alone.
    """

    def __init__(
        self, programs: Programs, *, count: int, size: int, seed: int, device: torch.device, folder: Path | None = None
    ) -> None:
        self.programs, self.size, self.seed, self.device = programs.to(device), size, seed, device
        self.blocks, self.folder = -(-count // BLOCK), folder
        self.rendered = 0
        count, half = self.blocks * BLOCK, size // 2
        self.images = self._room("images", torch.uint8, count, 3, size, size)
        self.masks = self._room("masks", torch.uint8, count, len(MASKS), half, half)
        self.ids = self._room("ids", torch.long, count, 2)
        self.shares = self._room("shares", torch.float32, count)
        self.numbers = self._room("numbers", torch.float32, count, len(NUMBERS))
        self._take_up()

    def _room(self, name: str, dtype: torch.dtype, *shape: int) -> Tensor:
        if self.folder is None:
            return torch.empty(shape, dtype=dtype, device=self.device)
        self.folder.mkdir(parents=True, exist_ok=True)
        flat = torch.from_file(str(self.folder / name), shared=True, size=math.prod(shape), dtype=dtype)
        return flat.view(shape)

    def _take_up(self) -> None:
        """Go on with the images that an earlier call left, if they are of the same programs and the same code."""
        if self.folder is None:
            return
        said = self.folder / "pool.json"
        found = json.loads(said.read_text()) if said.exists() else {}
        if found.get("made") == self._made():
            self.rendered = found["rendered"]

    def _made(self) -> list[int | str]:
        code = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in _DRAWN_BY)
        return [len(self.programs), self.blocks, self.size, self.seed, hashlib.sha256(code).hexdigest()]

    def __len__(self) -> int:
        return min(self.rendered, self.blocks) * BLOCK

    def advance(self) -> None:
        """Render the next block; when the pool is full it replaces the oldest one."""
        self._put(self.rendered)
        self._count(self.rendered + 1)

    def go_to(self, rendered: int) -> None:
        """Hold what the pool held when that many blocks had been rendered."""
        if rendered > self.rendered:
            self.rendered = max(self.rendered, rendered - self.blocks)
        for block in range(self.rendered, rendered):
            self._put(block)
        for block in range(rendered, self.rendered):  # later than asked for: what they replaced comes back
            if 0 <= block - self.blocks < rendered:
                self._put(block - self.blocks)
        self._count(rendered)

    def _count(self, rendered: int) -> None:
        self.rendered = rendered
        if self.folder is not None:
            said = self.folder / "pool.json"
            said.with_suffix(".tmp").write_text(json.dumps({"made": self._made(), "rendered": rendered}))
            said.with_suffix(".tmp").replace(said)

    def _put(self, block: int) -> None:
        """Render a block to its place."""
        draw = torch.Generator(self.device).manual_seed(stream(self.seed, "block", block))
        ids = torch.from_numpy(_ids(len(self.programs), seed=self.seed, block=block)).to(self.device)
        first = render(self.programs.rows(ids), size=self.size, draw=draw)
        share, other = torch.ones(BLOCK, device=self.device), ids.clone()
        mixed = round(BLOCK * _MIXED)
        share[:mixed] = 0.5 + 0.4 * torch.rand(mixed, generator=draw, device=self.device)
        other[:mixed] = ids[mixed : 2 * mixed]
        images = first.images.clone()
        images[:mixed] = torch.lerp(first.images[mixed : 2 * mixed], images[:mixed], share[:mixed, None, None, None])
        at = slice(block % self.blocks * BLOCK, (block % self.blocks + 1) * BLOCK)
        self.images[at] = (images * 255).round().byte()
        half = torch.nn.functional.avg_pool2d(first.masks, 2)
        self.masks[at] = (half * 255).round().byte()
        self.ids[at] = torch.stack([ids, other], 1)
        self.shares[at] = share
        self.numbers[at] = first.numbers

    def standards(self) -> tuple[Tensor, Tensor]:
        """Get mean and spread of each number over the pool, `(K,)` each."""
        known = self.numbers[: len(self)]
        centre = known.nanmean(0).nan_to_num(0)
        spread = (known - centre).square().nanmean(0).sqrt().nan_to_num(1).clamp_min(1e-3)
        return centre, spread

    def take(self, rows: Tensor) -> Taken:
        """Get images by their places."""
        return Taken(self.images[rows], self.masks[rows], self.numbers[rows], self.ids[rows], self.shares[rows])


def stream(seed: int, kind: str, number: int) -> int:
    """Get the seed of a stream of random numbers of its own, in the 32 bits that the CPU's generator looks at."""
    return int(np.random.SeedSequence([seed, *kind.encode(), number]).generate_state(1)[0])


def _ids(programs: int, *, seed: int, block: int) -> np.ndarray:
    """Get the programs of a block: all programs come once before one comes again."""
    places = np.arange(block * BLOCK, (block + 1) * BLOCK)
    found = np.empty(BLOCK, dtype=np.int64)
    for turn in np.unique(places // programs):
        order = np.random.Generator(np.random.Philox(key=[seed, int(turn)])).permutation(programs)
        own = places // programs == turn
        found[own] = order[places[own] % programs]
    return found
