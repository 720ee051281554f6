"""Nuclei: candidates on a jittered lattice, of which the tissue below keeps some and gives them their form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.phantoms import canvas as cv
from medgraft.phantoms.canvas import Canvas

_STEP = 6.6  # um between candidates
_BLOCK = 24
REACH = 16.0  # um that a nucleus may lie away from its candidate, with its radius


@dataclass(frozen=True)
class Sort:
    """Nuclei of one kind of place.

    Attributes:
        kept: share of the candidates that become one.
        at: um below the rim where they line up; None for anywhere.
        within: least and greatest depth of a candidate.
        radius: um.
        long: length over width; the long side follows the rim.
        dark: amount of dye.
    """

    kept: float
    at: float | None
    within: tuple[float, float]
    radius: float
    long: float
    dark: float


_SORTS = {
    cv.CELLS_PROXIMAL: Sort(0.3, 5.6, (2.6, 9.4), 2.9, 1.1, 0.9),
    cv.CELLS_DISTAL: Sort(0.46, 4.2, (0.8, 7.4), 2.75, 1.15, 0.95),
    cv.STROMA: Sort(0.24, None, (-20.0, -1.2), 2.0, 2.4, 0.95),
    cv.TUFT: Sort(0.42, None, (-9.0, 9.0), 2.5, 1.25, 0.95),
    cv.CAPSULE: Sort(0.5, 3.0, (0.0, 7.0), 1.8, 2.6, 1.0),
    cv.WALL: Sort(0.36, None, (1.0, 60.0), 1.8, 3.0, 0.95),
    cv.SCAR: Sort(0.09, None, (-99.0, 99.0), 2.2, 1.6, 1.0),
}


def paint_nuclei(canvas: Canvas) -> None:
    """Add the nuclei; what lies below them gives way. Right where the canvas reaches `REACH` um further."""
    row, column, luck = _candidates(canvas)
    pitch = canvas.window.pitch
    i = np.floor(row / pitch).astype(int) - canvas.window.top
    j = np.floor(column / pitch).astype(int) - canvas.window.left
    seen = (i >= 1) & (j >= 1) & (i < canvas.window.height - 1) & (j < canvas.window.width - 1)
    row, column, luck, i, j = row[seen], column[seen], luck[:, seen], i[seen], j[seen]
    depth, place = canvas.rim[i, j], canvas.place[i, j]
    # Towards the depths, one pixel to each side; flat places have no direction and get one by chance.
    down = (canvas.rim[i + 1, j] - canvas.rim[i - 1, j]) / np.float32(2 * pitch)
    across = (canvas.rim[i, j + 1] - canvas.rim[i, j - 1]) / np.float32(2 * pitch)
    steep = np.sqrt(down * down + across * across)
    inward = np.where(steep > 0.3, np.arctan2(down, across), (luck[1] * 6.2832).astype(np.float32))
    spots = []
    for code, sort in _SORTS.items():
        mine = (place == code) & (luck[0] < sort.kept) & (depth > sort.within[0]) & (depth < sort.within[1])
        move = np.zeros(int(mine.sum()))
        if sort.at is not None:
            move = np.where(steep[mine] > 0.3, sort.at + 1.1 * (luck[2][mine] - 0.5) - depth[mine], 0.0)
        width = sort.radius * (0.8 + 0.4 * luck[3][mine])
        stretch = np.sqrt(1 + (sort.long - 1) * (0.5 + luck[4][mine]))
        turn = inward[mine] + np.pi / 2 + 0.9 * (luck[5][mine] - 0.5)
        spots.append(
            np.stack(
                [
                    row[mine] + move * np.sin(inward[mine]),
                    column[mine] + move * np.cos(inward[mine]),
                    width * stretch,
                    width / stretch,
                    turn,
                    sort.dark * (0.8 + 0.35 * luck[6][mine]),
                ]
            )
        )
    _capillaries(canvas, row, column, luck, (place == cv.STROMA) & (depth < -3.2), inward)
    cover = _stamped(canvas, np.concatenate(spots, axis=1))
    canvas.clear((slice(None), slice(None)), np.clip(cover, 0, 1))
    canvas.parts["nucleus"][:] = cover * (1 + np.float32(0.16) * canvas.fine)


def _capillaries(
    canvas: Canvas, row: np.ndarray, column: np.ndarray, luck: np.ndarray, between: np.ndarray, inward: np.ndarray
) -> None:
    """Open the small vessels between tubules, some with a red cell or two in them."""
    for least, most, red in ((0.5, 0.56, 0.0), (0.56, 0.6, 0.8)):
        mine = between & (luck[0] >= least) & (luck[0] < most)
        width, stretch = 1.9 + 1.7 * luck[3][mine], 1 + 0.6 * luck[4][mine]
        turn = inward[mine] + np.pi / 2 + 0.9 * (luck[5][mine] - 0.5)
        spots = np.stack([row[mine], column[mine], width * stretch, width / stretch, turn, np.ones(int(mine.sum()))])
        cover = _stamped(canvas, spots)
        canvas.parts["collagen"] *= 1 - cover
        canvas.parts["blood"] += np.float32(red) * cover


def _candidates(canvas: Canvas) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Get row and column in um, float64 `(N,)`, and seven numbers of 0..1 each, `(7, N)`."""
    top, left, bottom, right = canvas.window.ends_um()
    size = _STEP * _BLOCK
    parts = []
    for i in range(int(np.floor(top / size)), int(np.floor(bottom / size)) + 1):
        for j in range(int(np.floor(left / size)), int(np.floor(right / size)) + 1):
            drawn = canvas.plane.rng("nuclei", f"{i}/{j}").uniform(0, 1, (9, _BLOCK, _BLOCK))
            drawn[0] = (i * _BLOCK + np.arange(_BLOCK)[:, None] + 0.5 + 0.8 * (drawn[0] - 0.5)) * _STEP
            drawn[1] = (j * _BLOCK + np.arange(_BLOCK)[None, :] + 0.5 + 0.8 * (drawn[1] - 0.5)) * _STEP
            parts.append(drawn.reshape(9, -1))
    every = np.concatenate(parts, axis=1)
    return every[0], every[1], every[2:]


