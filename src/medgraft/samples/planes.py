"""Planes through the candidates of a scan, as pictures that a net of pictures takes; and which of them are findings.

Source: van Ginneken, Setio, Jacobs, Ciompi, "Off-the-shelf convolutional neural
network features for pulmonary nodule detection in computed tomography scans",
ISBI 2015: three planes at right angles, features of a net that learnt from
photographs, a linear classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import seeds, storage
from medgraft.samples.candidates import Candidate, candidates_of, patches_of
from medgraft.samples.facts import source_sha256
from medgraft.samples.resampling import windowed
from medgraft.samples.scan import Scan, Space, read_scan
from medgraft.values import Boxes, ImageRef

SEARCH = 2  # raise it when the same scan must give other candidates than before
LEFT_OUT = -2  # a candidate that is neither a hit nor wrong
_SHIFT_MM, _STRETCH = 0.7, 0.12  # of further views: standard deviations of the shift and of the logarithm of the size
_MARGIN_MM = 3.0  # around a true box: candidates whose centre lies there teach nothing


@dataclass(frozen=True)
class Looks:
    """How candidates become pictures.

    Attributes:
        most: candidates a scan, at most.
        sides_mm: width and height of the planes; of each there are three.
        pixels: width and height of the planes.
        windows_hu: (centre, width) of each channel; one or three.
        views: of a candidate that is a hit, changed ones beside the plain one included.
        seed: of the changes.
    """

    most: int
    sides_mm: tuple[float, ...]
    pixels: int
    windows_hu: tuple[tuple[float, float], ...]
    views: int = 1
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return {name: value for name, value in asdict(self).items() if name not in ("views", "seed")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Looks:
        """Read what `to_dict` wrote."""
        windows = tuple((float(centre), float(width)) for centre, width in values["windows_hu"])
        sides = tuple(float(side) for side in values["sides_mm"])
        return cls(int(values["most"]), sides, int(values["pixels"]), windows)


@dataclass(frozen=True, eq=False)
class Errand:
    """A scan to look at, and its true boxes where further views of what hits them are wanted.

    Attributes:
        image: where the scan is.
        truth: its boxes; None looks at the candidates as they are.
    """

    image: ImageRef
    truth: Boxes | None = None

    def __str__(self) -> str:
        return str(self.image)


@dataclass(frozen=True, eq=False)
class Looked:
    """The candidates of a scan.

    Attributes:
        space: of the file.
        centres: `(N, 3)` (d, h, w) in voxels of the file, 0 in the centre of the first.
        radius_mm: `(N,)`.
        more: `(N, 3)` float32 beside the pictures: the filter's score, the logarithm of the radius, 1 for ground glass.
        pictures: `(N, sides, 3, C, pixels, pixels)` uint8.
        hits: `(N,)` number of the true box that each hits; -1 for none, `LEFT_OUT` for what is left out.
        further: `(E, sides, 3, C, pixels, pixels)` uint8 changed views of candidates that are hits.
        further_of: `(E,)` their candidates.
    """

    space: Space
    centres: np.ndarray
    radius_mm: np.ndarray
    more: np.ndarray
    pictures: np.ndarray
    hits: np.ndarray
    further: np.ndarray
    further_of: np.ndarray


def look_at(errand: Errand, looks: Looks) -> Looked:
    """Search a scan for candidates and picture them; where the search was done before, its places are read.

    Raises:
        BadImage: the scan cannot be read.
    """
    scan = read_scan(errand.image)
    found = searched(scan, errand.image, most=looks.most)
    centres = np.array([one.centre for one in found], np.float64).reshape(-1, 3)
    centres = scan.turn.back(centres, scan.space.shape)
    radius = np.array([one.radius_mm for one in found], np.float64)
    rows = [(one.score, float(np.log(one.radius_mm)), float(one.kind == "ground_glass")) for one in found]
    truth = Boxes(np.zeros((0, 6)), ()) if errand.truth is None else errand.truth
    hits = hits_of(centres, truth, scan.space)
    further, of = [], []
    for row in np.flatnonzero(hits >= 0).tolist():
        for view in range(1, looks.views):
            rng = seeds.generator(looks.seed, "candidate-views", view, f"{scan.space.shape} {found[row].centre}")
            further.append(_changed(scan, found[row], looks, rng))
            of.append(row)
    none = np.zeros((0, *_shape(looks)), np.uint8)
    return Looked(
        scan.space,
        centres,
        radius,
        np.array(rows, np.float32).reshape(-1, 3),
        np.stack([pictures_of(scan, one, looks) for one in found]) if found else none,
        hits,
        np.stack(further) if further else none,
        np.array(of, np.int64),
    )


def searched(scan: Scan, ref: ImageRef, *, most: int) -> list[Candidate]:
    """Get the candidates of a scan in its upright voxels, kept by the content of its file for the next time."""
    words = {"search": SEARCH, "most": most, "content": source_sha256(ref), "index": ref.index}
    path = storage.home() / "cache" / "candidates" / f"{storage.sha256_json(words)[:32]}.json"
    known = _kept(path)
    if known is None:
        found = candidates_of(scan.hu, scan.spacing_mm, most=most)
        known = [[*one.centre, one.radius_mm, one.score, one.kind] for one in found]
        storage.write_json(path, known)
    return [Candidate((d, h, w), radius, score, kind) for d, h, w, radius, score, kind in known]


def _kept(path: Path) -> list[Any] | None:
    import json

    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def hits_of(centres: np.ndarray, truth: Boxes, space: Space) -> np.ndarray:
    """Tell which true box each candidate hits: one whose edges its centre lies within, the nearest of several.

    Args:
        centres: `(N, 3)` (d, h, w) in voxels of the file.
        truth: boxes of the file.
        space: of the file.

    Returns:
        `(N,)` number of the box; -1 for none; `LEFT_OUT` where that box is ignored, and close beside a box.
    """
    hits = np.full(len(centres), -1)
    if not len(truth) or not len(centres):
        return hits
    steps = np.array(space.spacing_mm[::-1])
    places = (centres[:, None, ::-1] + 0.5) * steps
    low, high = truth.corners[None, :, :3] * steps, truth.corners[None, :, 3:] * steps
    beyond = np.maximum(low - places, places - high).max(axis=2)  # mm outside of each box, negative within
    away = np.linalg.norm(places - (low + high) / 2, axis=2)
    nearest = np.where(beyond <= 1e-9, away, np.inf).argmin(axis=1)
    inside = (beyond <= 1e-9).any(axis=1)
    hits[inside] = np.where(truth.ignored[nearest[inside]], LEFT_OUT, nearest[inside])
    hits[~inside & (beyond.min(axis=1) <= _MARGIN_MM)] = LEFT_OUT
    return hits


def pictures_of(scan: Scan, candidate: Candidate, looks: Looks) -> np.ndarray:
    """Get the planes of one candidate, uint8 `(sides, 3, C, pixels, pixels)`: axial, coronal, sagittal of each side."""
    planes = [_planes(scan, candidate, side, looks) for side in looks.sides_mm]
    return np.stack([coloured(one, looks.windows_hu) for one in planes])


def coloured(planes: np.ndarray, windows_hu: Sequence[tuple[float, float]]) -> np.ndarray:
    """Get HU `(..., H, W)` as uint8 `(..., C, H, W)`: one channel a window."""
    shown = np.stack([windowed(planes, window) for window in windows_hu], axis=-3)
    return np.rint(shown * np.float32(255)).astype(np.uint8)


def _planes(scan: Scan, candidate: Candidate, side: float, looks: Looks) -> np.ndarray:
    return patches_of(scan.hu, candidate, spacing_mm=scan.spacing_mm, side_mm=side, pixels=looks.pixels)


def _changed(scan: Scan, candidate: Candidate, looks: Looks, rng: np.random.Generator) -> np.ndarray:
    """Get the planes shifted, stretched and mirrored a little, alike in all of them."""
    shift = np.clip(rng.normal(0, _SHIFT_MM, 3), -2 * _SHIFT_MM, 2 * _SHIFT_MM) / scan.spacing_mm
    size = float(np.exp(np.clip(rng.normal(0, _STRETCH), -2 * _STRETCH, 2 * _STRETCH)))
    mirrored = rng.random(3) < 0.5
    d, h, w = (float(c + s) for c, s in zip(candidate.centre, shift, strict=True))
    moved = Candidate((d, h, w), candidate.radius_mm, candidate.score, candidate.kind)
    pictures = []
    for side in looks.sides_mm:
        planes = _planes(scan, moved, side * size, looks)
        for number, axes in enumerate(((1, 2), (0, 2), (0, 1))):
            turned = tuple(place - 2 for place, axis in enumerate(axes) if mirrored[axis])
            planes[number] = np.flip(planes[number], turned)
        pictures.append(coloured(planes, looks.windows_hu))
    return np.stack(pictures)


def _shape(looks: Looks) -> tuple[int, ...]:
    return len(looks.sides_mm), 3, len(looks.windows_hu), looks.pixels, looks.pixels
