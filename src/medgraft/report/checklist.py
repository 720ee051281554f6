"""CLAIM 2024 and TRIPOD+AI: the items that a run can answer by itself, and those left for the authors.

Topics are given in our own words with the items' numbers.

Source: Tejani et al., Radiol Artif Intell 2024;6:e240300 (CLAIM 2024, 44 items);
Collins et al., BMJ 2024;385:e078378 (TRIPOD+AI, 27 items).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from medgraft.report import drawn
from medgraft.report.choices import threshold_words
from medgraft.report.phrases import count, listed, sentence, task_words, tuned_words, whole
from medgraft.report.score_names import named
from medgraft.report.verdict import of

Report = Mapping[str, Any]

CLAIM = (
    "Title names the kind of AI",
    "Structured abstract",
    "Background, intended use and role",
    "Aims and hypotheses",
    "Prospective or retrospective",
    "Goal of the study",
    "Data sources",
    "Inclusion and exclusion",
    "Pre-processing",
    "Selection of data subsets",
    "De-identification",
    "Missing data",
    "Image acquisition",
    "Definition of the reference standard",
    "Why this reference standard",
    "Who annotated",
    "Annotation of the test set",
    "Variability between and within readers",
    "How partitions were assigned",
    "Level at which partitions are disjoint",
    "Sample size",
    "The model",
    "Software",
    "Initial weights",
    "Training",
    "How the final model was selected",
    "Ensembling",
    "Performance metrics",
    "Uncertainty",
    "Robustness",
    "Explainability",
    "Internal test",
    "External test",
    "Trial registration",
    "Cases included and excluded",
    "Demographics of each partition",
    "Performance with uncertainty",
    "Diagnostic performance with precision",
    "Failure analysis",
    "Limitations",
    "Implications for practice",
    "Protocol",
    "Availability of software, model, data",
    "Funding",
)
TRIPOD = {
    "1": "Title",
    "2": "Abstract",
    "3": "Background, target population, inequalities",
    "4": "Objectives",
    "5": "Data sources and dates",
    "6": "Setting, eligibility, treatments",
    "7": "Data preparation",
    "8": "Outcome and its assessment",
    "9": "Predictors",
    "10": "Sample size",
    "11": "Missing data",
    "12": "Analysis: partitions, model, measures",
    "13": "Class imbalance",
    "14": "Fairness",
    "15": "Model output and thresholds",
    "16": "Differences between training and evaluation",
    "17": "Ethics",
    "18": "Funding, protocol, registration, data and code",
    "19": "Patient and public involvement",
    "20": "Participants",
    "21": "Sizes of the analyses",
    "22": "Full specification of the model",
    "23": "Performance with intervals, also in subgroups",
    "24": "Updating of the model",
    "25": "Interpretation",
    "26": "Limitations",
    "27": "Usability in care and next steps",
}


def checklist(report: Report) -> dict[str, list[dict[str, str]]]:
    """Get {"filled": [{"item", "topic", "answer"}], "open": [{"item", "topic"}]}."""
    found: dict[str, str] = {}
    for items, answer in _answers(report):
        if answer:
            found.update({item: f"{found[item]} {answer}" if item in found else answer for item in items.split(", ")})
    found.update({str(item): str(words) for item, words in of(report, "checklist").items() if words})
    topics = {f"CLAIM {n}": topic for n, topic in enumerate(CLAIM, 1)} | {f"TRIPOD {n}": t for n, t in TRIPOD.items()}
    filled = [{"item": i, "topic": t, "answer": found[i]} for i, t in topics.items() if i in found]
    return {"filled": filled, "open": [{"item": i, "topic": t} for i, t in topics.items() if i not in found]}


def _answers(report: Report) -> list[tuple[str, str]]:
    """Pairs of the items' names and what this run says to them; an empty answer leaves the item open."""
    parts: dict[str, Callable[[Report], str]] = {
        "CLAIM 1": _kind,
        "CLAIM 9, TRIPOD 7": _preparation,
        "CLAIM 12, TRIPOD 11": _missing,
        "CLAIM 19, CLAIM 20, TRIPOD 12": _partition,
        "CLAIM 22, CLAIM 24, TRIPOD 22": _model,
        "CLAIM 23": _software,
        "CLAIM 25": _training,
        "CLAIM 26": _selection,
        "CLAIM 28, CLAIM 29": _measures,
        "CLAIM 30": _robustness,
        "CLAIM 33" if report.get("evaluated_run") else "CLAIM 32": _internal,
        "CLAIM 35, TRIPOD 20, TRIPOD 21": _cases,
        "CLAIM 37, CLAIM 38": _performance,
        "CLAIM 39": _failures,
        "CLAIM 43": _again,
        "TRIPOD 13": _imbalance,
        "TRIPOD 14, TRIPOD 23": _fairness,
        "TRIPOD 15": _output,
    }
    answers = [(items, part(report)) for items, part in parts.items()]
    return [
        *answers,
        ("CLAIM 27", "One model; no ensemble."),
        ("CLAIM 40, TRIPOD 26", "See “Limits”, to be completed."),
    ]


