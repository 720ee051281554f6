"""The verbs `outline` and `measure`: read, ask a model, measure, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgraft.errors import BadData, BadRecipe

if TYPE_CHECKING:
    import numpy as np

    from medgraft.nets.prompter import Candidates, Prompter
    from medgraft.outlining.form import Found, OutlineForm
    from medgraft.outlining.seen import Seen

Listen = Callable[[dict[str, Any]], None]
Given = str | Path
_ROW = ("pixels", "voxels", "area_mm2", "volume_ml", "quality")


def _silent(event: dict[str, Any]) -> None:
    del event


def _said(name: str, value: float) -> str:
    return f"{name} {value}" if isinstance(value, int) else f"{name} {value:.4g}"


@dataclass(frozen=True, eq=False)
class Outlined:
    """What was outlined, or measured, in one image.

    Attributes:
        labels: `([D,] H, W)` on the grid of the file: 0 is background, k the k-th structure.
        rows: what each structure measures, as in measures.csv.
        features: radiomic features of each, as in features.csv; empty where they were not asked for.
        candidates: all that each prompt may mean; empty of volumes and of everything.
        model: name, source, licence and sha256 of the model; empty where nothing was outlined.
        out: the folder that was written, or None.
    """

    labels: np.ndarray
    rows: list[dict[str, Any]]
    features: list[dict[str, Any]] = field(default_factory=list)
    candidates: list[Candidates] = field(default_factory=list)
    model: Mapping[str, str] = field(default_factory=dict)
    out: Path | None = None

    def lines(self) -> list[str]:
        """Get what a person is told."""
        found = [
            f"structure {row['structure']}: " + ", ".join(_said(name, row[name]) for name in _ROW if name in row)
            for row in self.rows
        ]
        return [*(found or ["nothing was found"]), *([] if self.out is None else [f"Folder: {self.out}"])]

    def headline(self) -> dict[str, Any]:
        """Get what a program is told."""
        return {"out": None if self.out is None else str(self.out), "model": dict(self.model), "structures": self.rows}


def outline(
    image: Given,
    *,
    box: Sequence[float] | Sequence[Sequence[float]] | None = None,
    points: Sequence[Sequence[float]] | None = None,
    mask: Given | np.ndarray | None = None,
    everything: bool = False,
    out: Given | None = None,
    backbone: str | Prompter = "auto",
    listen: Listen = _silent,
    **options: Any,
) -> Outlined:
    """Outline the structures that a prompt shows, without training; measure them and, with `out`, write all of it.

    Args:
        image: a picture, a volume (NIfTI, or a folder with one DICOM series), or `FILE#2` of several frames.
        box: x0, y0, x1, y1 in pixels, edges: one, or one a structure; beside points x, y, z in voxels of the file.
        points: (x, y, 1) in the structure, (x, y, 0) not in it, of one structure; of a volume without `slice` (x, y,
            z) or (x, y, z, 0), in voxels of the file. With boxes they refine the box that they are in.
        mask: a first guess of one structure: a file, or `(H, W)`; of a volume its `(D, H, W)`, too.
        everything: True outlines all that there is in a picture.
        out: gets the label map, outlines.geojson, overlay.png, measures.csv and outline.json.
        backbone: hf-hub:OWNER/NAME, a folder, file:PATH, or a model that was opened.
        listen: gets progress events.
        options: slice, axis, window, grid, features, candidates, device, offline; see `medgraft outline`.

    Raises:
        BadRecipe: the prompt shows nothing, or lies outside.
        BadImage, BadData: the image cannot be read, or `out` holds something of the user's.
        UnknownName, BadWeights, Offline, MissingExtra: the model cannot be had.

    Source: Kirillov et al., "Segment Anything", ICCV 2023.
    """
    from medgraft.outlining import folder
    from medgraft.outlining.form import OutlineForm, stacked
    from medgraft.outlining.prompts import several
    from medgraft.outlining.seen import seen

    form = OutlineForm.of({**options, **({"backbone": backbone} if isinstance(backbone, str) else {})})
    read = seen(image, window=form.window)
    boxes, shown = several(box), several(points)
    _refuse_unfit(form, read, everything=everything, prompted=bool(boxes or shown or mask is not None))
    guess = _guess(mask, read)
    # Everything that a person can mistake is said before a model is loaded.
    _refuse_out(out, folder.OUTLINE, image, mask)
    job = _job(form, read, boxes, shown, guess, everything)
    prompter = _opened(form) if isinstance(backbone, str) else backbone
    structures, told = job(prompter, listen)
    labels = stacked(structures, read.shape)
    _say_hidden(structures, labels, listen)
    model = {name: str(getattr(prompter, name, "")) for name in ("name", "source", "licence", "sha256")}
    facts: dict[str, Any] = {"model": model}
    if out is not None:
        prompts = {"boxes": boxes, "points": shown, "mask": folder.described(mask), "everything": everything}
        # A model that was opened in Python has no name by which it is opened again.
        options = {**asdict(form), "backbone": form.backbone if isinstance(backbone, str) else None}
        facts = {"image": folder.described(image), **facts, "prompts": prompts, "options": options}
    return _told(read, form, labels, structures=structures, told=told, facts=facts, out=out)


def _refuse_out(out: Given | None, marker: str, image: Given, mask: Any) -> None:
    """Refuse a folder that holds something of the user's."""
    from medgraft.files.listing import ref_named
    from medgraft.outlining.folder import refuse_others

    if out is not None:
        given = {"image": ref_named(image).path, **({"mask": Path(mask)} if isinstance(mask, str | Path) else {})}
        refuse_others(Path(out), marker=marker, given=given)