def _stamped(canvas: Canvas, spots: np.ndarray) -> np.ndarray:
    """Get the dye of ellipses `(6, N)` of row, column, long and short radius, turn and darkness, `(H, W)` float32."""
    window, pitch = canvas.window, canvas.window.pitch
    cover = np.zeros((window.height, window.width), np.float32)
    most = int(np.ceil((5.8 + 0.8) / pitch)) + 1
    offsets = np.arange(-most, most + 1)
    for start in range(0, spots.shape[1], 1500):
        row, column, long, short, turn, dark = (v.astype(np.float64) for v in spots[:, start : start + 1500])
        i, j = np.floor(row / pitch).astype(int), np.floor(column / pitch).astype(int)
        rows, columns = i[:, None] + offsets, j[:, None] + offsets
        down = ((rows + 0.5) * pitch - row[:, None]).astype(np.float32)[:, :, None]
        across = ((columns + 0.5) * pitch - column[:, None]).astype(np.float32)[:, None, :]
        sine, cosine = (f(turn).astype(np.float32)[:, None, None] for f in (np.sin, np.cos))
        along = (down * sine + across * cosine) / long.astype(np.float32)[:, None, None]
        beside = (across * sine - down * cosine) / short.astype(np.float32)[:, None, None]
        away = np.sqrt(along * along + beside * beside)
        # The soft edge is about a pixel wide, whatever the radius.
        soft = (np.maximum(0.75, 0.6 * pitch) / np.sqrt(long * short)).astype(np.float32)[:, None, None]
        value = np.clip((1 + soft - away) / (2 * soft), 0, 1) * dark.astype(np.float32)[:, None, None]
        if pitch > 2:
            value *= np.float32(min(1.0, 2.6 / pitch))
        inside = ((rows >= window.top) & (rows < window.top + window.height))[:, :, None]
        inside = inside & ((columns >= window.left) & (columns < window.left + window.width))[:, None, :] & (value > 0)
        flat = (rows - window.top)[:, :, None] * window.width + (columns - window.left)[:, None, :]
        np.maximum.at(cover.reshape(-1), flat[inside], value[inside])
    return cover
