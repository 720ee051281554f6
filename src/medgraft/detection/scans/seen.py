"""Scans gone through one by one: candidates, pictures and features, each scan kept as soon as it is done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.files import read_many
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.learn.candidate_finder import FILTER, Finder
from medgraft.samples.planes import Errand, look_at
from medgraft.samples.scan import Space
from medgraft.values import Boxes, Prediction

_SECONDS = 900.0  # for the search through one scan; a thin-sliced one on a busy machine takes minutes
_ARRAYS = ("centres", "radius_mm", "features", "hits", "further", "further_of")


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of a scan once its candidates went through the encoder.

    Attributes:
        space: of the file.
        centres: `(N, 3)` (d, h, w) in voxels of the file.
        radius_mm: `(N,)`.
        features: `(N, F)` float32.
        hits: `(N,)` as in `samples.planes.Looked`.
        further: `(E, F)` float32 of changed views.
        further_of: `(E,)` their candidates.
    """

    space: Space
    centres: np.ndarray
    radius_mm: np.ndarray
    features: np.ndarray
    hits: np.ndarray
    further: np.ndarray
    further_of: np.ndarray

    def told(self, finder: Finder, key: str) -> Prediction:
        """Get what the finder says of this scan."""
        return finder.told(key, self.features, space=self.space, centres=self.centres, radius_mm=self.radius_mm)

    def alone(self, finder: Finder, key: str) -> Prediction:
        """Get the candidates as boxes with the filter's own scores: what the search finds without a net."""
        corners = self.space.around(self.centres, self.radius_mm * finder.grow)
        scores = self.features[:, FILTER].astype(np.float64)
        boxes = Boxes(corners, (finder.answers.classes[0],) * len(corners), scores)
        return Prediction(key, scores, np.zeros(0), "", boxes=boxes)


def see(
    finder: Finder,
    errands: Sequence[Errand],
    *,
    prints: Sequence[str] = (),
    folder: Path | None = None,
    workers: int = 2,
    listen: Listen,
) -> Iterator[Seen | Exception]:
    """Yield what is seen of each scan, or why it cannot be read, in order.

    Args:
        finder: its encoder is used.
        errands: the scans.
        prints: with `folder`, a hash of each scan's content.
        folder: keeps what is seen, for a run that was stopped; None keeps nothing.
        workers: processes that read and search.
        listen: gets progress events.

    Raises:
        Interrupted: it was asked to stop.
    """
    paths = [None if folder is None else folder / f"{_print(finder, *pair)}.npz" for pair in _pairs(errands, prints)]
    known = [None if path is None else _read(path) for path in paths]
    missing = [place for place, one in enumerate(known) if one is None]
    words: dict[str, Any] = {"workers": workers, "timeout_s": _SECONDS, "prefetch": workers}
    looks = read_many([errands[place] for place in missing], partial(look_at, looks=finder.looks), **words)
    for place, one in enumerate(known):
        stopping.check()
        if one is None:
            _, looked = next(looks)
            if isinstance(looked, Exception):
                yield looked
                continue
            one = Seen(
                looked.space,
                looked.centres,
                looked.radius_mm,
                finder.features(looked.pictures, looked.more),
                looked.hits,
                finder.features(looked.further, looked.more[looked.further_of]),
                looked.further_of,
            )
            if (path := paths[place]) is not None:
                _write(path, one)
        listen({"event": "features", "done": place + 1, "of": len(errands)})
        yield one


def clear(folder: Path) -> None:
    """Delete what `see` kept of a run that is finished."""
    for path in folder.glob("*.npz"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or something else is in it
        folder.rmdir()


def _pairs(errands: Sequence[Errand], prints: Sequence[str]) -> Iterator[tuple[Errand, str]]:
    yield from zip(errands, prints or [""] * len(errands), strict=True)


def _print(finder: Finder, errand: Errand, content: str) -> str:
    """A name that another scan, other boxes, another encoder or another way to look does not have."""
    truth = errand.truth
    boxes = None if truth is None else [truth.corners.tolist(), list(truth.labels), truth.ignored.tolist()]
    net, looks = finder.judge.backbone, finder.looks
    words = [content, errand.image.index, boxes, net.sha256, net.architecture, finder.judge.head.pooling]
    return storage.sha256_json([*words, looks.to_dict(), looks.views, looks.seed, finder.engine.precision])[:32]


def _write(path: Path, one: Seen) -> None:
    arrays = {name: getattr(one, name) for name in _ARRAYS}
    space = np.array(json.dumps(one.space.to_dict()))
    storage.write_atomic(path, lambda file: np.savez(file, space=space, **arrays))


def _read(path: Path) -> Seen | None:
    """What was kept of a scan; nothing where it is not there or damaged."""
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: held[name] for name in _ARRAYS}
            return Seen(Space.from_dict(json.loads(str(held["space"]))), **arrays)
    except (OSError, ValueError, KeyError, EOFError):
        return None
    except Exception as error:
        if type(error).__name__ == "BadZipFile":
            return None
        raise
