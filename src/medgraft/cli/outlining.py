"""The commands that outline what a prompt shows, and measure structures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from medgraft.cli.options import Out, talks
from medgraft.cli.show import Screen

_IMAGE = "A picture, a NIfTI file, a folder with one DICOM series, or FILE#2."
_BACKBONE = "auto (comes with medgraft), a run, hf-hub:OWNER/NAME, a folder of that layout, or file:PATH."
Image = Annotated[str, typer.Argument(help=_IMAGE, show_default=False)]
Result = tuple[list[str], dict[str, Any]]


@talks
def outline(
    image: Image,
    out: Out,
    *,
    box: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--box", metavar="X0,Y0,X1,Y1", help="A box around a structure, in pixels; repeatable."),
    ] = None,
    point: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--point", metavar="X,Y", help="A point in a structure; X,Y,0 is not in it; of volumes X,Y,Z."),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Everything that there is in a picture.")] = False,
    mask: Annotated[Optional[Path], typer.Option("--mask", help="A first guess of one structure.")] = None,  # noqa: UP045
    slice: Annotated[int | None, typer.Option("--slice", min=0, help="Slice of a volume, from 0 along --axis.")] = None,
    axis: Annotated[str, typer.Option(help="axial, coronal or sagittal, of the volume set upright.")] = "axial",
    backbone: Annotated[str, typer.Option(help=_BACKBONE)] = "auto",
    window: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--window", metavar="CENTRE,WIDTH", help="What becomes gray, in the unit of the file."),
    ] = None,
    grid: Annotated[int, typer.Option(min=1, help="Points a side that --all asks.")] = 32,
    features: Annotated[bool, typer.Option("--features", help="Radiomic features, too.")] = False,
    all_candidates: Annotated[bool, typer.Option("--all-candidates", help="All that a prompt may mean, too.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Never open a network connection.")] = False,
    screen: Screen,
) -> Result:
    """Outline what a box or a point shows, without training: label map, polygons, measures."""
    from medgraft import api
    from medgraft.outlining.prompts import numbers

    given: dict[str, Any] = {
        "box": [numbers(text, option="--box") for text in box or []],
        "points": [numbers(text, option="--point") for text in point or []],
        "window": None if window is None else numbers(window, option="--window"),
    }
    words = {"slice": slice, "axis": axis, "grid": grid, "features": features, "candidates": all_candidates}
    machine = {"device": device, "offline": offline, "backbone": backbone, "listen": screen.listen}
    done = api.outline(image, mask=mask, everything=all, out=out, **given, **words, **machine)
    return done.lines(), done.headline()


@talks
def measure(
    image: Image,
    mask: Annotated[Path, typer.Argument(help="Its label map, on the same grid.", show_default=False)],
    out: Out,
    *,
    features: Annotated[bool, typer.Option("--features", help="Radiomic features by IBSI, too.")] = False,
    bins: Annotated[int, typer.Option(min=2, help="Gray levels of the features.")] = 32,
    bin_width: Annotated[Optional[float], typer.Option(help="Width of a gray level instead.")] = None,  # noqa: UP045
    screen: Screen,
) -> Result:
    """Measure the structures of a label map: area or volume, place, brightness, features."""
    from medgraft import api

    del screen
    done = api.measure(image, mask, out=out, features=features, bins=bins, bin_width=bin_width)
    return done.lines(), done.headline()
