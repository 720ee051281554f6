"""The commands that draw images, ask whether they are copies, and find real ones again among them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from medgraft.cli.lines import Result
from medgraft.cli.options import Data, Out, Run, talks
from medgraft.cli.show import Screen

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]


@talks
def generate(
    run: Run,
    out: Out,
    *,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 100,
    label: Annotated[Optional[str], typer.Option(help="Class of all of them; else equally many of each.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same images.")] = 0,
    steps: Annotated[Optional[int], typer.Option(min=2, help="Steps from noise to image (diffuse).")] = None,  # noqa: UP045
    sampler: Annotated[Optional[str], typer.Option(help="dpm, ddim or ddpm (diffuse).")] = None,  # noqa: UP045
    guidance: Annotated[Optional[float], typer.Option(min=0, help="How far to the class (diffuse).")] = None,  # noqa: UP045
    truncation: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0.05, max=1, help="Below 1 fewer kinds, each likelier (stylegan)."),
    ] = None,
    despite_audit: Annotated[bool, typer.Option("--despite-audit", help="Although it failed its audit.")] = False,
    device: Device = "auto",
    screen: Screen,
) -> Result:
    """Draw synthetic images with a trained generator; refused where it copies its training images."""
    from medgraft import api

    way: dict[str, Any] = {"steps": steps, "sampler": sampler, "guidance": guidance, "truncation": truncation}
    words: dict[str, Any] = {"label": label, "seed": seed, "despite_audit": despite_audit, "device": device}
    done = api.generate(run, count=count, out=out, listen=screen.listen, **words, **way)
    return done.lines(), done.headline()


@talks
def audit(
    run: Run,
    data: Data,
    *,
    out: Annotated[Optional[Path], typer.Option("--out", help="Where to write audit.json and pairs.")] = None,  # noqa: UP045
    count: Annotated[int, typer.Option(min=20, help="Images that are drawn.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn images.")] = 1,
    device: Device = "auto",
    screen: Screen,
) -> Result:
    """Does a generator copy its training images? Distances beside held-out images, and a verdict."""
    from medgraft import api

    told = api.audit(run, data, out=out, count=count, seed=seed, device=device, listen=screen.listen)
    lines = [f"Verdict: {told['verdict']}", *told["reasons"], *told["notes"]]
    for name in ("features", "pixels"):
        share, member = told[name]["share"], told[name]["membership"]
        lines.append(
            f"{name}: {share['value']:.1%} of drawn images nearer than the limit ({share['low']:.1%} to "
            f"{share['high']:.1%}; of held-out ones 5%); membership AUROC {member['value']:.3f}"
        )
    return lines, {key: told[key] for key in ("verdict", "reasons", "notes", "training", "held_out", "drawn")} | {
        "out": None if out is None else str(out)
    }


@talks
def project(
    run: Run,
    paths: Annotated[list[str], typer.Argument(help="Images or folders of them.", show_default=False)],
    out: Out,
    *,
    label: Annotated[Optional[str], typer.Option(help="Class to begin with; else the nearest.")] = None,  # noqa: UP045
    steps: Annotated[int, typer.Option(min=1, help="Of the search, for each image.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same result.")] = 0,
    device: Device = "auto",
    screen: Screen,
) -> Result:
    """Find real images again among those that a StyleGAN run can draw: nearest images, styles, distances."""
    from medgraft import api

    words: dict[str, Any] = {"label": label, "steps": steps, "seed": seed, "device": device}
    done = api.project(run, paths, out=out, listen=screen.listen, **words)
    return done.lines(), done.headline()
