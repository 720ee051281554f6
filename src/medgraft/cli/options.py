"""Options that several commands share; each is a field of the recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from medgraft.cli.show import Screen

_MODEL = "Model and training"
_DATA = "Data"
_MACHINE = "Machine"

Data = Annotated[Path, typer.Argument(help="Folder, CSV, MedMNIST npz or DICOM tree.", show_default=False)]
Run = Annotated[Path, typer.Argument(help="Folder of a trained run.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Where to write.", show_default=False)]
Set = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="Any field of the recipe, such as fit.lr=1e-4; repeatable."),
]
RecipeFile = Annotated[Optional[Path], typer.Option("--recipe", help="A recipe.yaml to start from.")]  # noqa: UP045


def _option(kind: Any, name: str, help: str, panel: str) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    annotation = Annotated[kind, typer.Option(flag, help=help, rich_help_panel=panel, show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_TEXT, _WHOLE, _NUMBER, _FLAG = Optional[str], Optional[int], Optional[float], Optional[bool]  # noqa: UP045
COMMON = [
    _option(
        _TEXT,
        "task",
        "classify, multilabel, grade, regress, detect, segment (by the data when not given), localise, anomaly.",
        _MODEL,
    ),
    _option(_TEXT, "backbone", "auto, timm:NAME, torchvision:NAME, hf-hub:OWNER/NAME, file:PATH, none:NAME.", _MODEL),
    _option(
        _TEXT,
        "depth",
        "auto, head, all, how many stages from the head down are thawed, or lora (transformers).",
        _MODEL,
    ),
    _option(_WHOLE, "epochs", "Passes over the training images at most.", _MODEL),
    _option(_WHOLE, "image_size", "Side of the network's square in pixels.", _MODEL),
    _option(_WHOLE, "batch_size", "Images a step.", _MODEL),
    _option(_TEXT, "augment", "none, auto, or a preset such as fundus or chest.", _MODEL),
    _option(_TEXT, "synthetic", "Adds synthetic images: a diffuse or stylegan run, or diffuse or stylegan.", _MODEL),
    _option(_TEXT, "ratio", "Synthetic images for one real one; balance; or auto, which asks validation.", _MODEL),
    _option(_WHOLE, "seed", "Every random draw is a function of it.", _MODEL),
    _option(_TEXT, "label_column", "Column of the label.", _DATA),
    _option(_TEXT, "patient_column", "Column of the patient.", _DATA),
    _option(_TEXT, "split_column", "Column of the split.", _DATA),
    _option(_TEXT, "boxes_column", "Column of an annotation file an image.", _DATA),
    _option(_TEXT, "mask_column", "Column of a label map an image.", _DATA),
    _option(_FLAG, "patients_unknown", "Say that nobody knows the patients.", _DATA),
    _option(_NUMBER, "limit_bad", "Percentage of unreadable images above which to stop.", _DATA),
    _option(_TEXT, "device", "auto, cpu, cuda or cuda:1.", _MACHINE),
    _option(_WHOLE, "workers", "Extra processes that prepare batches.", _MACHINE),
    _option(_FLAG, "offline", "Never open a network connection.", _MACHINE),
]

_TALK = [
    inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option(f"--{name}", help=help, rich_help_panel="Talk")],
    )
    for name, help in {
        "json": "The last line on stdout is one JSON object.",
        "quiet": "Say nothing but results and errors.",
        "verbose": "Say more.",
    }.items()
]


def talks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--json --quiet --verbose`; it gets a `screen` and returns (lines to print, a JSON object)."""

    @wraps(command)
    def run(*args: Any, json: bool = False, quiet: bool = False, verbose: bool = False, **options: Any) -> None:
        with Screen(json=json, quiet=quiet, verbose=verbose) as screen:
            screen.results(*command(*args, screen=screen, **options))

    return _with_signature(run, command, drop={"screen"}, add=_TALK)


def takes_common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that the recipe holds; it gets those that were given as `options`."""

    @wraps(command)
    def run(*args: Any, **given: Any) -> Any:
        from medgraft.recipe import setting

        options = {parameter.name: given.pop(parameter.name, None) for parameter in COMMON}
        if options["depth"] is not None:
            options["depth"] = setting(f"depth={options['depth']}")[1]
        return command(*args, options={name: v for name, v in options.items() if v is not None}, **given)

    return _with_signature(run, command, drop={"options"}, add=COMMON)


def settings(given: list[str] | None) -> dict[str, Any]:
    """Read repeated `--set key=value`."""
    from medgraft.recipe import setting

    return dict(setting(text) for text in given or [])


def _with_signature(
    run: Callable[..., Any], command: Callable[..., Any], *, drop: set[str], add: list[inspect.Parameter]
) -> Callable[..., Any]:
    own = inspect.signature(command, eval_str=True)
    kept = [p for name, p in own.parameters.items() if name not in drop]
    run.__signature__ = inspect.Signature([*kept, *add])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [*kept, *add]}
    return run
