"""A contact sheet: what the encoder is trained on, for a person to judge.

python -m pretraining.sheet --out docs/pictures/pretraining.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from pretraining.programs import draw_programs
from pretraining.render import render


def sheet(*, rows: int, columns: int, each: int, size: int, seed: int = 0, start: int = 0) -> Image.Image:
    """Draw `rows` times `columns` programs, `each` images of one side by side."""
    programs = draw_programs(start + rows * columns, seed=seed)
    ids = torch.arange(start, start + rows * columns).repeat_interleave(each)
    draw = torch.Generator().manual_seed(seed + 1)
    images = (render(programs.rows(ids), size=size, draw=draw).images * 255).round().byte()
    gap = 2
    whole = torch.full(
        (3, rows * (size + gap) - gap, columns * (each * size + 3 * gap) - 3 * gap), 255, dtype=torch.uint8
    )
    for k, image in enumerate(images):
        row, column, within = k // each // columns, k // each % columns, k % each
        top, left = row * (size + gap), column * (each * size + 3 * gap) + within * size
        whole[:, top : top + size, left : left + size] = image
    return Image.fromarray(whole.permute(1, 2, 0).numpy())


def main() -> None:
    """Write the picture."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--out", type=Path, default=Path("docs/pictures/pretraining.jpg"))
    given.add_argument("--seed", type=int, default=0)
    options = given.parse_args()
    sheet(rows=12, columns=4, each=3, size=80, seed=options.seed).save(options.out, optimize=True, quality=85)
    print(options.out)


if __name__ == "__main__":
    main()
