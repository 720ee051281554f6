"""The verbs: the same words, defaults and results as the commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgraft.cleaning.verb import clean as clean
from medgraft.errors import BadData, BadRecipe
from medgraft.headline import Report as Report
from medgraft.outlining.verbs import measure as measure
from medgraft.outlining.verbs import outline as outline
from medgraft.recipe import OPTIONS, Recipe, fields, load, with_options
from medgraft.restoring.verb import denoise as denoise
from medgraft.synthetic.projecting import project as project
from medgraft.synthetic.verbs import audit as audit
from medgraft.synthetic.verbs import generate as generate

if TYPE_CHECKING:
    from medgraft.opened import Run
    from medgraft.places import PlaceRun
    from medgraft.predicted import Done
    from medgraft.samples.survey import Survey

Listen = Callable[[dict[str, Any]], None]
Data = str | Path
_DEMO_IMAGES = 480  # enough that every stage learns something from them, in two minutes on two cores
_DEMO: dict[str, Any] = {"label_column": "label", "image_size": 96, "epochs": 12, "batch_size": 16}
_DEMO_SETTINGS: dict[str, Any] = {"augment.strength": 0.5, "fit.mixup": 0.0, "fit.label_smoothing": 0.0}


def _silent(event: dict[str, Any]) -> None:
    del event


def train(
    data: Data,
    *,
    out: Data,
    recipe: Data | Recipe | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    listen: Listen = _silent,
    **options: Any,
) -> Report:
    """Train on labelled images and get the report.

    Args:
        data: folder, CSV, MedMNIST npz or DICOM tree.
        out: the run folder.
        recipe: a recipe, or the YAML file of one.
        resume: go on with the run in `out`.
        settings: dotted fields of the recipe and their values.
        listen: gets progress events.
        options: task, backbone, depth, epochs, image_size, batch_size, augment, seed, label_column,
            patient_column, split_column, mask_column, patients_unknown, limit_bad, synthetic, ratio, device, workers,
            offline.

    Raises:
        UserError: what is wrong, where, and what to do.
        Stopped: it stopped safely and can be resumed.
    """
    from medgraft import run

    chosen = _recipe(recipe, options, settings)
    asked = [OPTIONS[name] for name, value in options.items() if value is not None] + list(settings or {})
    asked += [] if recipe is None else fields()
    return Report(run.train(Path(data), chosen, out=Path(out), resume=resume, asked=asked, listen=listen))


def plan(
    data: Data,
    *,
    recipe: Data | Recipe | None = None,
    settings: Mapping[str, Any] | None = None,
    listen: Listen = _silent,
    **options: Any,
) -> Recipe:
    """Get the recipe that `train` would use, each choice with its reason; arguments as in `train`."""
    from medgraft import preparing

    return preparing.plan(Path(data), _recipe(recipe, options, settings), listen=listen)


def depth(
    data: Data,
    *,
    out: Data,
    recipe: Data | Recipe | None = None,
    settings: Mapping[str, Any] | None = None,
    listen: Listen = _silent,
    **options: Any,
) -> dict[str, Any]:
    """Find how many stages to tune, on parts of the training images; writes depth.json and depth.html into `out`.

    Arguments as in `train`; `settings={"depth.candidates": ["head", 1, "all"]}` limits what is tried.

    Returns:
        What depth.json holds: "thawed_stages", "reason", and the "curve" of scores with intervals.
    """
    from medgraft import depth_finder

    if options.get("depth") not in (None, "auto"):
        raise BadRecipe("a search asks every depth", do="Name those that it is to try by --set depth.candidates=[...].")
    return depth_finder.search(Path(data), _recipe(recipe, options, settings), out=Path(out), listen=listen)


def survey(
    data: Data,
    *,
    out: Data | None = None,
    settings: Mapping[str, Any] | None = None,
    listen: Listen = _silent,
    **options: Any,
) -> Survey:
    """Get the facts of a data set; with `out`, also survey.json and survey.html there."""
    from medgraft import surveying

    chosen = _recipe(None, options, settings)
    return surveying.survey_data(Path(data), chosen, out=None if out is None else Path(out), listen=listen)


def open_run(folder: Data, *, device: str = "auto") -> Run | PlaceRun:
    """Open a finished run for predictions: a `Run`, or of one that finds boxes a `BoxRun`, in volumes a `ScanRun`."""
    from medgraft.places import open_any

    return open_any(Path(folder), device=device)


def _opened(run: Data | Run | PlaceRun, device: str, *, verb: str) -> Run:
    """A run that answers for whole images.

    Raises:
        RunRefused: it finds boxes.
    """
    from medgraft.places import whole_only

    return whole_only(open_run(run, device=device) if isinstance(run, str | Path) else run, verb=verb)


def evaluate(
    run: Data | Run | PlaceRun,
    data: Data,
    *,
    out: Data,
    device: str = "auto",
    limit_bad: float = 1.0,
    listen: Listen = _silent,
    **columns: str | None,
) -> Report:
    """Score a trained run on other labelled data; nothing is fitted there.

    Args as in `train`; `columns` are label_column, patient_column, split_column, boxes_column and mask_column.

    Raises:
        UserError: what is wrong with the data or the run, and what to do.
    """
    from medgraft import outside, places
    from medgraft.opened import Run
    from medgraft.samples.dataset import Columns

    opened = open_run(run, device=device) if isinstance(run, str | Path) else run
    words: dict[str, Any] = {"columns": _columns(Columns, columns), "percent_bad": limit_bad, "listen": listen}
    if not isinstance(opened, Run):
        return Report(places.evaluate(opened, Path(data), out=Path(out), **words))
    return Report(outside.evaluate(opened, Path(data), out=Path(out), **words))


def _columns(kind: Callable[..., Any], given: Mapping[str, str | None]) -> Any:
    """Get which columns to read, of options such as `label_column`."""
    roles = ("label", "patient", "split", "boxes", "mask")
    unknown = sorted(set(given) - {f"{role}_column" for role in roles})
    if unknown:
        known = ", ".join(f"{role}_column" for role in roles)
        raise BadRecipe(f"evaluate has no option {unknown[0]!r}", do=f"Columns are named by {known}.")
    return kind(**{role: given.get(f"{role}_column") for role in roles})


def predict(
    run: Data | Run | PlaceRun,
    paths: Sequence[Data] | Data,
    *,
    out: Data | None = None,
    device: str = "auto",
    batch_size: int = 32,
    workers: int = 2,
    listen: Listen = _silent,
) -> Done:
    """Predict files (of several frames each, or `FILE#2`) and folders; with `out`, rows go to a CSV as they come.

    A run that finds boxes writes a row a box, into a `.json` file COCO's list, into a `.geojson` what QuPath opens,
    and into a folder all of them and pictures with the boxes drawn in. One that finds boxes in volumes takes NIfTI
    files and folders of DICOM series, and writes voxels and millimetres.

    Raises:
        BadData: a path is not there, or no image could be read.
    """
    from medgraft import opened as opening
    from medgraft.predicted import Done

    opened = open_run(run, device=device) if isinstance(run, str | Path) else run
    if not isinstance(opened, opening.Run):
        return opened.predict_to(None if out is None else Path(out), paths, workers=workers, listen=listen)
    refs, passed = opening.images_in(paths)
    opening.say_passed(passed, listen)
    rows = chain(
        opened.predict_files(refs, batch_size=batch_size, workers=workers, listen=listen), opening.rows_of(passed)
    )
    if out is None:
        found = list(rows)
        done = Done(None, len(found), sum(bool(row.get("error")) for row in found), found)
        first = next((row["error"] for row in found if row.get("error")), "")
    else:
        path = Path(out) if Path(out).suffix else Path(out) / "predictions.csv"
        count, failed, first = opening.write_rows(path, columns=opened.columns(), rows=rows)
        done = Done(path, count, failed, [])
    if done.failed == done.count:
        raise BadData(f"none of the {done.count} images could be read ({first})", where=opening.paths_of(paths)[0])
    return done


def predict_pretrained(
    name: str,
    paths: Sequence[Data] | Data,
    *,
    top: int = 5,
    offline: bool = False,
    device: str = "auto",
    image_size: int | None = None,
    out: Data | None = None,
) -> list[dict[str, Any]]:
    """Ask a pre-trained net, head and all, for its own classes: rows of path, rank, class, probability."""
    from medgraft import pretrained
    from medgraft.storage import write_table

    rows = pretrained.predict(name, paths, top=top, offline=offline, device=device, image_size=image_size)
    if out is not None:
        path = Path(out) if Path(out).suffix else Path(out) / "predictions.csv"
        write_table(path, rows, columns=("path", "rank", "class", "probability"))
    return rows


def stress(runs: Sequence[Data | Run], *, out: Data, device: str = "auto", listen: Listen = _silent) -> dict[str, Any]:
    """Score finished runs on changed images and lay them over each other: what augmentation bought, for instance.

    Args:
        runs: the first one's test images are used; the others must not have learnt from them.
        out: gets stress.json and stress.html.
        device: auto, cpu, cuda or cuda:1.
        listen: gets progress events.

    Raises:
        BadData, RunRefused: the runs cannot be compared.
    """
    from medgraft import stressing

    opened = [_opened(run, device, verb="stress") for run in runs]
    return stressing.compare(opened, out=Path(out), listen=listen)


def explain(
    run: Data | Run | PlaceRun,
    paths: Sequence[Data] | Data,
    *,
    out: Data,
    method: str = "auto",
    target: str | None = None,
    nifti: bool = False,
    device: str = "auto",
    listen: Listen = _silent,
) -> dict[str, Any]:
    """Show where a run looked: a map a file in the file's own pixels, each with figures of what it is worth.

    Of a run that finds boxes there is a map for each of the surest boxes that are called in a file, in volumes too.

    Args:
        run: the run, or its folder.
        paths: files, folders, frames as `FILE#2`; or a CSV with the columns `path` and `mask`, to count how often a
            map points at the mask.
        out: gets explain.json, explain.html and maps/.
        method: auto, hirescam, layercam, gradcam, gradcam++, occlusion, attention and rollout (transformers), severity.
        target: the class or label to explain; None takes the answer that is given.
        nifti: True writes NIfTI of files that are none, too.
        device: auto, cpu, cuda or cuda:1.
        listen: gets progress events.

    Raises:
        BadData: a path is not there, or no image could be read.
    """
    from medgraft import explaining, places
    from medgraft import opened as opening
    from medgraft.detection.scans.opened import ScanRun

    opened = open_run(run, device=device) if isinstance(run, str | Path) else run
    refs, masks, passed = explaining.listed(paths, volumes=isinstance(opened, ScanRun), listen=listen)
    opening.say_passed(passed, listen)
    words: dict[str, Any] = {"method": method, "target": target, "nifti": nifti, "listen": listen}
    if not isinstance(opened, opening.Run):
        told = places.explain(opened, refs, out=Path(out), **words)
    else:
        told = explaining.explain(opened, refs, out=Path(out), masks=masks, **words)
    if not told["count"] and not told.get("nothing"):
        raise BadData(f"none of the {len(refs)} images could be read ({told['images'][0]['error']})", where=refs[0])
    return told


def inspect(
    run_or_backbone: Data | Run,
    paths: Sequence[Data] | Data = (),
    *,
    out: Data,
    image_size: int = 224,
    offline: bool = False,
    device: str = "auto",
    listen: Listen = _silent,
) -> dict[str, Any]:
    """Show the head's weights and the feature hierarchy, stage by stage; writes inspect.json and inspect.html.

    Args:
        run_or_backbone: a run, shown on its own training and test images, before and after tuning; or a backbone.
        paths: images to show a backbone on; without any, its first filters alone are shown.
        out: the folder.
        image_size: of a backbone's input.
        offline: never open a network connection.
        device: auto, cpu, cuda or cuda:1.
        listen: gets progress events.

    Raises:
        BadData: an image is not there.
        UnknownName, BadWeights, Offline: the backbone cannot be had.
    """
    from medgraft import inspecting
    from medgraft import opened as opening

    if not isinstance(run_or_backbone, str | Path) or Path(run_or_backbone).is_dir():
        opened = _opened(run_or_backbone, device, verb="inspect")
        return inspecting.inspect_run(opened, out=Path(out), offline=offline, listen=listen)
    refs, passed = opening.images_in(paths) if paths else ([], [])
    opening.say_passed(passed, listen)
    words: dict[str, Any] = {"image_size": image_size, "offline": offline, "listen": listen}
    return inspecting.inspect_backbone(str(run_or_backbone), refs, out=Path(out), **words)


def export(run: Data | Run, *, out: Data, format: str = "onnx") -> dict[str, Any]:
    """Write the model for other programs and check that it gives the same numbers there."""
    from medgraft import exporting

    opened = _opened(run, "cpu", verb="export")
    return exporting.export(opened, out=Path(out), format=format)


def backbones(word: str | None = None) -> dict[str, Any]:
    """Get what can be grafted, and the default: {"default": {...}, "backbones": [...]}."""
    from medgraft.nets.listing import default_backbone, list_backbones

    return {"default": default_backbone(), "backbones": list_backbones(word)}


def draw_phantoms(
    kind: str, *, count: int, out: Data, size: int | None = None, seed: int = 0, form: str | None = None
) -> Path:
    """Write a phantom data set with its ground truth and get the path of its table."""
    from medgraft.phantoms import write_set

    return write_set(kind, count=count, out=Path(out), seed=seed, size=size, form=form)


def demo(*, out: Data = "demo", listen: Listen = _silent) -> Report:
    """Do the main job on phantoms: make images, train, evaluate, report."""
    run = Path(out) / "run"
    if (run / "report.json").exists():
        raise BadRecipe("the demo was run here before", where=out, do="Delete this folder, or give another --out.")
    said = f"drawing {_DEMO_IMAGES} phantom fundus photographs: procedural images, no patients; the scores say that the"
    listen({"event": "say", "text": f"{said} software works, and nothing about a clinic"})
    table = draw_phantoms("fundus", count=_DEMO_IMAGES, out=run.parent / "fundus-phantoms", size=128, seed=0)
    return train(table, out=run, resume=(run / "recipe.yaml").exists(), settings=_DEMO_SETTINGS, listen=listen, **_DEMO)


def doctor() -> dict[str, Any]:
    """Get versions, device, formats and codecs, and what is missing: {"facts": {...}, "missing": [...]}."""
    from medgraft import checkup

    return checkup.doctor()


def _recipe(given: Data | Recipe | None, options: Mapping[str, Any], settings: Mapping[str, Any] | None) -> Recipe:
    base = given if isinstance(given, Recipe) else Recipe() if given is None else load(Path(given))  # type: ignore[call-arg]
    return with_options(base, options, settings=settings)
