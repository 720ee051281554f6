"""The command `denoise`: a thin skin over the verb of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from medgraft.cli.options import Out, talks
from medgraft.cli.show import Screen

Result = tuple[list[str], dict[str, Any]]
_METHOD = "blindspot or prior (by the run), median, bilateral, nlmeans, tv, wavelet; else what suits the images best."
_COMPARE = "Clean images: a column, or a folder with files of the same names."


@talks
def denoise(
    paths: Annotated[list[str], typer.Argument(help="Images, folders, series, or a data set.", show_default=False)],
    out: Out,
    *,
    run: Annotated[Optional[Path], typer.Option("--run", help="A run of --task denoise or diffuse.")] = None,  # noqa: UP045
    method: Annotated[Optional[str], typer.Option(help=_METHOD)] = None,  # noqa: UP045
    steps: Annotated[int, typer.Option(min=1, help="Steps back, of a prior; 1 has the smallest error.")] = 1,
    compare: Annotated[Optional[str], typer.Option("--compare", metavar="COLUMN|DIR", help=_COMPARE)] = None,  # noqa: UP045
    judge: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--judge", metavar="RUN", help="A classifier: its AUROC before and after."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    label_column: Annotated[Optional[str], typer.Option(help="Column of the label.")] = None,  # noqa: UP045
    patient_column: Annotated[Optional[str], typer.Option(help="Column of the patient.")] = None,  # noqa: UP045
    split_column: Annotated[Optional[str], typer.Option(help="Column of the split.")] = None,  # noqa: UP045
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    limit_bad: Annotated[float, typer.Option(help="Percentage of images that may fail.")] = 1.0,
    screen: Screen,
) -> Result:
    """Take noise away: by a net that learnt from noisy images, a diffusion model or a filter; and what it is worth."""
    from medgraft import api

    words: dict[str, Any] = {"run": run, "method": method, "compare": compare, "judge": judge, "device": device}
    words |= {"steps": steps, "seed": seed, "limit_bad": limit_bad, "listen": screen.listen}
    words |= {"label_column": label_column, "patient_column": patient_column, "split_column": split_column}
    done = api.denoise(paths, out=out, **words)
    return done.lines(), done.headline()
