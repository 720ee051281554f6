"""The commands. Each reads its options, calls one verb of `medgraft.api`, and prints what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from medgraft.cli.cleaning import clean
from medgraft.cli.denoising import denoise
from medgraft.cli.generating import audit, generate, project
from medgraft.cli.lines import Result, backbone_line, brief, depth_line, own_classes, run_lines, stage_line, value
from medgraft.cli.options import Data, Out, RecipeFile, Run, Set, settings, takes_common, talks
from medgraft.cli.outlining import measure, outline
from medgraft.cli.show import Screen
from medgraft.errors import BadData
from medgraft.explanation.names import METHODS_TOLD

app = typer.Typer(
    name="medgraft",
    help="Graft a new head on a trained vision model, fine-tune it on medical images, and say how good it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
Paths = Annotated[list[str], typer.Argument(help="Images, folders, DICOM series.", show_default=False)]


@app.command()
@talks
@takes_common
def train(
    data: Data,
    out: Out,
    *,
    recipe: RecipeFile = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    set: Set = None,
    screen: Screen,
    options: dict[str, Any],
) -> Result:
    """Train on labelled images: fine-tuned model, scores with intervals, report."""
    from medgraft import api

    result = api.train(
        data, out=out, recipe=recipe, resume=resume, settings=settings(set), listen=screen.listen, **options
    )
    return run_lines(result, out)


@app.command()
@talks
@takes_common
def plan(
    data: Data,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The recipe to write.")] = Path("recipe.yaml"),
    recipe: RecipeFile = None,
    set: Set = None,
    screen: Screen,
    options: dict[str, Any],
) -> Result:
    """Write the recipe that `train` would use, each choice with its reason."""
    from medgraft import api

    planned = api.plan(data, recipe=recipe, settings=settings(set), listen=screen.listen, **options)
    planned.save(output)
    values = planned.model_dump()
    lines = [f"{field} = {value(values, field)}  ({why})" for field, why in planned.reasons.items()]
    return [*lines, f"Recipe: {output}"], {"recipe": str(output), "reasons": planned.reasons}


@app.command()
@talks
@takes_common
def depth(
    data: Data,
    out: Out,
    *,
    recipe: RecipeFile = None,
    set: Set = None,
    screen: Screen,
    options: dict[str, Any],
) -> Result:
    """The depth finder alone: score against the number of thawed stages, with intervals."""
    from medgraft import api

    found = api.depth(data, out=out, recipe=recipe, settings=settings(set), listen=screen.listen, **options)
    lines = [depth_line(row, found) for row in found["curve"]]
    said = f"Depth: {found['thawed_stages']} of {found['of']} stages; {found['reason']}."
    paths = {"out": str(out), "depth_json": str(out / "depth.json"), "depth_html": str(out / "depth.html")}
    return [*lines, said, f"Page: {paths['depth_html']}"], {**paths, **found}


@app.command()
@talks
@takes_common
def survey(
    data: Data,
    *,
    out: Annotated[Optional[Path], typer.Option("--out", help="Where to write survey.json and .html.")] = None,  # noqa: UP045
    set: Set = None,
    screen: Screen,
    options: dict[str, Any],
) -> Result:
    """Facts of a data set: counts, sizes, patients, duplicates, unreadable files, leaks."""
    from medgraft import api

    found = api.survey(data, out=out, settings=settings(set), listen=screen.listen, **options)
    from medgraft import surveying

    lines = [*surveying.lines(found), *([f"Page: {out / 'survey.html'}"] if out else [])]
    return lines, {"out": None if out is None else str(out), **surveying.headline(found)}


@app.command()
@talks
def evaluate(
    run: Run,
    data: Data,
    out: Out,
    *,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    label_column: Annotated[Optional[str], typer.Option(help="Column of the label.")] = None,  # noqa: UP045
    patient_column: Annotated[Optional[str], typer.Option(help="Column of the patient.")] = None,  # noqa: UP045
    split_column: Annotated[Optional[str], typer.Option(help="Column of the split; none reads none.")] = None,  # noqa: UP045
    mask_column: Annotated[Optional[str], typer.Option(help="Column of a label map an image.")] = None,  # noqa: UP045
    limit_bad: Annotated[float, typer.Option(help="Percentage of unreadable images above which to stop.")] = 1.0,
    screen: Screen,
) -> Result:
    """Score a trained run on other labelled data."""
    from medgraft import api

    result = api.evaluate(
        run,
        data,
        out=out,
        device=device,
        label_column=label_column,
        patient_column=patient_column,
        split_column=split_column,
        mask_column=mask_column,
        limit_bad=limit_bad,
        listen=screen.listen,
    )
    return run_lines(result, out)


@app.command()
@talks
def predict(
    run: Annotated[str, typer.Argument(help="A run, or a backbone such as timm:NAME.", show_default=False)],
    paths: Paths,
    *,
    out: Annotated[Optional[Path], typer.Option("--out", help="CSV or folder to write.")] = None,  # noqa: UP045
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 32,
    workers: Annotated[int, typer.Option(min=0, help="Extra processes that decode.")] = 2,
    top: Annotated[int, typer.Option(min=1, help="Classes shown for a backbone.")] = 5,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a network connection.")] = False,
    screen: Screen,
) -> Result:
    """Predictions for files, folders and DICOM series; of a backbone, its own 1000 classes."""
    from medgraft import api

    if not Path(run).is_dir():
        _refuse_path(run)
        answers = api.predict_pretrained(run, paths, top=top, offline=offline, device=device, out=out)
        return own_classes(answers), {"out": None if out is None else str(out), "predictions": answers}
    done = api.predict(
        Path(run), paths, out=out, device=device, batch_size=batch_size, workers=workers, listen=screen.listen
    )
    return done.lines(), done.headline()


app.command()(outline)
app.command()(measure)
app.command()(clean)
app.command()(denoise)
app.command()(generate)
app.command()(audit)
app.command()(project)


@app.command()
@talks
def stress(
    runs: Annotated[list[Path], typer.Argument(help="Trained runs; the first one's test images.", show_default=False)],
    out: Out,
    *,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    screen: Screen,
) -> Result:
    """Runs on changed test images, laid over each other: turned, darker, blurred, compressed ..."""
    from medgraft import api

    told = api.stress(runs, out=out, device=device, listen=screen.listen)["runs"]
    lines = [f"{name}: {row['score']} {brief(row['plain'])}, mean drop {brief(row)}" for name, row in told.items()]
    drops = {name: row["mean_drop"] for name, row in told.items()}
    return [*lines, f"Page: {out / 'stress.html'}"], {"out": str(out), "mean_drop": drops}


@app.command()
@talks
def explain(
    run: Run,
    paths: Paths,
    out: Annotated[Path, typer.Option("--out", help="Where to write.", show_default=False)],
    *,
    method: Annotated[str, typer.Option(help=METHODS_TOLD)] = "auto",
    target: Annotated[Optional[str], typer.Option(help="Class, label or severity; else the answer.")] = None,  # noqa: UP045
    nifti: Annotated[bool, typer.Option("--nifti", help="NIfTI maps of files that are no NIfTI, too.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    screen: Screen,
) -> Result:
    """Where it looked: a map a file, or a found box, each checked for what it is worth."""
    from medgraft import api

    words: dict[str, Any] = {"method": method, "target": target, "nifti": nifti, "device": device}
    told = api.explain(run, paths, out=out, listen=screen.listen, **words)
    lines = [f"{told['count']} maps by {told['method']}, {told['failed']} of them fail their checks"]
    if told["pointing"]:
        lines.append(f"{told['pointing']['hits']} of {told['pointing']['n']} point at the {told.get('aim', 'mask')}")
    summary = {name: told[name] for name in ("method", "count", "failed", "randomised", "pointing")}
    return [*lines, f"Page: {out / 'explain.html'}"], {"out": str(out), **summary}


@app.command()
@talks
def inspect(
    run: Annotated[str, typer.Argument(help="A run, or a backbone such as timm:NAME.", show_default=False)],
    paths: Annotated[Optional[list[str]], typer.Argument(help="Images to show a backbone on.")] = None,  # noqa: UP045
    *,
    out: Annotated[Path, typer.Option("--out", help="Where to write.", show_default=False)],
    image_size: Annotated[int, typer.Option(min=32, help="Side of a backbone's input.")] = 224,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a network connection.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    screen: Screen,
) -> Result:
    """The head's weights and the feature hierarchy, stage by stage."""
    from medgraft import api

    if not Path(run).is_dir():
        _refuse_path(run)
    words: dict[str, Any] = {"image_size": image_size, "offline": offline, "device": device}
    told = api.inspect(run, paths or [], out=out, listen=screen.listen, **words)
    lines = [stage_line(name, rows, told) for name, rows in (told.get("separability") or {}).items()]
    return [*lines, f"Page: {out / 'inspect.html'}"], {"out": str(out), **told}