def _kind(report: Report) -> str:
    made = "" if drawn.is_whole(report) else "fine-tuned "
    return f"Deep learning; {made}{drawn.encoder(report)} for {task_words(report.get('task'))}."


def _preparation(report: Report) -> str:
    size = of(report, "backbone", "input").get("size")
    if drawn.is_drawn(report):
        return "Brought to one resolution and normalised as the encoder’s weights ask; see the recipe."
    return (
        f"Resized to {size[0]} × {size[1]} pixels and normalised as the encoder’s weights ask; see the recipe."
        if size
        else ""
    )


def _missing(report: Report) -> str:
    data = of(report, "data")
    if "quarantined" not in data:
        return ""
    n = data.get("quarantined") or 0
    return (
        f"{count(n, 'unreadable file')} left out, listed with the reason."
        if n
        else "No file was unreadable; none was left out."
    )


def _partition(report: Report) -> str:
    by = of(report, "data").get("split_by")
    source = of(report, "data").get("split_source") or ""
    apart = "Disjoint" if not of(report, "data").get("leaks_allowed") else "Not disjoint, as the user allowed; split"
    return f"{apart} by {by}. {sentence(source)}".strip() if by else ""


def _model(report: Report) -> str:
    backbone, depth = of(report, "backbone"), of(report, "depth")
    if not backbone:
        return ""
    start = "random numbers" if backbone.get("random") else str(backbone.get("source") or "its source")
    size = f", {whole(backbone['parameters'])} parameters" if backbone.get("parameters") else ""
    tuned = depth.get("thawed_stages") is not None and not drawn.is_whole(report)
    thawed = f"; {tuned_words(depth)}" if tuned else ""
    return f"{drawn.encoder(report)}{size}, from {start}{thawed}. Weights and recipe are in the run folder."


def _software(report: Report) -> str:
    machine = of(report, "machine")
    known = [f"{name} {machine[name]}" for name in ("python", "torch", "timm") if machine.get(name)]
    return listed([f"medgraft {report.get('medgraft') or ''}".strip(), *known]) + "."


def _training(report: Report) -> str:
    return "See “How it was trained”." if report.get("training") else ""


def _selection(report: Report) -> str:
    training = of(report, "training")
    if training.get("best_epoch") is None:
        return ""
    if training.get("epochs") == 0:
        return "The head is the optimum of its penalised loss; no epoch was chosen. The test set had no part in it."
    score = named(training["score"]).title if training.get("score") else "validation score"
    if training["best_epoch"] == 0:
        begun = "the weights of the probe" if training.get("probe") else "the weights before the first"
        return f"No epoch had a better validation {score} than {begun}, so they stayed. The test set had no part in it."
    return f"Epoch with the best validation {score}: {training['best_epoch']}. The test set had no part in it."


def _measures(report: Report) -> str:
    test = of(report, "scores", "test")
    words = listed([named(n).spoken for n in test])
    return f"{words[:1].upper()}{words[1:]}, each with a 95 % interval." if test else ""


def _robustness(report: Report) -> str:
    groups = sorted({str(s.get("covariate")) for s in report.get("subgroups") or ()})
    return f"Scores by {listed(groups)}." if groups else ""


def _internal(report: Report) -> str:
    test = of(report, "data", "images").get("test")
    where = "Other data than the model was trained on" if report.get("evaluated_run") else "Held out of the same source"
    return f"{where}: {count(test, 'image')}." if test else ""


def _cases(report: Report) -> str:
    images, patients = of(report, "data", "images"), of(report, "data", "patients")
    if not images:
        return ""
    parts = {"train": "training", "val": "validation", "test": "test"}
    people = (
        f", {listed([f'{whole(n)} {parts.get(s, s)}' for s, n in patients.items() if n is not None])} patients"
        if patients
        else ""
    )
    return f"{listed([f'{whole(n)} {parts.get(s, s)}' for s, n in images.items() if n is not None])} images{people}."


def _performance(report: Report) -> str:
    return "See “Scores”." if of(report, "scores", "test") else ""


def _failures(report: Report) -> str:
    what = "images with the lowest Dice are shown" if drawn.is_drawn(report) else ""
    what = what or "most certain mistakes are shown with their images"
    return f"The {what}." if report.get("_gallery") else ""


def _again(report: Report) -> str:
    return (
        "Recipe, seed, split and checksums are in the run folder; the command is given below."
        if report.get("command")
        else ""
    )


def _imbalance(report: Report) -> str:
    return str(of(report, "training").get("balance") or "")


def _fairness(report: Report) -> str:
    return "See “Subgroups”." if report.get("subgroups") else ""


def _output(report: Report) -> str:
    point = of(report, "operating_point")
    if drawn.is_drawn(report):
        return "A label map on the grid of each file: every pixel or voxel has its most probable class."
    if not isinstance(point.get("threshold"), int | float):
        return ""
    return f"Probability; threshold {point['threshold']:.3f}, {threshold_words(point)}."
