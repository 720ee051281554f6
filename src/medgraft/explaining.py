"""Where a run looked, file by file: a map in the file's own pixels, and what the map is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.errors import BadImage, BadTable
from medgraft.explanation.explainer import Explained, Explainer
from medgraft.files import save_png
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.opened import Run, images_in
from medgraft.report.maps import laid_over, write_maps_page
from medgraft.samples.sheet import read_sheet
from medgraft.samples.table import column_named
from medgraft.values import ImageRef

STAMP = "FAILS ITS CHECKS"


def explain(
    run: Run,
    refs: Sequence[ImageRef],
    *,
    out: Path,
    method: str = "auto",
    target: str | None = None,
    masks: Mapping[str, ImageRef] | None = None,
    listen: Listen = lambda event: None,
) -> dict[str, Any]:
    """Write a map a file, explain.json and explain.html; get what explain.json holds.

    Args:
        run: the run.
        refs: the images; one that cannot be read is named and passed over.
        out: the folder. `maps/` gets NAME.png (the picture under its map) and NAME.npy (the map, float32, in the
            file's own rows and columns).
        method: see `Explainer`.
        target: see `Explainer`.
        masks: text of an image's reference -> mask of what is to be found there.
        listen: gets progress events.
    """
    explainer = Explainer(run.predictor, method=method, target=target)
    rows, shown = [], []
    for done, (ref, found) in enumerate(_each(explainer, refs, masks or {}, listen)):
        name = f"{done:04d}-{Path(ref.path).stem}"
        if isinstance(found, BadImage):
            rows.append({"key": str(ref), "error": str(found)})
        else:
            rows.append({**_row(found), "files": _write(found, ref, out / "maps", name)})
            shown.append(found)
        listen({"event": "explain", "done": done + 1, "of": len(refs)})
    told = {"run": str(run.folder), "method": explainer.method, "images": rows, **_summary(shown)}
    storage.write_json(out / "explain.json", told)
    write_maps_page(told, [laid_over(one.picture, one.map) for one in shown], folder=out)
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


def _summary(found: Sequence[Explained]) -> dict[str, Any]:
    """Figures over all maps, each with its n."""
    pointed_at = [one.pointed for one in found if one.pointed is not None]
    return {
        "count": len(found),
        "failed": sum(bool(one.sanity.faults) for one in found),
        "randomised": float(np.mean([one.sanity.randomised for one in found])) if found else None,
        "pointing": {"hits": sum(pointed_at), "n": len(pointed_at)} if pointed_at else None,
    }


def _write(found: Explained, ref: ImageRef, folder: Path, name: str) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    picture = laid_over(found.picture, found.map, stamp=STAMP if found.sanity.faults else "")
    words = {"Comment": "; ".join(found.sanity.faults) or "passed its checks", "Software": "medgraft explain"}
    save_png(folder / f"{name}.png", picture, text=words)
    storage.write_atomic(folder / f"{name}.npy", lambda file: np.save(file, found.map))
    return {"png": f"maps/{name}.png", "npy": f"maps/{name}.npy"}
