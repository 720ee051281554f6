"""The verb `denoise`: images without their noise, as files of their own form, with what that is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgraft.errors import BadRecipe, RunRefused

if TYPE_CHECKING:
    from medgraft.restoring.form import Denoised

Listen = Callable[[dict[str, Any]], None]
Given = str | Path
_COLUMNS = ("label_column", "patient_column", "split_column")


def _silent(event: dict[str, Any]) -> None:
    del event


def denoise(
    paths: Sequence[Given] | Given,
    *,
    out: Given,
    run: Given | None = None,
    method: str | None = None,
    compare: Given | None = None,
    judge: Given | None = None,
    device: str = "auto",
    listen: Listen = _silent,
    **options: Any,
) -> Denoised:
    """Take the noise away from images and write them, marked as derived, with a table of what was found.

    Args:
        paths: files, folders, series, or one data set such as a CSV.
        out: an empty or new folder; gets images/, manifest.csv, denoised.csv, denoise.json, before-after.png.
        run: of the task denoise, or of diffuse, which is then the prior.
        method: blindspot or prior (by the run), median, bilateral, nlmeans, tv or wavelet; None takes that of the run,
            and without a run the filter that foretells hidden pixels of these images best.
        compare: clean images, a column of the table or a folder with files of the same names: PSNR and SSIM of each
            way with intervals, in denoise.json and compared.csv.
        judge: a run that answers for whole images: its AUROC on noisy images, cleaned ones and, where `compare` gives
            them, clean ones. Images that it learnt from are left out, told by their content.
        device: auto, cpu, cuda or cuda:1.
        listen: gets progress events.
        options: steps (back from noise, of a prior; 1), seed (of intervals; 0), limit_bad (percentage of images that
            may fail; 1), label_column, patient_column and split_column as in `train`.

    Raises:
        BadRecipe: there is no such method, or it does not belong to the run, or no such option.
        BadData: no image is there, too many fail, or clean images do not fit.
        RunRefused: `out` holds something, or a run is of another kind.
    """
    from medgraft.restoring.form import AUTO, METHODS
    from medgraft.restoring.work import Asked, denoise_all, way_of

    known = ("steps", "seed", "limit_bad", *_COLUMNS)
    for name in options:
        if name not in known:
            raise BadRecipe(f"denoise has no option {name!r}", do=f"There are {', '.join(known)}.")
    if method not in (None, AUTO, *METHODS):
        raise BadRecipe(f"there is no method {method!r}", do=f"There are {', '.join(METHODS)}.")
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise RunRefused("this folder is not empty", where=folder, do="Give another --out.")
    way = way_of(run, method, device=device, steps=int(options.get("steps", 1)))
    asked = Asked(
        out=folder,
        way=way,
        run=None if run is None else str(Path(run).resolve()),
        compare=None if compare is None else str(compare),
        judge=None if judge is None else Path(judge),
        device=device,
        limit_bad=float(options.get("limit_bad", 1.0)),
        seed=int(options.get("seed", 0)),
        columns={name.removesuffix("_column"): options.get(name) for name in _COLUMNS},
    )
    return denoise_all(paths, asked, listen=listen)
