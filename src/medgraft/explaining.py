"""Where a run looked, file by file: a map in the file's own pixels, and what the map is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.errors import BadImage, BadTable
from medgraft.explanation.explainer import Explained, Explainer
from medgraft.explanation.forms import save_numbers
from medgraft.files import save_png
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.opened import Run, images_in
from medgraft.report.maps import STAMP, for_page, laid_over, stamped, write_maps_page
from medgraft.samples.sheet import read_sheet
from medgraft.samples.table import column_named
from medgraft.scores.intervals import wilson
from medgraft.values import ImageRef


def explain(
    run: Run,
    refs: Sequence[ImageRef],
    *,
    out: Path,
    method: str = "auto",
    target: str | None = None,
    masks: Mapping[str, ImageRef] | None = None,
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
        masks: text of an image's reference -> mask of what is to be found there.
        nifti: True writes NIfTI of files that are none, too.
        listen: gets progress events.
    """
    explainer = Explainer(run.predictor, method=method, target=target)
    rows, shown = [], []
    for done, (ref, found) in enumerate(_each(explainer, refs, masks or {}, listen)):
        name = f"{done:04d}-{Path(ref.path).stem}"
        if isinstance(found, BadImage):
            rows.append({"key": str(ref), "error": str(found)})
        else:
            picture = laid_over(found.picture, found.map)
            rows.append({**_row(found), "files": _write(found, ref, picture, out / "maps" / name, nifti=nifti)})
            shown.append(for_page(picture, faults=found.sanity.faults))  # of a large folder nothing larger is kept
        listen({"event": "explain", "done": done + 1, "of": len(refs)})
    told = {"run": str(run.folder), "method": explainer.method, "images": rows, **_summary(rows)}
    storage.write_json(out / "explain.json", told)
    write_maps_page(told, shown, folder=out)
    return told


def listed(paths: Sequence[str | Path]) -> tuple[list[ImageRef], dict[str, ImageRef], list[tuple[str, str]]]:
    """Get the images of files, folders and tables, the masks that tables name, and what was passed over.

    Args:
        paths: as `medgraft predict` takes them; or a CSV with the columns `path` and `mask`, relative to its folder.

    Raises:
        BadData: a path is not there, a table has no column `path`, or there is no image at all.
    """
    refs: list[ImageRef] = []
    masks: dict[str, ImageRef] = {}
    passed: list[tuple[str, str]] = []
    for path in map(Path, paths):
        if path.suffix.lower() not in (".csv", ".tsv"):
            found, over = images_in([path])
            refs, passed = [*refs, *found], [*passed, *over]
            continue
        sheet = read_sheet(path)
        column = column_named("path", sheet.columns)
        if column is None:
            raise BadTable("no column names the image files", where=path, do="Name one 'path'.")
        for row in sheet.rows:
            ref = ImageRef(path.parent / row[column])
            refs.append(ref)
            if row.get("mask"):
                masks[str(ref)] = ImageRef(path.parent / row["mask"])
    return refs, masks, passed


def _each(
    explainer: Explainer, refs: Sequence[ImageRef], masks: Mapping[str, ImageRef], listen: Callable[..., None]
) -> Iterator[tuple[ImageRef, Explained | BadImage]]:
    for ref in refs:
        stopping.check()
        try:
            yield ref, explainer.explain(ref, mask=masks.get(str(ref)))
        except BadImage as error:
            listen({"event": "warning", "text": str(error)})
            yield ref, error


def _row(found: Explained) -> dict[str, Any]:
    return {
        "key": found.key,
        "predicted": found.prediction.predicted,
        "probabilities": found.prediction.probabilities.tolist(),
        "answer": found.answer,
        "randomised": found.sanity.randomised,
        "deletion": found.sanity.deletion,
        "insertion": found.sanity.insertion,
        "chance": found.sanity.chance,
        "faults": list(found.sanity.faults),
        "pointed": found.pointed,
        "abstain": found.prediction.abstain,
    }


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures over all maps, each with its n."""
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


def _write(found: Explained, ref: ImageRef, picture: np.ndarray, stem: Path, *, nifti: bool) -> dict[str, str]:
    stem.parent.mkdir(parents=True, exist_ok=True)
    png = stem.with_name(f"{stem.name}.png")
    words = {"Comment": "; ".join(found.sanity.faults) or "passed its checks", "Software": "medgraft explain"}
    save_png(png, stamped(picture, STAMP) if found.sanity.faults else picture, text=words)
    written = {"png": png, **save_numbers(found, ref, stem=stem, nifti=nifti)}
    return {form: f"{stem.parent.name}/{path.name}" for form, path in written.items()}
