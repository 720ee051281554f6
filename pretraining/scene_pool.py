"""Scenes on disk, block by block; several calls may draw them side by side.

python -m pretraining.scene_pool --out runs/scenes --blocks 96 --first 0
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from pretraining.pool import stream
from pretraining.programs import draw_programs
from pretraining.scenes import Scene, draw_scenes

BLOCK = 64
_PROGRAMS = 8192
_DRAWN_BY = ("programs", "fields", "shapes", "render", "scenes", "scene_pool")  # files that say how a scene looks


def code() -> str:
    """Get the sha256 of the code that draws scenes."""
    text = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in _DRAWN_BY)
    return hashlib.sha256(text).hexdigest()


def drawn_block(number: int, *, size: int, seed: int) -> list[Scene]:
    """Draw the scenes of a block: a function of (seed, number) on one kind of machine."""
    draw = torch.Generator().manual_seed(stream(seed, "scenes", number))
    programs = draw_programs(_PROGRAMS, seed=seed)
    ids, others = torch.randint(0, _PROGRAMS, (2, BLOCK), generator=draw)
    return draw_scenes(programs.rows(ids), programs.rows(others), size=size, draw=draw)


def write_block(folder: Path, number: int, scenes: list[Scene]) -> None:
    """Write the scenes of a block, whole or not at all."""
    path = folder / f"{number:05d}.npz"
    rest = path.with_suffix(".tmp.npz")
    np.savez(
        rest,
        pictures=np.stack([scene.picture for scene in scenes]),
        structures=np.packbits(np.concatenate([scene.structures for scene in scenes]), axis=-1),
        counts=np.array([len(scene.structures) for scene in scenes]),
    )
    rest.replace(path)


def read_scenes(folder: Path) -> list[Scene]:
    """Read all scenes of a folder; structures stay packed, eight pixels a byte along the last axis.

    Raises:
        SystemExit: there are none, or other code drew them.
    """
    found: list[Scene] = []
    for path in sorted(folder.glob("[0-9]*.npz")):
        with np.load(path) as block:
            ends = np.cumsum(block["counts"])[:-1]
            parts = np.split(block["structures"], ends)
            found += [Scene(picture, part) for picture, part in zip(block["pictures"], parts, strict=True) if len(part)]
    if not found:
        raise SystemExit(f"{folder} holds no scenes: python -m pretraining.scene_pool --out {folder} --blocks 96")
    return found


def main() -> None:
    """Draw blocks that are not there yet."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--blocks", type=int, default=96, help=f"of {BLOCK} scenes")
    given.add_argument("--first", type=int, default=0, help="number of the first one")
    given.add_argument("--size", type=int, default=160, help="side of a scene in pixels")
    given.add_argument("--seed", type=int, default=0)
    options = given.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    made = {"size": options.size, "seed": options.seed, "code": code()}
    told = options.out / "scenes.json"
    if told.exists() and json.loads(told.read_text()) != made:
        given.error(f"{options.out} holds scenes of other code, size or seed; name another folder")
    told.write_text(json.dumps(made))
    for number in range(options.first, options.first + options.blocks):
        if not (options.out / f"{number:05d}.npz").exists():
            write_block(options.out, number, drawn_block(number, size=options.size, seed=options.seed))
            print(f"block {number}", flush=True)


if __name__ == "__main__":
    main()