def _refuse_unfit(form: OutlineForm, read: Seen, *, everything: bool, prompted: bool) -> None:
    if everything and prompted:
        raise BadRecipe("everything was asked for, and a prompt given, too", do="Give --all, or --box and --point.")
    if everything and not read.flat:
        raise BadRecipe("everything is outlined in pictures alone, and this is a volume", do="Give a box or a point.")
    if form.candidates and (everything or not read.flat):
        raise BadRecipe("candidates are of prompts in a picture", do="Leave --all-candidates out.")
    if read.flat and form.slice is not None:
        raise BadRecipe("it is a picture and has no slices", do="Leave --slice out; a frame of a file is FILE#2.")


def _guess(mask: Any, read: Seen) -> np.ndarray | None:
    """A mask that is given, as it lies on the picture, on a slice, or on the volume of the file."""
    import numpy as np

    from medgraft.files import read_label_map
    from medgraft.samples.label_maps import check_mask

    if mask is None or isinstance(mask, np.ndarray):
        return None if mask is None else mask > 0
    label_map = read_label_map(mask)
    if label_map.values.ndim == 3 and not read.flat:
        check_mask(label_map, read.shape, image_affine=read.image.affine)
    return label_map.values > 0


def _job(
    form: OutlineForm,
    read: Seen,
    boxes: list[tuple[float, ...]],
    points: list[tuple[float, ...]],
    guess: np.ndarray | None,
    everything: bool,
) -> Callable[[Prompter, Listen], tuple[list[Found], list[Candidates]]]:
    """What a model is to do, with prompts that are checked."""
    if everything:

        def act(prompter: Prompter, listen: Listen) -> tuple[list[Found], list[Candidates]]:
            from medgraft.outlining.everything import Sieve
            from medgraft.outlining.everything import everything as all_of

            return all_of(prompter, read.picture, Sieve(form.grid, *prompter.sure), listen=listen), []

    elif read.flat:
        from medgraft.outlining.prompts import flat_prompt

        height, width = read.shape
        prompt = flat_prompt(boxes, points, shape=(height, width), mask=guess)

        def act(prompter: Prompter, listen: Listen) -> tuple[list[Found], list[Candidates]]:
            from medgraft.outlining.flat import outlined

            del listen
            return outlined(prompter, read.picture, prompt)

    else:
        from medgraft.outlining.volumes import followed, start_of

        start = start_of(read, form, boxes=boxes, points=points, mask=guess)

        def act(prompter: Prompter, listen: Listen) -> tuple[list[Found], list[Candidates]]:
            if form.slice is None and not points:
                said = f"no slice is named, so the prompts are taken to be on the middle one, {start.level}"
                listen({"event": "warning", "text": said})
            return followed(prompter, read, start, axis=form.axis, listen=listen), []

    return act


def _opened(form: OutlineForm) -> Prompter:
    from medgraft.learn.engine import resolve_device
    from medgraft.nets.prompter_sources import open_prompter

    return open_prompter(form.backbone, offline=form.offline, device=resolve_device(form.device))


def _say_hidden(structures: Sequence[Found], labels: np.ndarray, listen: Listen) -> None:
    for number, one in enumerate(structures, start=1):
        if not one.mask.any():
            listen({"event": "warning", "text": f"structure {number}: the model outlined nothing there"})
        elif not (labels == number).any():
            listen({"event": "warning", "text": f"structure {number} is covered by other structures"})


