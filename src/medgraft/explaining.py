"""Where a run looked, file by file: a map in the file's own pixels, and what the map is worth."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.errors import BadData, BadImage, BadTable
from medgraft.explanation.explainer import Explained, Explainer
from medgraft.explanation.forms import save_numbers
from medgraft.explanation.sanity import Sanity
from medgraft.files import list_images, save_png
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.opened import Run, images_in, paths_of
from medgraft.report.maps import STAMP, for_page, laid_over, stamped, write_maps_page
from medgraft.samples.dataset import some
from medgraft.samples.paths import Places
from medgraft.samples.roles import column_named, path_column_of
from medgraft.samples.sheet import Sheet, read_sheet
from medgraft.samples.table import find_table
from medgraft.scores.intervals import wilson
from medgraft.values import ImageRef

_LONGEST_NAME = 100  # bytes: the names that follow add a number, a frame and an ending, and most disks allow 255


def explain(
    run: Run,
    refs: Sequence[ImageRef],
    *,
    out: Path,
    method: str = "auto",
    target: str | None = None,
    masks: Mapping[str, Sequence[ImageRef]] | None = None,
    nifti: bool = False,
    listen: Listen = lambda event: None,
) -> dict[str, Any]:
    """Write a map a file, explain.json and explain.html; get what explain.json holds.

    Args:
        run: the run.
        refs: the images; one that cannot be read is named and passed over.
        out: the folder. `maps/` gets NAME.png, the picture under its map, and what `forms.save_numbers` writes.
        method: see `Explainer`.
        target: see `Explainer`.
        masks: text of an image's reference -> masks of what is to be found there, together one.
        nifti: True writes NIfTI of files that are none, too.
        listen: gets progress events.
    """
    explainer = Explainer(run.predictor, method=method, target=target)
    rows, shown = [], []
    for done, (ref, found) in enumerate(_each(explainer, refs, masks or {}, listen)):
        name = f"{done:04d}-{name_of(ref)}"
        if isinstance(found, BadImage):
            rows.append({"key": str(ref), "error": str(found)})
        else:
            picture = laid_over(found.picture, found.map)
            rows.append({**_row(found), "files": write_map(found, ref, picture, out / "maps" / name, nifti=nifti)})
            shown.append(for_page(picture, faults=found.sanity.faults))  # of a large folder nothing larger is kept
        listen({"event": "explain", "done": done + 1, "of": len(refs)})
    told = {"run": str(run.folder), "method": explainer.method, "images": rows, **summary(rows)}
    storage.write_json(out / "explain.json", told)
    write_maps_page(told, shown, folder=out)
    return told


def name_of(ref: ImageRef) -> str:
    """Get the name of a file without its endings, not too long for a file name, and its frame."""
    stem = ref.path.with_suffix("").stem if ref.path.suffix.lower() == ".gz" else ref.path.stem
    short = os.fsencode(stem)[:_LONGEST_NAME].decode("utf-8", "ignore")
    return short if ref.index is None else f"{short}-frame{ref.index}"


def listed(
    paths: Sequence[str | Path] | str | Path, *, volumes: bool = False, listen: Listen = lambda event: None
) -> tuple[list[ImageRef], dict[str, tuple[ImageRef, ...]], list[tuple[str, str]]]:
    """Get the images of files, folders and tables, each once, the masks that tables name, and what was passed over.

    Args:
        paths: as `medgraft predict` takes them; or a CSV with the columns `path` and `mask`, relative to its folder.
        volumes: True takes files with all their frames, and the slices of a series, as one image; masks are left out.
        listen: is told of odd rows.

    Raises:
        BadData: a path is not there, none of a table's is, or there is no image at all.
        BadTable: a table has no column `path`, a row has none, or its mask fits none of its frames.
    """
    once: dict[tuple[str, int], ImageRef] = {}  # a file may be reached through its folder and by its name
    masks: dict[str, tuple[ImageRef, ...]] = {}
    passed: list[tuple[str, str]] = []
    for path in paths_of(paths):
        if path.is_file() and find_table(path):
            found = _in_table(read_sheet(path), volumes, listen)
        else:
            refs, over = images_in([path], volumes=volumes)
            found, passed = [(ref, None) for ref in refs], [*passed, *over]
        for ref, mask in found:
            key = str(once.setdefault((os.path.realpath(ref.path), ref.index or 0), ref))
            if mask is not None and mask not in masks.get(key, ()):
                masks[key] = (*masks.get(key, ()), mask)
    return list(once.values()), masks, passed


def _in_table(sheet: Sheet, volumes: bool, listen: Listen) -> list[tuple[ImageRef, ImageRef | None]]:
    """The images of a table with their masks, found as a training finds them; what is missing fails when it is read."""
    root, path_column, mask_column = sheet.path.parent, path_column_of(sheet), column_named("mask", sheet.columns)
    cells = [row[path_column].strip() for row in sheet.rows]
    places, mask_places = Places(root), Places(root)
    refs = places.find(cells, sheet.numbers)
    if places.missing:
        listed = some([f"row {number}: {name}" for number, name, _ in places.missing])
        what = f"{len(places.missing)} of {len(cells)} files in the table are missing ({listed})"
        lost = BadData(what, where=sheet.path, do=places.hint() or "Paths are relative to the table.")
        if len(places.missing) == len(cells):
            raise lost
        listen({"event": "warning", "text": str(lost)})
    found: list[tuple[ImageRef, ImageRef | None]] = []
    for row, number, cell, ref in zip(sheet.rows, sheet.numbers, cells, refs, strict=True):
        frames = [ImageRef(root / cell)] if ref is None else [ref] if volumes else _frames(ref)
        text = row[mask_column].strip() if mask_column and not volumes else ""
        if not text:
            found += [(frame, None) for frame in frames]
            continue
        (there,) = mask_places.find([text], [number])
        masks = [ImageRef(root / text)] if there is None else _frames(there)
        if len(masks) != len(frames):
            what = f"row {number} names a file of {len(frames)} frames and a mask of {len(masks)}"
            raise BadTable(what, where=sheet.path, do="Give one row a frame, as FILE#0, and its mask.")
        found += zip(frames, masks, strict=True)
    return found


def _frames(ref: ImageRef) -> list[ImageRef]:
    """The images of a file that a row names: one a frame, of a series one a slice."""
    if ref.index is not None or ref.files:
        return [ImageRef(file) for file in ref.files] or [ref]
    try:
        return list_images(ref.path, series=False, frames=True)
    except BadImage:
        return [ref]  # to be told of when it is read


def _each(
    explainer: Explainer,
    refs: Sequence[ImageRef],
    masks: Mapping[str, Sequence[ImageRef]],
    listen: Callable[..., None],
) -> Iterator[tuple[ImageRef, Explained | BadImage]]:
    for ref in refs:
        stopping.check()
        try:
            found = explainer.explain(ref, masks=masks.get(str(ref), ()))
        except BadImage as error:
            listen({"event": "warning", "text": str(error)})
            yield ref, error
            continue
        if found.mask_fault:
            listen({"event": "warning", "text": f"the mask of {ref} is not used: {found.mask_fault}"})
        yield ref, found


def _row(found: Explained) -> dict[str, Any]:
    return {
        "key": found.key,
        "predicted": found.prediction.predicted,
        "probabilities": found.prediction.probabilities.tolist(),
        "answer": found.answer,
        **sanity_row(found.sanity, pointed=found.pointed),
        "mask_error": found.mask_fault or None,
        "abstain": found.prediction.abstain,
    }


def sanity_row(sanity: Sanity, *, pointed: bool | None) -> dict[str, Any]:
    """Get what a map is worth, as explain.json holds it."""
    return {
        "randomised": sanity.randomised,
        "deletion": sanity.deletion,
        "insertion": sanity.insertion,
        "chance": sanity.chance,
        "faults": list(sanity.faults),
        "pointed": pointed,
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Get figures over all maps, each with its n.

    Args:
        rows: of explain.json, those that could not be read among them.
    """
    good = [row for row in rows if "error" not in row]
    pointed_at = [row["pointed"] for row in good if row["pointed"] is not None]
    return {
        "count": len(good),
        "failed": sum(bool(row["faults"]) for row in good),
        "randomised": float(np.mean([row["randomised"] for row in good])) if good else None,
        "pointing": _pointing(sum(pointed_at), len(pointed_at)) if pointed_at else None,
    }


