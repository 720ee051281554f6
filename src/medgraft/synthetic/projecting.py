"""The verb `project`: real images found again among those that a StyleGAN run can draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medgraft.errors import BadData, BadImage, BadRecipe, RunRefused

if TYPE_CHECKING:
    from medgraft.generation.opened import GeneratorRun
    from medgraft.synthetic.found_again import FoundAgain, Search
    from medgraft.values import ImageRef

Listen = Callable[[dict[str, Any]], None]
Given = str | Path
NOTE = "synthetic: the nearest to a given image that medgraft can draw"
_COLUMNS = ("path", "image", "label", "features_start", "features", "pixels_start", "pixels", "error")
_STEPS = 300
_SHOWN = 32  # pairs on the sheet


def _silent(event: dict[str, Any]) -> None:
    del event


@dataclass(frozen=True, eq=False)
class Projected:
    """What was found.

    Attributes:
        out: the folder.
        rows: one a file, as in projected.csv: distances at the beginning (`_start`) and at the end, or its error.
        styles: `(N, latent)` float32 of the files that could be read, in their order.
        scores: means over these of both distances at the end, with intervals.
    """

    out: Path
    rows: list[dict[str, Any]]
    styles: np.ndarray
    scores: dict[str, dict[str, Any]]

    def lines(self) -> list[str]:
        """Get what a person is told."""
        said = [f"{len(self.styles)} of {len(self.rows)} images found again"]
        said += [f"{row['path']}: {row['error']}" for row in self.rows if row.get("error")][:5]
        for name, words in (("features", "distance in features"), ("pixels", "distance in pixels, of white")):
            score = self.scores[name]
            ends = "" if score["low"] is None else f" (95 % interval {score['low']:.3f} to {score['high']:.3f})"
            said.append(f"{words}: {score['value']:.3f}{ends}, n = {score['n']}")
        return [*said, f"Pairs: {self.out / 'pairs.png'}", f"Table: {self.out / 'projected.csv'}"]

    def headline(self) -> dict[str, Any]:
        """Get what a program is told."""
        paths = {"out": str(self.out), "table": str(self.out / "projected.csv")}
        return {**paths, "count": len(self.styles), "failed": len(self.rows) - len(self.styles), "scores": self.scores}


def project(
    run: Given | GeneratorRun,
    paths: Sequence[Given] | Given,
    *,
    out: Given,
    label: str | None = None,
    steps: int = _STEPS,
    seed: int = 0,
    device: str = "auto",
    listen: Listen = _silent,
) -> Projected:
    """Find real images again among those that a StyleGAN run can draw, and say how near it comes.

    From the mean style on, one style and its noise are moved until the drawn image is as near as can be,
    in features of the embedded encoder and in pixels together. What comes out is drawn, but it shows what the given
    image shows: it is to be kept as safe as that one.

    Args:
        run: a run of stylegan, or its folder.
        paths: files (of several frames each, or `FILE#2`) and folders.
        out: an empty or new folder; gets images/, pairs.png (each file, then what was found), projected.csv,
            styles.npz (`path`, `style`, `noise_00` and so on) and projected.json.
        label: the class whose mean style the search begins with; None takes the nearest.
        steps: of the search, for each image.
        seed: same seed, same result.
        device: auto, cpu, cuda or cuda:1.
        listen: gets progress events.

    Raises:
        RunRefused: the run is none of stylegan.
        BadData: the folder holds something, a path is not there, or no image could be read.
        BadRecipe: no such class, or no step.

    Source: Karras et al., CVPR 2020, p. 8107, appendix D.
    """
    from medgraft import opened as opening
    from medgraft.synthetic.found_again import Search
    from medgraft.synthetic.verbs import generator_run
    from medgraft.tasks.stylegan import Stylegan

    opened, folder = generator_run(run, device=device), Path(out)
    if not isinstance(opened.task, Stylegan):
        what = "this run draws from noise alone, and has no styles to find an image by"
        raise RunRefused(what, where=opened.folder, do="Train one with --task stylegan.")
    search = Search(_steps(steps), seed, _kinds(opened, label))
    if folder.exists() and any(folder.iterdir()):
        raise BadData("the folder holds something", where=folder, do="Give an empty or new --out.")
    refs, passed = opening.images_in(paths)
    opening.say_passed(passed, listen)
    work = _Work(opened, search, folder)
    for done, ref in enumerate(refs, start=1):
        work.one(ref)
        listen({"event": "predict", "done": done, "of": len(refs)})
    if not work.found:
        raise BadData(f"none of the {len(refs)} images could be read ({work.rows[0]['error']})", where=refs[0])
    return work.written()


def _steps(steps: int) -> int:
    if steps < 1:
        raise BadRecipe(f"a search of {steps} steps finds nothing", do="Give --steps 1 or more.")
    return steps


def _kinds(run: GeneratorRun, label: str | None) -> tuple[int, ...]:
    """Which classes a search may begin with.

    Raises:
        BadRecipe: there is no such class.
    """
    if label is None:
        return tuple(range(max(1, len(run.classes))))
    if label not in run.classes:
        known = ", ".join(run.classes) or "none, as it was trained without classes"
        raise BadRecipe(f"there is no class {label!r} to begin with", do=f"Known: {known}.")
    return (run.classes.index(label),)


class _Work:
    """The search of one image after another, and what is written of it."""

    def __init__(self, run: GeneratorRun, search: Search, folder: Path) -> None:
        from medgraft.generation.features import Features

        run.task.requires_grad_(False)
        self.run, self.search, self.folder = run, search, folder
        self.features = Features(channels=run.shape[0], offline=True).to(run.engine.device)
        self.rows: list[dict[str, Any]] = []
        self.found: list[FoundAgain] = []
        self.names: list[str] = []
        self.pairs: list[np.ndarray] = []

    def one(self, ref: ImageRef) -> None:
        """Find one image again; a file that cannot be read becomes a row with its error."""
        from medgraft.generation.written import write_image
        from medgraft.storage import sha256_json
        from medgraft.synthetic.found_again import find_again

        try:
            real = self.run.seen(ref)
        except BadImage as error:
            self.rows.append({"path": str(ref), "error": error.what})
            return
        name = sha256_json([str(real.dtype), real.tobytes().hex()])
        task: Any = self.run.task
        own = find_again(task.maker, self.features, real, search=self.search, name=name)
        path = write_image(self.folder / "images", f"projected-{len(self.found):05d}", own.image, note=NOTE)
        label = self.run.classes[own.kind] if self.run.classes else ""
        row: dict[str, Any] = {"path": str(ref), "image": path.relative_to(self.folder).as_posix(), "label": label}
        for word, ends in (("features", own.features), ("pixels", own.pixels)):
            row |= {f"{word}_start": round(ends[0], 6), word: round(ends[1], 6)}
        self.rows.append(row)
        self.found.append(own)
        self.names.append(str(ref))
        if len(self.pairs) < 2 * _SHOWN:
            self.pairs += [real, own.image]

    def written(self) -> Projected:
        """Write the table, the styles, the sheet and the scores."""
        from medgraft import storage
        from medgraft.generation.sheets import write_sheet
        from medgraft.scores.intervals import bootstrap
        from medgraft.scores.probabilities import weighted_mean

        storage.write_table(self.folder / "projected.csv", self.rows, columns=_COLUMNS)
        styles = np.stack([own.style for own in self.found])
        arrays: dict[str, Any] = {"path": np.array(self.names), "style": styles}
        for place, noises in enumerate(zip(*(own.noises for own in self.found), strict=True)):
            arrays[f"noise_{place:02d}"] = np.stack(noises)
        storage.write_atomic(self.folder / "styles.npz", lambda file: np.savez(file, **arrays))
        write_sheet(self.folder / "pairs.png", self.pairs, columns=8)
        scores = {}
        for word in ("features", "pixels"):
            ends = np.array([getattr(own, word)[1] for own in self.found])
            scores[word] = bootstrap(weighted_mean, [ends], patients=None, seed=self.search.seed).to_dict()
        facts = {name: self.run.card.get(name) for name in ("medgraft", "task", "recipe_sha256")}
        told = {"note": NOTE, "seed": self.search.seed, "steps": self.search.steps, "encoder": self.features.name}
        storage.write_json(self.folder / "projected.json", {**told, "model": facts, "scores": scores})
        return Projected(self.folder, self.rows, styles, scores)
