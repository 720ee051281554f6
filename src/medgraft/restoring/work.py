"""Noise taken away from file after file; then the tables, and what it is worth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.denoising.filters import FILTERS, Filter
from medgraft.denoising.judge import Around, Case, as_rows, case, case_of, filters_for, judged, noise_told
from medgraft.denoising.opened import DenoiseRun
from medgraft.denoising.planes import Way, cleaned_pixels, levels_of
from medgraft.denoising.prior import Prior
from medgraft.denoising.references import references_of
from medgraft.denoising.shown import sheet_of
from medgraft.errors import BadData, BadRecipe, RunRefused, UserError
from medgraft.files import read_image, save_png
from medgraft.generation.opened import GeneratorRun
from medgraft.learn import stopping
from medgraft.opened import images_in, paths_of, say_passed
from medgraft.restoring.form import AUTO, FORM, Denoised
from medgraft.restoring.written import write_like
from medgraft.samples.dataset import Columns, DataSet, is_claimed, key_of, read_samples, tolerated
from medgraft.values import Image, Sample

Listen = Callable[[dict[str, Any]], None]
_MOST, _SHOWN, _SETTLED = 200, 6, 3  # images that are compared, shown, and looked at to choose a filter
_LONGEST = 80  # characters of a name
_FACTS = ("path", "source", "method", "noise_before", "noise_after", "taken_away", "neighbours", "form")


@dataclass(eq=False)
class Asked:
    """What is asked for; see the verb.

    Attributes:
        out: the folder.
        way: of taking noise away; None chooses a filter.
        run: its run, told in denoise.json.
        compare: column or folder of clean images.
        judge: a run that answers for whole images.
        device: of that.
        limit_bad: percentage of images that may fail.
        seed: of intervals.
        columns: label, patient and split.
    """

    out: Path
    way: Way | None
    run: str | None
    compare: str | None
    judge: Path | None
    device: str
    limit_bad: float
    seed: int
    columns: dict[str, Any]
    names: set[str] = field(default_factory=set)


def way_of(run: str | Path | None, method: str | None, *, device: str, steps: int) -> Way | None:
    """Get a way of taking noise away, or None where a filter is to be chosen.

    Raises:
        BadRecipe: the method does not belong to the run.
        RunRefused: it is another kind of run.
    """
    if run is None:
        if method in ("blindspot", "prior"):
            kind = "denoise" if method == "blindspot" else "diffuse"
            raise BadRecipe(f"{method} needs a run", do=f"Train one with --task {kind} and give it by --run.")
        return None if method in (None, AUTO) else Filter(method)
    from medgraft.places import open_any

    opened: Any = open_any(Path(run), device=device)
    if isinstance(opened, DenoiseRun):
        own: Way = opened.way
    elif isinstance(opened, GeneratorRun):
        own = Prior(opened, steps=max(1, steps))
    else:
        raise RunRefused("this run takes no noise away", where=run, do="Train one with --task denoise or diffuse.")
    if method not in (None, own.name):
        raise BadRecipe(
            f"the method of this run is {own.name}, and {method} was asked for", do="Leave out one of both."
        )
    return own


def denoise_all(paths: Sequence[str | Path] | str | Path, asked: Asked, *, listen: Listen) -> Denoised:
    """Take the noise away from all images and write everything; errors as of the verb."""
    if asked.judge is not None:
        from medgraft.restoring.downstream import open_judge

        open_judge(asked.judge, asked.device)  # what cannot be asked is said before the work
    dataset = _read(paths, asked, listen)
    clean, column = ({}, None) if asked.compare is None else references_of(dataset, asked.compare)
    told: dict[str, Any] = {}
    if not isinstance(asked.way, Filter) and asked.way is not None:
        way: Way = asked.way
    else:
        way, told["strengths"] = _filter(dataset, asked, listen)
    done = Denoised(asked.out, way.name, problems=[(one.path, one.reason) for one in dataset.problems])
    shown: list[tuple[Case, np.ndarray]] = []
    failed = 0
    for number, sample in enumerate(dataset.samples):
        stopping.check()
        try:
            row, pair = _one(sample, way, asked, clean.get(sample.key))
        except UserError as error:
            failed += 1
            done.problems.append((str(sample.image), str(error)))
            if failed > tolerated(len(dataset.samples), asked.limit_bad):
                what = f"{failed} of {len(dataset.samples)} images failed ({error})"
                raise BadData(what, where=sample.image, do="Look at them, or raise --limit-bad.") from error
            continue
        done.rows.append(row)
        shown += [pair] if len(shown) < _SHOWN else []
        listen({"event": "frames", "done": number + 1, "of": len(dataset.samples)})
    if not done.rows:
        raise BadData(f"no image could be read ({done.problems[0][1]})", where=dataset.root)
    _write(done, dataset, shown, column)
    told |= {"method": way.name, "run": asked.run, "images": len(done.rows), "left_out": len(done.problems)}
    told |= {"noise_before": _median(done.rows, "noise_before"), "noise_after": _median(done.rows, "noise_after")}
    if clean:
        told["compared"] = _compared(dataset, _of_rows(clean, done), way, asked, listen)
    if asked.judge is not None:
        from medgraft.restoring.downstream import judged_by

        told["judged"] = judged_by(asked.judge, dataset.samples, done, clean, device=asked.device, seed=asked.seed)
    storage.write_json(asked.out / FORM, told)
    done.told = told
    return done


def _read(paths: Sequence[str | Path] | str | Path, asked: Asked, listen: Listen) -> DataSet:
    """A data set; of several files, and of images that no layout takes for its own, samples without labels."""
    given = paths_of(paths)
    if len(given) == 1 and given[0].exists() and is_claimed(given[0]):
        dataset = read_samples(given[0], columns=Columns(**asked.columns), limit_bad=asked.limit_bad)
        for note in dataset.notes:
            listen({"event": "say", "text": note})
        return dataset
    refs, passed = images_in(given, volumes=True)
    say_passed(passed, listen)
    root = given[0] if given[0].is_dir() else given[0].parent
    return DataSet(tuple(Sample(key_of(ref, root), ref) for ref in refs), "images", "", root)


def _filter(dataset: DataSet, asked: Asked, listen: Listen) -> tuple[Way, dict[str, Any]]:
    """A filter with the strength, and where none is named the filter, that foretells hidden pixels best."""
    names = FILTERS if asked.way is None else (asked.way.name,)
    cases = []
    for sample in dataset.samples:
        try:
            cases.append(case_of(sample.image, None, key=sample.key, patient=None))
        except UserError:  # it is told when its turn comes
            continue
        if len(cases) == _SETTLED:
            break
    ways, strengths = filters_for(cases, names)
    best = min(ways, key=lambda one: strengths[one.name]["error"])
    text = f"{best.name} of strength {best.strength:g} foretells hidden pixels best"
    listen({"event": "say", "text": text})
    return best, strengths


def _one(sample: Sample, way: Way, asked: Asked, clean: Path | None) -> tuple[dict[str, Any], tuple[Case, np.ndarray]]:
    """Clean one image and write it: its row, and what is shown of it."""
    image: Image = read_image(sample.image)
    beside = None if clean is None else read_image(clean)
    first = case(image, beside, key=sample.key, patient=None)
    pixels = cleaned_pixels(image.pixels, way, levels_of(image))
    path, form = write_like(asked.out / "images", _name(sample, asked), image, pixels, method=way.name)
    row: dict[str, Any] = {"path": path.relative_to(asked.out).as_posix(), "source": str(sample.image)}
    row |= {"key": sample.key, "method": way.name, "form": form, **noise_told(image.pixels, pixels)}
    after = case(_with(image, pixels), None, key=sample.key, patient=None)
    return row, (first, after.noisy)


def _with(image: Image, pixels: np.ndarray) -> Image:
    return replace(image, pixels=pixels)


def _name(sample: Sample, asked: Asked) -> str:
    """A name of its own: two folders may hold files of one name."""
    stem = Path(sample.key.removesuffix(".gz")).with_suffix("").as_posix().strip("/.")
    stem = stem.replace("/", "_").replace("#", "_") or "image"
    if len(stem) > _LONGEST:
        stem = f"{stem[:_LONGEST]}-{hashlib.sha256(sample.key.encode()).hexdigest()[:8]}"
    name, number = stem, 1
    while name in asked.names:
        name, number = f"{stem}-{number}", number + 1
    asked.names.add(name)
    return name


def _write(done: Denoised, dataset: DataSet, shown: Sequence[tuple[Case, np.ndarray]], column: str | None) -> None:
    """Write the tables and the pictures; the column of clean images is left out, whose paths are of another folder."""
    by_key, rows = {sample.key: sample for sample in dataset.samples}, []
    for row in done.rows:
        sample = by_key[row["key"]]
        cells: dict[str, Any] = {"path": row["path"], "label": sample.label, "patient": sample.patient}
        cells |= {"split": sample.split, "derived": f"noise taken away: {done.method}"}
        rows.append(cells | {k: v for k, v in sample.covariates.items() if k not in cells and k != column})
    names = list(dict.fromkeys(name for row in rows for name in row))
    filled = [name for name in names if any(row.get(name) is not None for row in rows)]
    storage.write_table(done.out / "manifest.csv", rows, columns=filled)
    storage.write_table(done.out / "denoised.csv", done.rows, columns=_FACTS)
    problems = [{"path": path, "reason": reason} for path, reason in done.problems]
    storage.write_table(done.out / "quarantine.csv", problems, columns=("path", "reason"))
    save_png(done.out / "before-after.png", sheet_of([one for one, _ in shown], [made for _, made in shown]))


def _of_rows(clean: dict[str, Path], done: Denoised) -> dict[str, Path]:
    """The clean images of what was written: one that could not be read is not compared either."""
    found = {row["key"]: clean[row["key"]] for row in done.rows if row["key"] in clean}
    if not found:
        why = f" ({done.problems[0][1]})" if done.problems else ""
        what = f"none of the images that were written has a clean one{why}"
        raise BadData(what, where=done.out, do="See quarantine.csv there.")
    return found


def _compared(
    dataset: DataSet, clean: dict[str, Path], way: Way, asked: Asked, listen: Listen
) -> dict[str, dict[str, Any]]:
    """PSNR and SSIM of every way on the images that have a clean one."""
    samples = [one for one in dataset.samples if one.key in clean][:_MOST]
    cases = [case_of(one.image, clean[one.key], key=one.key, patient=one.patient) for one in samples]
    others, _ = filters_for(cases)
    ways: list[Way] = [way, Around(), *(one for one in others if one.name != way.name)]
    listen({"event": "say", "text": f"comparing {len(ways)} ways on {len(cases)} images"})
    scores = judged(cases, ways, listen=listen).scores(seed=asked.seed)
    storage.write_table(asked.out / "compared.csv", as_rows(scores), columns=tuple(as_rows(scores)[0]))
    return scores


def _median(rows: Sequence[dict[str, Any]], name: str) -> float:
    return float(np.median([row[name] for row in rows]))
