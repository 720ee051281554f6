"""Everything in a picture: a grid of points is asked, and what is sure, stable and not said twice is kept.

Source: Kirillov et al., "Segment Anything", ICCV 2023, appendix B (automatic mask generation), written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medgraft.nets.prompter import Embedding, Prompter, stability
from medgraft.outlining.form import Found, cut
from medgraft.samples.islands import cleaned
from medgraft.values import Prompt

Listen = Callable[[dict[str, Any]], None]
_POINTS = 64  # asked at once
_MOST_VALUES = 2**26  # of logits in the pixels of the file, held at once


@dataclass(frozen=True)
class Sieve:
    """What is kept.

    Attributes:
        grid: points a side.
        quality: the least overlap that the model foresees.
        stability: the least overlap of the masks at +1 and -1.
        overlap: of two boxes (IoU) from which the less sure one is left out.
        least: pixels below which islands and holes are taken away, and structures left out.
    """

    grid: int = 32
    quality: float = 0.88
    stability: float = 0.95
    overlap: float = 0.7
    least: float = 16.0


def everything(
    prompter: Prompter, picture: np.ndarray, sieve: Sieve, *, listen: Listen = lambda event: None
) -> list[Found]:
    """Get the structures of a picture `(H, W, 3)` uint8, the largest first."""
    embedding = prompter.encode(picture)
    prompts = grid_points(embedding.frame.shape, sieve.grid)
    kept: list[Found] = []
    for start in range(0, len(prompts), _POINTS):
        kept += _sure(prompter, embedding, prompts[start : start + _POINTS], sieve)
        listen({"event": "outline", "done": min(start + _POINTS, len(prompts)), "of": len(prompts)})
    kept = unrepeated([_tidied(one, sieve) for one in unrepeated(kept, overlap=sieve.overlap)], overlap=sieve.overlap)
    large = [one for one in kept if one.mask.sum() >= sieve.least]
    return sorted(large, key=lambda one: -int(one.mask.sum()))


def grid_points(shape: tuple[int, int], side: int) -> list[Prompt]:
    """Get `side * side` points in the middles of equal parts of a picture, row by row."""
    shares = (np.arange(side) + 0.5) / side
    return [Prompt(points=[(x * shape[1] - 0.5, y * shape[0] - 0.5, 1)]) for y in shares for x in shares]  # type: ignore[arg-type]


def _sure(prompter: Prompter, embedding: Embedding, prompts: list[Prompt], sieve: Sieve) -> list[Found]:
    """The candidates of some points that the model is sure of and that hardly change with the threshold."""
    coarse = prompter.guess(embedding, prompts)
    quality = coarse.quality.flatten()
    chosen = torch.nonzero(quality > sieve.quality).flatten()
    logits = coarse.logits.flatten(0, 1)
    at_once = max(1, _MOST_VALUES // int(np.prod(embedding.frame.shape)))
    found: list[Found] = []
    for some in chosen.split(at_once) if len(chosen) else ():
        fine = embedding.frame.back(logits[some])
        firm = stability(fine)
        for row in np.flatnonzero(firm > sieve.stability).tolist():
            mask = (fine[row] > 0).cpu().numpy()
            found.append(cut(mask, float(quality[some[row]]), float(firm[row])))
    return [one for one in found if one.mask.size]


def unrepeated(found: Sequence[Found], *, overlap: float) -> list[Found]:
    """Leave out structures whose box and that of a surer one overlap by more (IoU); the surest come first."""
    order = sorted(range(len(found)), key=lambda k: (-found[k].quality, k))
    low = np.array([found[k].start for k in order], np.float64).reshape(-1, 2)
    high = low + np.array([found[k].mask.shape for k in order], np.float64).reshape(-1, 2)
    area = (high - low).prod(axis=1)
    out, gone = [], np.zeros(len(order), bool)
    for place, number in enumerate(order):
        if gone[place]:
            continue
        out.append(found[number])
        both = (np.minimum(high, high[place]) - np.maximum(low, low[place])).clip(min=0).prod(axis=1)
        gone |= both > overlap * (area + area[place] - both)
    return out


def _tidied(one: Found, sieve: Sieve) -> Found:
    """Without small islands and holes; the cut has a rim, so that what lies around it is no hole."""
    mask = cleaned(np.pad(one.mask, 1), sieve.least)[1:-1, 1:-1]
    inner = cut(mask, one.quality, one.stability)
    return Found(inner.mask, (one.start[0] + inner.start[0], one.start[1] + inner.start[1]), one.quality, one.stability)
