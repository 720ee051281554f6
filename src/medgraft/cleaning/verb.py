"""The verb `clean`: a data set, or images alone, without what is unwanted, as files that `train` and `predict` take.

What a net sees are files that a person can look at first, and everything else, such as leaks, maps and scores, is asked
of these files as of any others.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from medgraft import storage
from medgraft.cleaning.form import FORM, MASKS, CleanedSet, CleanForm
from medgraft.errors import BadRecipe, RunRefused

Listen = Callable[[dict[str, Any]], None]
_TWICE = "a folder that was cleaned before says what is done, and more was asked for beside it"
_COLUMNS = ("label_column", "patient_column", "split_column", "mask_column")


def _silent(event: dict[str, Any]) -> None:
    del event


def clean(
    data: str | Path,
    *,
    out: str | Path,
    keep: str | Path | None = None,
    hide: str | Path | None = None,
    like: str | Path | None = None,
    device: str = "auto",
    limit_bad: float = 1.0,
    compare: bool = False,
    listen: Listen = _silent,
    **options: Any,
) -> CleanedSet:
    """Write images without what is unwanted, and a table of them that `train` takes.

    Args:
        data: a data set of flat images, or a folder of images without labels, or one image.
        out: gets images/, manifest.csv, cleaned.csv, clean.json and before-after.png.
        keep: a run that draws label maps, or "masks" for the label map of each image: what is not drawn becomes black.
        hide: a run that draws label maps: what it draws, such as tubes, is painted over.
        like: a folder that was cleaned before: its settings are taken, as for images that a run is to answer for.
        device: "auto", "cpu", "cuda" or "cuda:1".
        limit_bad: percentage of images that may fail.
        compare: True learns the probe of the embedded encoder from the images before and after, on one split, and
            tells both AUROCs and their difference on the test images; before/ and after/ are their runs.
        listen: gets progress events.
        options: marks (paint over burned-in letters and markers), crop (cut to what is kept), margin (around that cut,
            a share of its longer side), blank (False leaves what is not kept as it is); label_column, patient_column,
            split_column and mask_column as in `train`.

    Raises:
        BadRecipe: nothing is asked for, or a cut without something to keep, or something beside `like`, or there is no
            such option.
        BadData: there is no such data, or they are volumes or boxes, or too many images fail.
        RunRefused: `out` holds something, or a run does not draw label maps of flat images.
    """
    from medgraft.cleaning.work import Work, clean_all, drawer, settings_of

    folder = Path(out)
    form, columns = _parted(options)
    if like is not None:
        if keep is not None or hide is not None or len(options) > len(columns):
            raise BadRecipe(_TWICE, do="Leave out --like, or --keep, --hide, --marks, --crop, --margin and --no-blank.")
        form, keep, hide = settings_of(Path(like))
    _check(form, keep, hide)
    if folder.exists() and any(folder.iterdir()):
        raise RunRefused("this folder is not empty", where=folder, do="Give another --out.")
    work = Work(folder, form, keep, drawer(keep, device), drawer(hide, device))
    done = clean_all(Path(data), work, columns=columns, limit_bad=limit_bad, listen=listen)
    told = {**asdict(form), "keep": _absolute(keep), "hide": _absolute(hide)}
    storage.write_json(folder / FORM, {**told, "images": len(done.rows), "data": str(Path(data).resolve())})
    if compare:
        from medgraft.cleaning import compared

        known = any(row["patient"] for row in done.rows)
        words: dict[str, Any] = {"columns": columns, "patients": known, "device": device, "listen": listen}
        done.compared.update(compared.compare(done, Path(data), **words))
    return done


def _parted(options: dict[str, Any]) -> tuple[CleanForm, dict[str, Any]]:
    """Options as a form, and those of columns.

    Raises:
        BadRecipe: there is no such option; the nearest is named.
    """
    known = [field.name for field in fields(CleanForm)]
    for name in options:
        if name not in (*known, *_COLUMNS):
            near = difflib.get_close_matches(name, [*known, *_COLUMNS], n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}."
            raise BadRecipe(f"clean has no option {name!r}", do=hint)
    form = CleanForm(**{name: value for name, value in options.items() if name in known})
    return form, {name: value for name, value in options.items() if name in _COLUMNS}


def _absolute(run: str | Path | None) -> str | None:
    return None if run is None else MASKS if str(run) == MASKS else str(Path(run).resolve())


def _check(form: CleanForm, keep: Any, hide: Any) -> None:
    if keep is None and hide is None and not form.marks:
        what = "nothing is asked for"
        raise BadRecipe(what, do="Give --keep RUN, --keep masks, --hide RUN or --marks.")
    if form.crop and keep is None:
        raise BadRecipe("a cut needs something to keep", do="Give --keep RUN or --keep masks.")
    if keep is not None and not form.crop and not form.blank:
        raise BadRecipe("what is kept is neither cut out nor shown alone", do="Leave out --no-blank, or give --crop.")
    if not 0 <= form.margin <= 1:
        raise BadRecipe(f"a margin of {form.margin:g} is no share of a side", do="Give 0 to 1.")
