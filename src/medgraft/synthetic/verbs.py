"""The verbs `generate` and `audit`: images from a run that draws, and whether they are copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgraft.errors import BadData, BadRecipe, RunRefused

if TYPE_CHECKING:
    from medgraft.generation.opened import GeneratorRun

Listen = Callable[[dict[str, Any]], None]
Given = str | Path
NOTE = "synthetic: drawn by medgraft, no patient"
_AUDITED = 200  # drawn images that an audit looks at
_FEWEST = 2  # images of either kind


def _silent(event: dict[str, Any]) -> None:
    del event


@dataclass(frozen=True)
class Generated:
    """What was drawn.

    Attributes:
        out: the folder.
        table: manifest.csv there: path, label, synthetic, seed, number; of volumes the unit of their values.
        count: how many images.
        verdict: of the audit of the run.
    """

    out: Path
    table: Path
    count: int
    verdict: str

    def lines(self) -> list[str]:
        """Get what a person is told."""
        return [f"{self.count} synthetic images; audit of the run: {self.verdict}", f"Table: {self.table}"]

    def headline(self) -> dict[str, Any]:
        """Get what a program is told."""
        return {"out": str(self.out), "manifest": str(self.table), "count": self.count, "verdict": self.verdict}


def generate(
    run: Given | GeneratorRun,
    *,
    count: int,
    out: Given,
    label: str | None = None,
    seed: int = 0,
    despite_audit: bool = False,
    device: str = "auto",
    listen: Listen = _silent,
    **way: Any,
) -> Generated:
    """Draw images and write them, each marked as synthetic: PNG, of volumes NIfTI, and manifest.csv.

    Args:
        run: a run of diffuse or stylegan, or its folder.
        count: how many.
        out: an empty or new folder.
        label: of all of them; None draws the classes equally often.
        seed: other images for another one.
        despite_audit: True writes them although the run failed its audit: some may be copies of patients' images.
        device: auto, cpu, cuda or cuda:1.
        listen: gets progress events.
        way: steps, sampler, guidance (diffuse) and truncation (stylegan), where they are to be others.

    Raises:
        RunRefused: the run draws no images, or failed its audit.
        BadData: the folder holds something.
        BadRecipe: no such class or sampler, or no image or step is asked for.
    """
    from medgraft import storage
    from medgraft.generation.written import write_image

    _check_count(count)
    opened, folder = generator_run(run, device=device), Path(out)
    verdict = str(opened.card.get("audit", "none"))
    if verdict != "pass" and not despite_audit:
        what = "this run failed its audit: some of its images may be copies of those that it learnt from"
        raise RunRefused(what, where=opened.folder, do="Train it on more images or for less long, or --despite-audit.")
    if folder.exists() and any(folder.iterdir()):
        raise BadData("the folder holds something", where=folder, do="Give an empty or new --out.")
    rows = []
    for number, (kind, image) in enumerate(opened.draw(count, label=label, seed=seed, **way)):
        stem = f"synthetic-{seed}-{number:05d}"
        path = write_image(folder / "images", stem, image, note=NOTE, meaning=opened.meaning)
        row = {"path": path.relative_to(folder).as_posix(), "label": kind or "", "synthetic": "yes"}
        row |= {} if opened.meaning is None else {"values": opened.meaning.words}
        rows.append({**row, "seed": seed, "number": number})
        listen({"event": "predict", "done": number + 1, "of": count})
    columns = ("path", "label", "synthetic", "seed", "number")
    columns = columns if opened.classes else tuple(name for name in columns if name != "label")
    columns += () if opened.meaning is None else ("values",)
    storage.write_table(folder / "manifest.csv", rows, columns=columns)
    facts = {name: opened.card.get(name) for name in ("medgraft", "task", "recipe_sha256", "audit")}
    told: dict[str, Any] = {"note": NOTE, "seed": seed, "count": count, "model": facts}
    told |= {} if opened.meaning is None else {"volume": opened.meaning.to_dict()}
    storage.write_json(folder / "synthetic.json", told)
    return Generated(folder, folder / "manifest.csv", count, verdict)


def audit(
    run: Given | GeneratorRun,
    data: Given,
    *,
    out: Given | None = None,
    count: int = _AUDITED,
    seed: int = 1,
    device: str = "auto",
    listen: Listen = _silent,
) -> dict[str, Any]:
    """Ask whether a run that draws images copies those that it learnt from; with `out`, write audit.json and pairs.

    Images of `data` that the run learnt from, told by their content, are the training images; all others of it that
    the run did not choose its epoch by are held out.

    Args:
        run: a run of diffuse or stylegan, or its folder.
        data: the images of the training, and others of the same kind.
        out: gets audit.json, and the nearest pairs as pictures.
        count: images that are drawn.
        seed: of them.
        device: auto, cpu, cuda or cuda:1.
        listen: gets progress events.

    Returns:
        "verdict" is "pass" or "fail", with "reasons"; shares, limits and distances in two spaces.

    Raises:
        RunRefused: the run draws no images, or `out` holds an audit.
        BadData: too few images of either kind are in `data`, or `out` is the run.
        BadRecipe: no image is asked for.
    """
    from medgraft.synthetic.auditing import audit_run

    _check_count(count)
    opened = generator_run(run, device=device)
    folder = None if out is None else Path(out)
    if folder is not None and folder.resolve() == opened.folder.resolve():
        raise BadData("this is the run itself, whose own audit would be lost", where=folder, do="Give another --out.")
    if folder is not None and (folder / "audit.json").exists():
        raise RunRefused("this folder holds an audit already", where=folder, do="Give another --out.")
    return audit_run(opened, Path(data), out=folder, count=count, seed=seed, fewest=_FEWEST, listen=listen)


def _check_count(count: int) -> None:
    if count < 1:
        raise BadRecipe(f"{count} images cannot be drawn", do="Give --count 1 or more.")


def generator_run(run: Given | GeneratorRun, *, device: str) -> GeneratorRun:
    """Open a run that draws images.

    Raises:
        RunRefused: it does something else.
    """
    from medgraft.generation.opened import GeneratorRun
    from medgraft.places import open_any

    opened = open_any(Path(run), device=device) if isinstance(run, str | Path) else run
    if not isinstance(opened, GeneratorRun):
        raise RunRefused("this run draws no images", where=opened.folder, do="Train one with --task diffuse.")
    return opened
