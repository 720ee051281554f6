"""Scans brought onto the grid of a net, each kept on disk as soon as it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.files import read_many
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.samples.framing import Frame, Framed, FrameForm, framed, region_of
from medgraft.samples.resampling import regrid
from medgraft.samples.scan import read_scan
from medgraft.shelf import Shelf
from medgraft.values import Boxes, ImageRef

_SECONDS = 300.0  # for one scan
_AIR_HU = -500.0


class FrameShelf:
    """Framed scans in a folder.

    Args:
        folder: of the run; it is made.
        form: how scans become voxels.
    """

    def __init__(self, folder: Path, form: FrameForm) -> None:
        self.shelf, self.form = Shelf(folder), form

    def fill(self, refs: Sequence[ImageRef], prints: Sequence[str], *, workers: int, listen: Listen) -> list[Framed]:
        """Get all scans, mapped from the folder; what is not there yet is read and framed.

        Args:
            refs: the scans.
            prints: a hash of each scan's content.
            workers: processes that read.
            listen: gets progress events.

        Raises:
            BadImage: one cannot be read.
            Interrupted: it was asked to stop; what was done is kept.
        """
        names = [
            storage.sha256_json([one, ref.index, self.form.to_dict()])[:32]
            for ref, one in zip(refs, prints, strict=True)
        ]
        missing = [place for place, name in enumerate(names) if self._get(name) is None]
        answers = frames_of([refs[place] for place in missing], self.form, workers=workers)
        for done, (place, one) in enumerate(zip(missing, answers, strict=True), start=1):
            stopping.check()
            if isinstance(one, Exception):
                raise one
            self._put(names[place], one)
            listen({"event": "frames", "done": len(refs) - len(missing) + done, "of": len(refs)})
        found = [self._get(name) for name in names]
        assert all(one is not None for one in found)
        return [one for one in found if one is not None]

    def clear(self) -> None:
        """Delete what is kept, of a run that is finished."""
        self.shelf.clear()

    def _put(self, name: str, one: Framed) -> None:
        self.shelf.put(name, {"voxels": one.voxels}, one.frame.to_dict())

    def _get(self, name: str) -> Framed | None:
        kept = self.shelf.get(name)
        return None if kept is None else Framed(kept.arrays["voxels"], Frame.from_dict(kept.facts))


def frames_of(refs: Sequence[ImageRef], form: FrameForm, *, workers: int) -> Iterator[Framed | Exception]:
    """Yield scans on the grid of a net, or why one cannot be read, in order; read in worker processes."""
    words: dict[str, Any] = {"workers": workers, "timeout_s": _SECONDS, "prefetch": workers}
    for _, one in read_many(refs, partial(framed, form=form), **words):
        yield one


def overlooked(refs: Sequence[ImageRef], boxes: Sequence[Boxes], *, workers: int) -> list[dict[str, Any]]:
    """Get of each scan that can be read: `spacing_mm` upright, whether it is in HU, and whether boxes lie in lungs."""
    found = []
    for place, one in read_many(refs, _overlook, workers=workers, timeout_s=_SECONDS, prefetch=workers):
        if isinstance(one, Exception):
            continue
        frame = one.pop("frame")
        inside = frame.boxes(boxes[place].corners) if len(boxes[place]) else np.zeros((0, 6))
        middle = (inside[:, :3] + inside[:, 3:])[:, ::-1] / 2
        kept = ((middle >= 0) & (middle <= np.array(frame.way.to_shape))).all()
        found.append({**one, "in_lungs": bool(one["lungs"] and kept)})
    return found


def _overlook(ref: ImageRef) -> dict[str, Any]:
    """Look at a scan for what the plan needs.

    Raises:
        BadImage: it cannot be read.
    """
    scan = read_scan(ref)
    start, stop = region_of(scan)
    lungs = tuple(start) != (0, 0, 0) or tuple(stop) != scan.hu.shape
    shape = tuple(b - a for a, b in zip(start, stop, strict=True))
    frame = Frame(scan.space, scan.turn, start, regrid(shape, scan.spacing_mm, to_mm=scan.spacing_mm))
    return {
        "spacing_mm": scan.spacing_mm,
        "hounsfield": bool(scan.hu.min() < _AIR_HU),
        "lungs": lungs,
        "frame": frame,
    }
