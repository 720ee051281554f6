"""What the numbers say, in plain words: the verdict, the warnings, the key figures, the limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medgraft.report import denoised, drawn, found, generated, outlined, unlike
from medgraft.report.phrases import (
    count,
    decimal,
    duration,
    has_interval,
    interval,
    listed,
    percent,
    sentence,
    share_with_interval,
    tuned_words,
    value_of,
    whole,
    with_interval,
)
from medgraft.report.score_names import named

Report = Mapping[str, Any]

_ORDER = ("quadratic_kappa", "mae", "auroc", "balanced_accuracy", "accuracy", "map50", "froc", "map", "dice")
_ORDER = (*_ORDER, "iou_box", "psnr")
_FEW_IMAGES, _FEW_OF_A_CLASS = 100, 10


def of(report: Report, *names: str) -> Any:
    """Get a nested value, or an empty mapping where anything on the way is absent."""
    value: Any = report
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            return {}
    return value


def primary(report: Report) -> str | None:
    """Get the name of the score that the verdict is about."""
    test = of(report, "scores", "test")
    order = _ORDER if report.get("task") in ("grade", "regress") else (*_ORDER[2:], *_ORDER[:2])
    if "map10" in test:  # boxes in volumes: a box of a few voxels hardly fits, and where it is counts
        order = ("froc", *order)
    if drawn.is_drawn(report):
        order = ("ap50", *order)
    known = [name for name in order if name in test] or list(test)
    return next((name for name in known if value_of(test[name]) is not None), known[0] if known else None)


def test_size(report: Report) -> str:
    """Get "215 test images of 134 patients"."""
    images, patients = (of(report, "data", kind).get("test") for kind in ("images", "patients"))
    if not images:
        return "the test images"
    words = count(images, "test image")
    return f"{words} of {count(patients, 'patient')}" if patients else words


def verdict(report: Report) -> list[str]:
    """Get the sentences that a reader should take away, the main one first."""
    name = primary(report)
    if name is None:
        return [f"The model was trained; it was not scored on a test set. Task: {report.get('task')}."]
    score = of(report, "scores", "test")[name]
    if found.is_found(report):
        return [_main(report, name, score), *found.words(report)]
    if drawn.is_drawn(report):
        return [_main(report, name, score), *drawn.words(report)]
    if outlined.is_outlined(report):
        return [_main(report, name, score), *outlined.words(report)]
    if generated.is_generated(report):
        return [_main(report, name, score), *generated.words(report)]
    if unlike.is_unlike(report):
        return [_main(report, name, score), *_chance(name, score), *_found(report), *unlike.words(report)]
    if denoised.is_denoised(report):
        return [_main(report, name, score), *denoised.words(report)]
    return [_main(report, name, score), *_chance(name, score), *_found(report), *_error(report, name)]


def _main(report: Report, name: str, score: Mapping[str, Any]) -> str:
    title = named(name).spoken
    where = f"On {test_size(report)} the model"
    if value_of(score) is None:
        return f"{where} could not be given a score: {title} is {with_interval(score)}."
    number = with_interval(score)
    classes, positive = list(report.get("classes") or ()), report.get("positive")
    if name == "mae":
        return f"{where} estimated {_target(report)} with a mean absolute error of {number}{_unit(report)}."
    title = f"mean {title}" if len(report.get("classes") or ()) > 2 and name in ("auroc", "auprc") else title
    article = "an" if title[0] in "AEIOaeio" or title[:2] == "mA" else "a"
    if drawn.is_drawn(report):
        return f"{where} {drawn.main(report, title, number=number)}"
    if outlined.is_outlined(report):
        return f"{where} {outlined.main(report, number=number)}"
    if generated.is_generated(report):
        return f"{where.replace('On', 'Compared with', 1)} {generated.main(report, number=number)}"
    if denoised.is_denoised(report):
        return f"{where} {denoised.main(name, number=number)}"
    if found.is_found(report):
        return f"{where} found {listed([f'“{one}”' for one in classes])} with {article} {title} of {number}."
    if report.get("task") == "multilabel":
        return f"{where} named {count(len(classes), 'label')} with {article} {title} of {number}."
    if report.get("task") == "grade" or name == "quadratic_kappa":
        return f"{where} agreed with the given grades with {article} {title} of {number}."
    if positive is not None and len(classes) == 2:
        other = next((c for c in classes if c != positive), "the rest")
        return f"{where} told “{positive}” from “{other}” with {article} {title} of {number}."
    if len(classes) > 1:
        return f"{where} told {count(len(classes), 'class', 'classes')} apart with {article} {title} of {number}."
    return f"{where} reached {article} {title} of {number}."


def _target(report: Report) -> str:
    return str(of(report, "target").get("name") or "the value")


def _unit(report: Report) -> str:
    unit = of(report, "target").get("unit")
    return f" {unit}" if unit else ""


def _chance(name: str, score: Mapping[str, Any]) -> list[str]:
    chance = named(name).chance
    if chance is None or not has_interval(score) or score["low"] > chance:
        return []
    if score["high"] < chance:
        return [f"This is worse than chance ({chance:g}): look for swapped labels or a wrong split."]
    return [f"The interval includes {chance:g}, what chance alone reaches: on these images nothing is proven."]


def _found(report: Report) -> list[str]:
    point = of(report, "operating_point")
    found, cleared = point.get("sensitivity"), point.get("specificity")
    if value_of(found) is None or value_of(cleared) is None:
        return []
    chosen = {"val": "chosen on validation images", "test": "chosen on the test images"}.get(
        str(point.get("chosen_on")), "chosen before"
    )
    if point.get("why"):
        chosen = decimal(point.get("threshold"), 2)
    return [
        f"At the threshold {chosen} it found {share_with_interval(found)} of the “{report.get('positive')}” "
        f"images and cleared {share_with_interval(cleared)} of the others."
    ]


def _error(report: Report, name: str) -> list[str]:
    score = of(report, "calibration", "ece_after")
    if value_of(score) is None or name == "mae":
        return []
    return [f"Its probabilities are off by {with_interval(score)} on average (expected calibration error)."]


def warnings(report: Report) -> list[dict[str, str]]:
    """Get {"level": "stop" | "note", "title", "text"} for each thing a reader must know before the numbers."""
    found = [*_split_warnings(report), *_small(report)]
    quarantined = of(report, "data").get("quarantined") or len(report.get("quarantine") or ())
    if quarantined:
        text = (
            f"{count(quarantined, 'file')} could not be used and took no part; the reasons are under “Data and split”."
        )
        found.append({"level": "note", "title": "Files set aside", "text": text})
    own = generated.is_generated(report) or denoised.is_denoised(report)
    own = own or report.get("unlike", {}).get("method") in ("diffusion", "autoencoder")
    if of(report, "backbone").get("random") and not own:
        net = "net" if drawn.is_whole(report) else "encoder"
        text = f"The {net} started from random numbers: this run shows what training reaches without a pre-trained net."
        found.append({"level": "note", "title": "Not pre-trained", "text": text})
    found += [{"level": "note", "title": "Note", "text": sentence(words)} for words in report.get("warnings") or ()]
    return found


def _split_warnings(report: Report) -> list[dict[str, str]]:
    data, found = of(report, "data"), []
    if data.get("leaks_allowed"):
        counts = data.get("leak_counts") or {}
        named_leaks = [f"{count(n, _LEAKS[kind])}" for kind, n in counts.items() if n and kind in _LEAKS]
        what = f" ({listed(named_leaks)})" if named_leaks else ""
        text = f"The splits share patients or images{what}, and the user allowed it. The scores below are too good."
        found.append({"level": "stop", "title": "Leaks were allowed", "text": text})
    if data.get("split_by") == "image" and report.get("evaluated_run"):
        text = "No patient is known for these images: the intervals treat each image as if it were of another patient."
        found.append({"level": "note", "title": "Patients not known", "text": text})
    elif data.get("split_by") == "image":
        text = (
            "No patient is known for these images, so one patient may be in training and in test; near-duplicates were "
            "kept together. Every score is “split by image” and may be too good for new patients."
        )
        found.append({"level": "stop", "title": "Split by image", "text": text})
    return found


_LEAKS = {"patient": "shared patient", "exact": "identical pair", "near": "near-identical pair"}


def _small(report: Report) -> list[dict[str, str]]:
    images = of(report, "data", "images").get("test")
    counts = {name: of(one, "images").get("test") for name, one in of(report, "data", "classes").items()}
    if drawn.is_drawn(report) or outlined.is_outlined(report):  # images in which nothing is drawn are no class
        counts = {name: number for name, number in counts.items() if name in (report.get("classes") or ())}
    few = [f"{whole(n)} of “{name}”" for name, n in counts.items() if n is not None and n < _FEW_OF_A_CLASS]
    if few:
        more = f" and {len(few) - 6} more" if len(few) > 6 else ""
        text = f"Few test images: {listed(few[:6])}{more}. The intervals are wide for a reason: look at them first."
        return [{"level": "note", "title": "Small test set", "text": text}]
    if images is not None and images < _FEW_IMAGES:
        text = f"Only {count(images, 'test image')}. The intervals are wide for a reason: look at them first."
        return [{"level": "note", "title": "Small test set", "text": text}]
    return []


_BESIDE = {  # what stands beside the main score at the top of the page
    "map50": ("f1", "froc"),
    "auroc": ("auprc", "balanced_accuracy", "f1"),
    "ap50": ("aji", "pq"),
    "dice": ("nsd", "hd95_mm", "hd95_px"),
    "iou_box": ("iou_point",),
    "fid_embedded": ("precision", "recall"),
    "psnr": ("ssim", "blind_error"),
}


def key_figures(report: Report) -> list[dict[str, str]]:
    """Get up to six {"label", "value", "detail"} for the top of the page."""
    test, name = of(report, "scores", "test"), primary(report)
    figures = []
    chosen = [name, *_BESIDE.get(str(name), ("rmse", "within_one", "r2", "accuracy"))]
    point = of(report, "operating_point")
    if name == "auroc" and value_of(point.get("sensitivity")) is not None:
        pairs = [(name, test[name]), ("sensitivity", point["sensitivity"]), ("specificity", point.get("specificity"))]
    else:
        pairs = [(n, test[n]) for n in chosen if n and n in test][:3]
    for label, score in pairs:
        if value_of(score) is not None:
            ends = interval(score)
            detail = f"95\u00a0%\u00a0CI {ends}" if ends else "no interval"
            figures.append({"label": named(label).title, "value": decimal(value_of(score)), "detail": detail})
    return figures + _sizes(report)


def _sizes(report: Report) -> list[dict[str, str]]:
    figures = []
    images, patients = of(report, "data", "images"), of(report, "data", "patients")
    if images:
        detail = f"{whole(sum(v or 0 for v in patients.values()))} patients" if patients else "patients not known"
        figures.append({"label": "Images", "value": whole(sum(v or 0 for v in images.values())), "detail": detail})
    depth = of(report, "depth")
    if depth.get("thawed_stages") is not None and depth.get("of") is not None:
        thawed, alone = depth["thawed_stages"], drawn.is_whole(report)
        value = (
            "whole net"
            if alone
            else "head only"
            if not thawed
            else "adapters"
            if depth.get("adapters")
            else f"{thawed} of {depth['of']}"
        )
        detail = tuned_words(depth) if depth.get("adapters") else "stages thawed" if thawed else "all stages frozen"
        detail = "no encoder under it" if alone else detail
        figures.append({"label": "Depth", "value": value, "detail": detail})
    seconds = of(report, "timing").get("train_seconds")
    if seconds is not None:
        rate = of(report, "timing").get("train_images_per_second")
        detail = f"{decimal(rate, 1)} images a second" if rate else "in all"
        figures.append({"label": "Training", "value": duration(seconds), "detail": detail})
    return figures


def limits(report: Report) -> list[str]:
    """Get what the numbers do not show, as sentences."""
    data, found = of(report, "data"), []
    if report.get("phantoms"):
        found.append("The images are procedural phantoms. Nothing here says how the model does on patients.")
    if data.get("leaks_allowed"):
        found.append("The splits share patients or images; the scores are too good by an unknown amount.")
    if data.get("split_by") == "image":
        known = "The split is by image, as patients are not known; scores on new patients may be lower."
        alone = "Patients are not known; the intervals may be too narrow."
        found.append(alone if report.get("evaluated_run") else known)
    if not report.get("evaluated_run"):
        found.append(
            "Test images come from the same source as the training images. Other scanners, sites and populations were "
            "not tested; an external test set is the next step."
        )
    prevalence = of(report, "operating_point").get("prevalence")
    if prevalence is not None:
        found.append(
            f"Predictive values hold for the share of positives they are given for (here {percent(prevalence)}), "
            "which is seldom that of a clinic."
        )
    if denoised.is_denoised(report):
        found.append("What looks sharper need not be truer: a finding of a few pixels may be taken for noise.")
        return found + [str(words) for words in report.get("limits") or ()]
    taken = "label maps" if drawn.is_drawn(report) or outlined.is_outlined(report) else "labels"
    if generated.is_generated(report):
        found.append("Drawn images are of no patient; what they show need not be possible. They are no evidence.")
        return found + [str(words) for words in report.get("limits") or ()]
    found.append(f"The {taken} were taken as given; their errors and the disagreement of readers were not measured.")
    few = [s for s in report.get("subgroups") or () if (s.get("n") or 0) < 30]
    if few:
        have = "has" if len(few) == 1 else "have"
        found.append(f"{count(len(few), 'subgroup')} {have} fewer than 30 images: too few to compare.")
    if not report.get("subgroups"):
        found.append("No subgroups were given, so fairness between sites, sexes or ages was not looked at.")
    found.append(
        "One run with one seed: another seed would move the scores within, and at times beyond, these intervals."
    )
    return found + [str(words) for words in report.get("limits") or ()]


def in_counts(report: Report) -> list[str]:
    """Get what a two-class confusion matrix says, in counts of images."""
    confusion, positive = of(report, "confusion"), report.get("positive")
    classes = list(confusion.get("classes") or ())
    if positive not in classes or len(classes) != 2:
        return []
    hit = classes.index(positive)
    miss, other = 1 - hit, classes[1 - hit]
    matrix = confusion["matrix"]
    ill, well = sum(matrix[hit]), sum(matrix[miss])
    called = matrix[hit][hit] + matrix[miss][hit]
    alarms = count(matrix[miss][hit], "was a false alarm", "were false alarms")
    return [
        f"Of {count(ill, 'image')} of “{positive}”, {whole(matrix[hit][hit])} were found and "
        f"{whole(matrix[hit][miss])} missed.",
        f"Of {count(well, 'image')} of “{other}”, {whole(matrix[miss][miss])} were cleared and {alarms}.",
        f"Of {count(called, 'answer')} “{positive}”, {whole(matrix[hit][hit])} were right.",
    ]