def _pointing(hits: int, n: int) -> dict[str, Any]:
    low, high = wilson(hits, n)
    return {"hits": hits, "n": n, "share": hits / n, "low": low, "high": high}


def write_map(found: Explained, ref: ImageRef, picture: np.ndarray, stem: Path, *, nifti: bool) -> dict[str, str]:
    """Write the picture under a map, stamped where the map fails, and the map's numbers: form -> path from `maps/`.

    Args:
        found: the map.
        ref: its image.
        picture: `(H, W, 3)` uint8, under the map.
        stem: folder and beginning of the names.
        nifti: True writes NIfTI of files that are none, too.
    """
    png = write_picture(picture, found.sanity, stem=stem)
    written = {"png": png, **save_numbers(found, ref, stem=stem, nifti=nifti)}
    return {form: f"{stem.parent.name}/{path.name}" for form, path in written.items()}


def write_picture(picture: np.ndarray, sanity: Sanity, *, stem: Path) -> Path:
    """Write a picture under a map, `(H, W, 3)` uint8, stamped where the map fails, as STEM.png, and get its path."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    path = stem.with_name(f"{stem.name}.png")
    words = {"Comment": "; ".join(sanity.faults) or "passed its checks", "Software": "medgraft explain"}
    save_png(path, stamped(picture, STAMP) if sanity.faults else picture, text=words)
    return path
