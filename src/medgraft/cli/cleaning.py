"""The command `clean`: a thin skin over the verb of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from medgraft.cli.options import talks
from medgraft.cli.show import Screen

_KEEP = "A run of --task segment whose structures are kept, or masks: the label map of each image."
_MARGIN = "Around that cut, as a share of its longer side; 0.05 when not given."
_BLANK = "Make black what is not kept, as is done when not given."
Result = tuple[list[str], dict[str, Any]]


@talks
def clean(
    data: Annotated[Path, typer.Argument(help="A data set, a folder of images, or an image.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="An empty folder.", show_default=False)],
    *,
    keep: Annotated[Optional[str], typer.Option("--keep", metavar="RUN|masks", help=_KEEP)] = None,  # noqa: UP045
    hide: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--hide", metavar="RUN", help="A run whose structures, such as tubes, are painted over."),
    ] = None,
    marks: Annotated[bool, typer.Option("--marks", help="Paint over burned-in letters and markers.")] = False,
    crop: Annotated[bool, typer.Option("--crop", help="Cut to what is kept.")] = False,
    margin: Annotated[Optional[float], typer.Option(help=_MARGIN)] = None,  # noqa: UP045
    blank: Annotated[Optional[bool], typer.Option("--blank/--no-blank", help=_BLANK)] = None,  # noqa: UP045
    like: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--like", help="A folder that was cleaned before, whose settings are taken."),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="AUROC of a quick model before and after.")] = False,
    label_column: Annotated[Optional[str], typer.Option(help="Column of the label.")] = None,  # noqa: UP045
    patient_column: Annotated[Optional[str], typer.Option(help="Column of the patient.")] = None,  # noqa: UP045
    split_column: Annotated[Optional[str], typer.Option(help="Column of the split.")] = None,  # noqa: UP045
    mask_column: Annotated[Optional[str], typer.Option(help="Column or folder of the label map.")] = None,  # noqa: UP045
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    limit_bad: Annotated[float, typer.Option(help="Percentage of images that may fail.")] = 1.0,
    screen: Screen,
) -> Result:
    """Cut unwanted areas away: keep a structure, hide tubes, paint over letters; files that train and predict take."""
    from medgraft import api

    columns: dict[str, Any] = {"label_column": label_column, "patient_column": patient_column}
    columns |= {"split_column": split_column, "mask_column": mask_column}
    form = {"marks": marks or None, "crop": crop or None, "margin": margin, "blank": blank}
    # What was not written is left out, as beside --like nothing of this may be asked for.
    words: dict[str, Any] = {name: value for name, value in form.items() if value is not None}
    words |= {"like": like, "device": device, "limit_bad": limit_bad, "compare": compare, "listen": screen.listen}
    done = api.clean(data, out=out, keep=keep, hide=hide, **words, **columns)
    return done.lines(), done.headline()
