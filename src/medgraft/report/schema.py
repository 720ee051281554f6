"""What the report page reads: the keys of `report.json`, and what is handed over beside it.

Every key but `task` may be absent or None; what is absent is not shown. Text is
shown as text: it may hold anything, the page escapes it.

A **score** is `{"value", "low", "high", "n", "n_patients", "method", "why"}`. `value` None needs
`why`. `n_patients` may be None. `low`/`high` None: no interval, and `why` may say the reason.
Proportions may also give `"count"`, the numerator (`count` of `n`).

`report` (also what `report.json` holds)::

    medgraft "0.1.0"      task "classify"      created "2026-03-01T12:00:00Z"      seed 0
    title        "fundus"                      headline of the page; else made from data.name
    question     "Diabetic retinopathy, yes or no?"   what was asked, one sentence; else made
    classes      ["no", "yes"]                 positive "yes" or None (multi-class, multi-label)
    phantoms     True                          procedural images: the page is stamped
    intended_use "..."                         None: the card says it is not stated
    warnings     ["one sentence", ...]         shown as boxes; the page adds its own (below)
    alarms       ["title: sentences", ...]     what the page says of shortcuts, and of sets that do not hold
    target       {"name", "unit", "low", "high"}              regression
    data {
      name, layout, licence,                   text
      images      {"train", "val", "test"}     patients  the same, or None
      split_by    "patient" | "image"          split_source "one sentence: given, or made how"
      quarantined n                            leaks_allowed bool
      classes     {class: {"images": {"train": n, ...}, "patients": {...} or None}}
      leaks       [{"kind": "patient" | "exact" | "near", "splits": ["train", "test"],
                    "patient": str or None, "keys": [key, key]}]
      leak_counts {"patient", "exact", "near"} totals when `leaks` is cut short
      duplicates  {"exact_groups", "near_groups"} or {"exact", "near"}, then pairs are counted
      image_size  {"smallest": [h, w], "median": [h, w], "largest": [h, w]}
      facts       [["Modality", "CR"], ...]    further rows of the data table
      notes       ["one sentence", ...]
    }
    quarantine   [{"path", "reason"}]          may be cut short; data.quarantined is the total
    backbone     {"name", "architecture", "source", "licence", "parameters", "sha256",
                  "random": bool, "input": {"size": [h, w], "channels": 3},
                  "pooling": "avg" | "levels" | "pyramid" | "decoder" | "none" (a net with no encoder under it),
                  "recalibrated": images that BatchNorm was measured on anew, or 0}
    evaluated_run "a"                          the page is an evaluation of that run on other data
    depth        {"thawed_stages", "of", "adapters": rank of LoRA or 0, "chosen_by", "reason",
                  "stages": [names of all, from the head down], "trained_parameters",
                  "curve": [{"thawed": 0, "name": "head", "val": score}]}
    augment      {"preset", "reason", "steps": ["rotate by up to 10 degrees", ...]}
    training     {"probe": {"strength", "folds", "images", "views", "loss", "tried": [[strength, loss], ...]},
                  "epochs", "epochs_planned", "best_epoch" (0 = before the first), "stopped": "one sentence",
                  "score": "auroc",
                  "batch_size", "image_size": [h, w], "optimiser", "learning_rate", "weight_decay",
                  "schedule", "loss", "balance": "one sentence", "precision", "ema": decay or None,
                  "label_smoothing", "mixup", "facts": [["label", "value"], ...]}
    scores       {"test": {name: score}, "val": {...}}        names as in score_names.NAMES, others pass
    patient_scores {name: score}               patient_rule "mean of the images' probabilities"
    per_class    {class: {name: score}}        also per label
    operating_point  {"threshold", "chosen_on", "rule", "sensitivity", "specificity", "ppv", "npv": scores,
                  "classes": {label: the four scores}, then "threshold" may be a list, one a label,
                  "prevalence": observed share of positives,
                  "at_prevalence": [{"prevalence", "ppv": score, "npv": score}],
                  "counts": {"tp", "fp", "tn", "fn"}}
    operating_points {label: operating_point}  multi-label, or one against the rest
    calibration  {"temperature": number or list, "fitted_on": "val", "ece_before", "ece_after", "brier_before",
                  "brier_after": scores, "bins": 15}
    certainty    {"coverage": 0.9, "fitted_on": "val", "few_cases": [classes whose limit is that of all],
                  "sets": {"coverage", "size", "single", "single_right": scores, "per_class": {class: score}},
                  "ood": {"share": 0.95, "above": score}, "answered", "right", "right_when_answered": scores}
    enrichment   {"generator": {"run", "task", "inside", "sha256", "shape", "audit", "images"},
                  "ratio": number or "balance", "chosen_by": "the user" | "validation", "why": "one sentence",
                  "real", "synthetic": {class: training images},
                  "tried": [{"ratio", "words", "images": {class: n}, "epochs", "val": {name: score},
                             "difference": {name: score} from real images alone, "highest": upper end of the
                             difference in log-loss for so many ratios, "admitted": bool,
                             "test": {name: score} the same difference on the test part, told afterwards}],
                  "compared": ratio, "compared_words", "epochs_planned", "warnings": ["one sentence", ...],
                  "test": {"with", "without", "difference": {"auroc", "balanced_accuracy", "log_loss": scores}}}
                 synthetic images beside the training images; validation decides, the test part only tells
    severity     {"grid": [rows, columns], "grades": [0, 1, 2, 3] or [] (shares), "score": name of a zone's score,
                  "scores": {"zone_kappa", "zone_spearman", "zone_mae", and of the sum: scores},
                  "zones": [{"name", "cell": [row, column], "score": score}], "matrix": [[...]] true in rows,
                  "intervals": {"coverage", "fitted_on": "val", "reach": {"zone", "sum": half-widths or None},
                  "covered": {"zone", "sum": scores}}}
    drawing      {"tolerance": of the boundary in nsd, "unit": "mm" | "px", "thin": bool: centre lines are scored,
                  "apart": bool: things of one class are told apart, "axes": 2 of planes, 3 of volumes}    label maps
    unlike       {"method", "normal": name of the normal class, "learnt_from": normal images, "left_out": others of the
                  training, "kinds": {label: {"auroc", "sensitivity": scores}}, "places", "kept": of a bank}
    generation   {"shape": ([D,] H, W), "floors": {floor: {"fid_embedded", "kid_embedded": scores}}, "ms_ssim_real",
                  "followed": [{"epoch" (from 1), "step", "fid_embedded", "kid_embedded": scores beside validation
                  images, of fewer images and a shorter way than the test's}],
                  "volume": what its voxels mean, "autoencoder": its training, where latents are drawn,
                  "audit": {"verdict", "reasons", "notes", "near", "called",
                  "features", "pixels": {"share", "membership": scores, "limit"}}}
    denoising    {"methods": {way: {score: score}}, "clean": bool: beside clean images, "n", "settled_on",
                  "strengths": {filter: {"strength", "error"}}, "floor": way,
                  "noise": {fact: {"low", "median", "high"}}}    what noise was found, quartiles of the test images
    confusion    {"classes": [...], "matrix": [[...]]}        rows true, columns predicted
    subgroups    [{"covariate": "site", "group": "A", "n", "n_patients", "scores": {name: score}}]
    timing       {"train_seconds", "train_images_per_second", "predict_images_per_second", "prefix_seconds",
                  "question_seconds": {"learning", "shortcuts", "certainty", "stress"}}
    machine      {name: text or number}
    maps         {"method", "images", "failed"}               maps beside mistakes, and how many fail their checks
    recipe_yaml  text                          recipe_sha256 hex
    command      "medgraft train ..."          how to do it again
    checksums    {"model.safetensors": sha256}
    methods      text                          replaces the paragraph that the page would write
    limits       ["one sentence", ...]         added to those the page finds
    checklist    {"CLAIM 3": "text", "TRIPOD 4": "text"}      answers the authors gave

`curves` (too long for report.json)::

    train        [{"epoch", "loss", "val_loss", "val_score", "learning_rate"}]     epoch 0 = before the first step
    roc          {name: {"x": 1 - specificity, "y": sensitivity, "low", "high"}}      lists of one length
    pr           {name: {"x": recall, "y": precision, "low", "high", "prevalence"}}
                 binary: one entry, named like `positive`; else one a class
    reliability  {"before": [{"p", "observed", "low", "high", "n"}], "after": [...]}  p = mean predicted
    unlike       {class: [score of each test image]}          normal images, and all others
    nearest      {space: {"image": uint8 sheet, "distances"}} drawn images, each left of its nearest training image
    sums         {"true": [...], "predicted": [...]}          severities of images, all of whose zones are known
    maps         [{"key", "true": sum or None, "predicted", "image": uint8, "map": (H, W) in 0..1}]
    drawn        [{"key", "class", "dice", "true_volume", "found_volume"}]   label maps: a row a test image and class;
                 dice is NaN where the class is in neither; sizes are mm2, mm3 or pixels, as `drawing` says
    denoised     uint8 (H, W, 3), images before and after, where noise was taken away
    scatter      {"true": [...], "predicted": [...]}          regression, grades: expected grade

`gallery`: `{"kind": "mistake" | "right", "image": uint8 (H, W), (H, W, 1) or (H, W, 3), "key", "truth",
"predicted", "probability" of what was predicted, "patient", "note"}`, most certain first; a mistake may have a
"map" (H, W) in 0..1 of the image's size, "shows", what its warm places do, and "faults", what is wrong with the map;
of a scan a "stack", `report.slices.Stack`, of which "image" is then one slice. Of label maps "image" is two pictures
side by side (`report.outlines`), the lowest Dice first; "truth" and "predicted" say `a|b` and the Dice of each class.
`augmented`: uint8 arrays as above, up to sixteen, or one ready sheet.

The page itself warns of: phantoms, allowed leaks, splits by image, quarantined files, fewer than
100 test images or 10 of a class, a backbone of random numbers. Do not repeat these in `warnings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAPPINGS = (
    "data",
    "backbone",
    "depth",
    "augment",
    "training",
    "scores",
    "patient_scores",
    "per_class",
    "operating_point",
    "operating_points",
    "calibration",
    "certainty",
    "severity",
    "enrichment",
    "drawing",
    "denoising",
    "confusion",
    "timing",
    "maps",
    "machine",
    "checksums",
    "target",
    "checklist",
)
_LISTS = ("classes", "warnings", "alarms", "quarantine", "subgroups", "limits")


def problems(report: Mapping[str, Any]) -> list[str]:
    """Get one sentence for each key that is not of the described form; empty when all is well."""
    found = [] if report.get("task") else ["'task' is missing"]
    found += [f"{name!r} must be a mapping" for name in _MAPPINGS if not isinstance(report.get(name) or {}, Mapping)]
    found += [f"{name!r} must be a list" for name in _LISTS if not isinstance(report.get(name) or [], list | tuple)]
    if not found:
        for path, score in scores_of(report):
            found += _score_problems(path, score)
    return found


def is_score(value: object) -> bool:
    """Say whether a value looks like a score: a mapping with `value`."""
    return isinstance(value, Mapping) and "value" in value


def scores_of(values: object, path: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """Get every score inside nested values as (path, score), in their order."""
    if isinstance(values, Mapping):
        if is_score(values):
            return [(path, values)]
        return [pair for name, inner in values.items() for pair in scores_of(inner, f"{path}.{name}".lstrip("."))]
    if isinstance(values, list | tuple):
        return [pair for index, inner in enumerate(values) for pair in scores_of(inner, f"{path}[{index}]")]
    return []


def _score_problems(path: str, score: Mapping[str, Any]) -> list[str]:
    value = score["value"]
    if value is None:
        return [] if score.get("why") else [f"{path} is null and does not say why"]
    found = []
    for name in ("value", "low", "high"):
        if not isinstance(score.get(name), int | float | None):
            found.append(f"{path}.{name} must be a number")
    low, high = score.get("low"), score.get("high")
    if not found and low is not None and high is not None and low > high:
        found.append(f"{path} has an interval that is upside down")
    return found
