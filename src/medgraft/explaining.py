"""Where a run looked, file by file: a map in the file's own pixels, and what the map is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgraft import storage
from medgraft.errors import BadImage, BadTable
from medgraft.explain.methods import map_of, method_for
from medgraft.explain.sanity import Sanity, alike, deletion_insertion, pointed, randomised
from medgraft.explain.speech import answer_named, most_likely
from medgraft.files import network_pixels, read_image, save_png, way_back
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.opened import Run, images_in
from medgraft.report.maps import laid_over, write_maps_page
from medgraft.samples.loader import normalised
from medgraft.samples.sheet import read_sheet
from medgraft.samples.table import pick_column
from medgraft.values import Image, ImageRef, Prediction

REACH = 0.03  # of the longer side: how near a mask the largest value has to lie to count as pointing at it
STAMP = "FAILS ITS CHECKS"


@dataclass(frozen=True, eq=False)
class Explained:
    """A map of one image.

    Attributes:
        key: the image.
        prediction: what the run says of it.
        answer: what the map is of, in words: a class or label; "" for grades and numbers.
        method: how the map was made.
        map: `(H, W)` float32 in the file's own pixels, at least 0, in parts of its largest value.
        picture: `(H, W)` or `(H, W, 3)` uint8, the file as it is shown.
        sanity: what the map is worth.
        pointed: whether its largest value lies on the mask; None where no mask is known.
    """

    key: str
    prediction: Prediction
    answer: str
    method: str
    map: np.ndarray
    picture: np.ndarray
    sanity: Sanity
    pointed: bool | None = None


class Explainer:
    """Makes maps of a run's answers.

    Args:
        run: the run.
        method: a word of `explain.methods.METHODS`, or "auto".
        target: the class or label to explain; None takes the answer that is given.

    Raises:
        UnknownName, BadRecipe: no such method, no such class.
    """

    def __init__(self, run: Run, *, method: str = "auto", target: str | None = None) -> None:
        self.run, self.task = run, run.model.task
        self.method = method_for(self.task, method)
        self.target = None if target is None else answer_named(self.task, target)
        self.task.requires_grad_(False)
        self.random = randomised(self.task, seed=int(run.report.get("seed") or 0))

    def explain(self, ref: ImageRef, *, mask: ImageRef | None = None) -> Explained:
        """Make the map of one image.

        Raises:
            BadImage: the image or its mask cannot be read.
        """
        pixels = self.run.model.pixels
        image = read_image(ref, window=pixels.window)
        words = {name: value for name, value in pixels.words().items() if name != "window"}
        rows = network_pixels(image, **words)[None]
        (prediction,) = self.run.predictor.predict(rows, [str(ref)])
        entering = normalised(rows, self.run.model.spec).to(self.run.predictor.device)
        answer = self._answer(entering)
        found = map_of(self.task, entering, answer, method=self.method)[0].cpu()
        sanity = self._sanity(entering, answer, found)
        height, width = image.pixels.shape[-2:]
        own = way_back(found.numpy(), height=height, width=width, fit=pixels.fit)
        own = own / max(float(own.max()), 1e-12)
        names = self.task.answers.classes
        said = names[int(answer)] if names and self.task.answer_kind not in ("ordinal", "number") else ""
        hit = None if mask is None else self._pointed(own, mask)
        return Explained(str(ref), prediction, said, self.method, own, _shown(image), sanity, hit)

    def _answer(self, entering: Tensor) -> Tensor:
        if self.target is not None:
            return torch.tensor([self.target], device=entering.device)
        with torch.no_grad():
            return most_likely(self.task, self.task(entering)).to(entering.device)

    def _sanity(self, entering: Tensor, answer: Tensor, found: Tensor) -> Sanity:
        other = map_of(self.random, entering, answer, method=self.method)[0].cpu()
        left, reached = deletion_insertion(self.task, self.task, entering, found, answer)
        order = torch.from_numpy(np.random.default_rng(0).random(tuple(found.shape), dtype=np.float32))
        by_chance = deletion_insertion(self.task, self.task, entering, order, answer)
        return Sanity(alike(found.numpy(), other.numpy()), left, reached, by_chance[1] - by_chance[0])

    @staticmethod
    def _pointed(own: np.ndarray, mask: ImageRef) -> bool | None:
        truth = read_image(mask).pixels.max(axis=0) > 0
        if truth.shape != own.shape:
            raise BadImage(f"the mask has {truth.shape}, the image {own.shape} pixels", where=mask.path)
        return pointed(own, truth, reach=round(REACH * max(own.shape))) if truth.any() else None


def _shown(image: Image) -> np.ndarray:
    planes = np.rint(image.display() * 255).astype(np.uint8)
    return planes[0] if len(planes) == 1 else np.moveaxis(planes[:3], 0, -1)


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
    explainer = Explainer(run, method=method, target=target)
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
        column = pick_column("path", None, sheet)
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