def _told(
    read: Seen,
    form: OutlineForm,
    labels: np.ndarray,
    *,
    structures: Sequence[Found],
    told: list[Candidates],
    facts: dict[str, Any],
    out: Given | None,
) -> Outlined:
    """Measure what was outlined, and write it."""
    from medgraft import storage
    from medgraft.outlining import written
    from medgraft.outlining.folder import OUTLINE, clear, seal
    from medgraft.version import VERSION

    rows = written.rows_of(read, labels, structures)
    features = written.feature_rows(read, labels) if form.features else []
    folder = None if out is None else Path(out)
    if folder is not None:
        clear(folder)
        # First of all: it says whose the other files are, also where writing them is cut off.
        storage.write_json(folder / OUTLINE, {"medgraft": VERSION, **facts})
        written.write_all(folder, read, labels, rows=rows, axis=form.axis)
        if form.features:
            written.write_rows(folder / "features.csv", features)
        if form.candidates:
            written.write_candidates(folder, told)
        seal(folder, OUTLINE)
    return Outlined(labels, rows, features, told, facts["model"], folder)


def measure(
    image: Given,
    mask: Given,
    *,
    out: Given | None = None,
    features: bool = False,
    bins: int = 32,
    bin_width: float | None = None,
) -> Outlined:
    """Measure the structures of a label map: how much, how long, where, how bright; with `out`, write the tables.

    Args:
        image: a picture or a volume.
        mask: its label map on the same grid, each number above 0 a structure.
        out: gets measures.csv, outlines.geojson, overlay.png, measure.json and, with features, features.csv.
        features: True adds radiomic features by IBSI: shape, first-order, co-occurrence of gray levels.
        bins: gray levels of the features, from the darkest to the brightest value of a structure.
        bin_width: width of a gray level instead, in the unit of the image.

    Raises:
        BadImage, BadData: one of them cannot be read, they do not lie on each other, or `out` holds something.
        BadRecipe: the gray levels have no meaning.

    Source: Zwanenburg et al., Radiology 2020;295:328 (IBSI).
    """
    import numpy as np

    from medgraft.files import read_label_map
    from medgraft.outlining import written
    from medgraft.outlining.folder import MEASURE, described
    from medgraft.outlining.seen import seen
    from medgraft.samples.label_maps import check_mask, gray_numbers

    if bins < 2 or (bin_width is not None and not bin_width > 0):
        raise BadRecipe(
            "gray levels are at least 2, and their width is above 0", do="Give --bins 32 or --bin-width 25."
        )
    _refuse_out(out, MEASURE, image, mask)
    read, label_map = seen(image), read_label_map(mask)
    check_mask(label_map, read.shape, image_affine=read.image.affine)
    numbers = gray_numbers(label_map)
    if numbers is None:
        do = "Save its structures as the numbers 1, 2, 3 ... in one channel."
        raise BadData("the mask is in colours, and a structure is a number", where=label_map.source, do=do)
    labels = numbers.astype(np.int32)
    rows = written.rows_of(read, labels)
    found = written.feature_rows(read, labels, bins=bins, bin_width=bin_width) if features else []
    folder = None if out is None else Path(out)
    if folder is not None:
        told = {"image": described(image), "mask": described(mask)}
        told |= {"options": {"features": features, "bins": bins, "bin_width": bin_width}}
        _write_measured(folder, read, labels, rows=rows, found=found, told=told)
    return Outlined(labels, rows, found, out=folder)


def _write_measured(
    out: Path,
    read: Seen,
    labels: np.ndarray,
    *,
    rows: list[dict[str, Any]],
    found: list[dict[str, Any]],
    told: dict[str, Any],
) -> None:
    """Write what was measured, and first whose it is."""
    from medgraft import storage
    from medgraft.files import save_png
    from medgraft.files.write_outlines import write_outlines
    from medgraft.outlining import written
    from medgraft.outlining.folder import MEASURE, clear, seal
    from medgraft.version import VERSION

    clear(out)
    storage.write_json(out / MEASURE, {"medgraft": VERSION, **told})
    written.write_rows(out / "measures.csv", rows)
    write_outlines(out / "outlines.geojson", written.shapes_of(labels, rows), name=Path(read.image.source).name)
    save_png(out / "overlay.png", written.overlay(read, labels))
    if told["options"]["features"]:
        written.write_rows(out / "features.csv", found)
    seal(out, MEASURE)