@app.command()
@talks
def export(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="File to write.", show_default=False)],
    *,
    format: Annotated[str, typer.Option(help="onnx, torchscript or safetensors.")] = "onnx",
    screen: Screen,
) -> Result:
    """Write the model for other programs, and check that it gives the same numbers there."""
    from medgraft import api

    checked = api.export(run, out=out, format=format)
    said = f"{out}: largest difference {checked['largest_difference']:.1e} from the net in float32"
    said += f", {checked['difference_from_predict']:.1e} from predict, on {checked['images']} images"
    return [said], {"out": str(out), **checked}


@app.command()
@talks
def backbones(
    word: Annotated[Optional[str], typer.Argument(help="Only names with this word.")] = None,  # noqa: UP045
    *,
    screen: Screen,
) -> Result:
    """What can be grafted: name, source, parameters, licence, input, offline or not."""
    from medgraft import api

    found = api.backbones(word)
    lines = [backbone_line(row) for row in found["backbones"]]
    return [*lines, f"Default: {found['default']['name']} ({found['default']['architecture']})"], found


@app.command()
@talks
def phantoms(
    kind: Annotated[
        str, typer.Argument(help="fundus, chest, skin, keratitis, glomeruli or ct_nodules.", show_default=False)
    ],
    out: Out,
    *,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 100,
    size: Annotated[Optional[int], typer.Option(min=32, help="Side in pixels.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same images.")] = 0,
    form: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="png; of chest also png16 and dicom, of glomeruli slide; of ct_nodules nifti or dicom.",
            show_default=False,
        ),
    ] = None,
    screen: Screen,
) -> Result:
    """Write a phantom data set (procedural images, no patients) with its ground truth."""
    from medgraft import api

    table = api.draw_phantoms(kind, count=count, out=out, size=size, seed=seed, form=form)
    return [f"{count} phantoms: {table}"], {"out": str(out), "manifest": str(table), "count": count}


@app.command()
@talks
def demo(
    *,
    out: Annotated[Path, typer.Option("--out", help="Where to write.")] = Path("demo"),
    screen: Screen,
) -> Result:
    """The main job on phantoms: make images, train, evaluate, report."""
    from medgraft import api

    return run_lines(api.demo(out=out, listen=screen.listen), out / "run")


@app.command()
@talks
def doctor(*, screen: Screen) -> Result:
    """Versions, device, threads, formats and codecs available, what is missing and how to get it."""
    from medgraft import api

    found = api.doctor()
    lines = [f"{name}: {value}" for name, value in found["facts"].items()]
    lines += [f"missing: {row['what']}: {row['do']}" for row in found["missing"]]
    return lines, found


def _refuse_path(run: str) -> None:
    """Say that a folder is not there, before its path is taken for the name of a backbone."""
    if ":" not in run and ("/" in run or "\\" in run) and not Path(run).exists():
        raise BadData(
            "there is no such run folder", where=run, do="Give the --out folder of a training, or a backbone."
        )
