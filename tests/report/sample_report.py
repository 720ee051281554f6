"""Reports as a run would write them: plausible numbers from small made-up predictions, with a fixed seed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sample_curves import bins, fundus, log, pictures, pr_curve, predictions, roc_curve

from medgraft import seeds

__all__ = ["fundus", "pictures"]

RECIPE = """task: classify
data:
  path: fundus_phantoms
  patient_column: patient
backbone: embedded:vein
depth: auto
seed: 0
train:
  epochs: 30
  batch_size: 32
  learning_rate: 0.001
augment: fundus
"""


def score(
    value: float | None, width: float = 0.05, *, n: int = 215, n_patients: int | None = 134, **more: Any
) -> dict[str, Any]:
    """Get a score with an interval of about `width` each side."""
    if value is None:
        return {"value": None, "low": None, "high": None, "n": n, "n_patients": n_patients, "method": "none", **more}
    low, high = max(0.0, value - width), min(1.0, value + width * 0.8) if value <= 1 else value + width
    return {
        "value": value,
        "low": low,
        "high": high,
        "n": n,
        "n_patients": n_patients,
        "method": "patient bootstrap, 2000 draws",
        **more,
    }


def binary() -> tuple[dict[str, Any], dict[str, Any]]:
    """Get (report, curves) of a two-class run."""
    truth, p = predictions(215, 80, 1.9)
    report = {
        "medgraft": "0.1.0",
        "task": "classify",
        "created": "2026-03-01T12:00:00Z",
        "seed": 0,
        "title": "Diabetic retinopathy on fundus photographs",
        "question": "Does a fundus photograph show diabetic retinopathy?",
        "classes": ["no", "yes"],
        "positive": "yes",
        "phantoms": True,
        "warnings": ["The labels of 3 images differ between the two rows that name them; the first row was taken."],
        **_data(),
        **_model(),
        "scores": {
            "test": {
                "auroc": {**score(0.912, 0.043), "method": "DeLong, patient-clustered bootstrap"},
                "auprc": score(0.874, 0.07),
                "balanced_accuracy": score(0.851, 0.05),
                "mcc": score(0.69, 0.09),
                "f1": score(0.81, 0.06),
                "brier": score(0.113, 0.02),
                "ece": score(0.041, 0.02),
            },
            "val": {"auroc": score(0.934, 0.05, n=108, n_patients=67)},
        },
        "patient_scores": {"auroc": score(0.931, 0.045, n=134)},
        "patient_rule": "mean of the images’ probabilities",
        "operating_point": _point(),
        "calibration": {
            "temperature": 1.62,
            "fitted_on": "val",
            "bins": 10,
            "ece_before": score(0.118, 0.03),
            "ece_after": score(0.041, 0.02),
            "brier_before": score(0.131, 0.02),
            "brier_after": score(0.113, 0.02),
        },
        "confusion": {"classes": ["no", "yes"], "matrix": [[113, 22], [10, 70]]},
        "subgroups": _subgroups(),
        **_again(),
    }
    curves = {
        "train": log(24),
        "roc": {"yes": roc_curve(truth, p)},
        "pr": {"yes": pr_curve(truth, p)},
        "reliability": {"before": bins(truth, np.clip((p - 0.5) * 1.5 + 0.5, 0.01, 0.99)), "after": bins(truth, p)},
    }
    return report, curves


def multiclass(count: int = 7, *, names: list[str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Get (report, curves) of a run with `count` classes."""
    names = names or [f"class {chr(65 + i)}" for i in range(count)]
    report, curves = copy.deepcopy(binary())
    random = seeds.generator(0, "sample report", 0, count)
    matrix = [
        [int(random.integers(0, 6)) if r != c else int(random.integers(20, 60)) for c in range(count)]
        for r in range(count)
    ]
    report.update(title="Skin lesions", question=None, classes=names, positive=None, phantoms=False)
    report["confusion"] = {"classes": names, "matrix": matrix}
    sizes = [sum(row) for row in matrix]
    report["data"]["classes"] = {
        name: {"images": {"train": 4 * n, "val": n // 2, "test": n}, "patients": None}
        for name, n in zip(names, sizes, strict=True)
    }
    report["data"]["images"] = {"train": 4 * sum(sizes), "val": sum(n // 2 for n in sizes), "test": sum(sizes)}
    report["per_class"] = {
        name: {"auroc": score(0.8 + 0.18 * random.random(), 0.03), "auprc": score(0.6 + 0.3 * random.random(), 0.06)}
        for name in names
    }
    report["scores"]["test"] = {
        "auroc": score(0.903, 0.02),
        "balanced_accuracy": score(0.742, 0.04),
        "accuracy": score(0.781, 0.03),
    }
    for name in ("operating_point", "subgroups"):
        report.pop(name)
    curves["roc"], curves["pr"] = {}, {}
    for place, name in enumerate(names):
        truth, p = predictions(215, 40 + place, 1.2 + 0.2 * place)
        curves["roc"][name], curves["pr"][name] = roc_curve(truth, p), pr_curve(truth, p)
    return report, curves


def regression() -> tuple[dict[str, Any], dict[str, Any]]:
    """Get (report, curves) of a regression."""
    report, curves = copy.deepcopy(binary())
    random = seeds.generator(0, "sample report", 0, "regression")
    true = random.uniform(2, 18, 215)
    report.update(task="regress", classes=[], positive=None, title="Bone age", question=None, phantoms=False)
    report["target"] = {"name": "bone age", "unit": "years", "low": 2.0, "high": 18.0}
    report["data"].pop("classes")
    report["scores"]["test"] = {
        "mae": {**score(0.82), "low": 0.74, "high": 0.9},
        "rmse": {**score(1.05), "low": 0.95, "high": 1.16},
        "r2": score(0.94, 0.02),
    }
    for name in ("operating_point", "calibration", "confusion", "subgroups", "patient_scores"):
        report.pop(name)
    return report, {
        "train": curves["train"],
        "scatter": {"true": true.tolist(), "predicted": (true + random.normal(0.1, 1.0, 215)).tolist()},
    }


def multilabel() -> tuple[dict[str, Any], dict[str, Any]]:
    """Get (report, curves) of a run with several labels an image."""
    report, curves = multiclass(4, names=["nodule", "effusion", "mass", "edema"])
    report.update(task="multilabel", title="Chest findings")
    report["data"]["images"] = {"train": 752, "val": 108, "test": 215}
    report.pop("confusion")
    report["calibration"]["temperature"] = [1.1, 0.9, 1.4, 1.0]
    four = {name: score(0.8, 0.1) for name in ("sensitivity", "specificity", "ppv", "npv")}
    labels = {name: dict(four) for name in report["classes"]}
    labels["mass"]["ppv"] = score(None, why="no image was called mass")
    report["operating_point"] = {
        "threshold": [0.4, 0.3, 0.52, 0.1],
        "chosen_on": "val",
        "rule": "youden",
        "classes": labels,
    }
    curves.pop("reliability")
    return report, curves


def graded() -> tuple[dict[str, Any], dict[str, Any]]:
    """Get (report, curves) of an ordinal run."""
    report, curves = multiclass(5, names=["0", "1", "2", "3", "4"])
    report.update(task="grade", title="Retinopathy grade")
    report["scores"]["test"] = {
        "quadratic_kappa": score(0.81, 0.05),
        "mae": score(0.42, 0.06),
        "auroc_cuts": score(0.93, 0.02),
        "accuracy": score(0.66, 0.06),
    }
    return report, curves


def evaluation() -> tuple[dict[str, Any], dict[str, Any]]:
    """Get (report, curves) of a run scored on other data."""
    report, curves = copy.deepcopy(binary())
    for name in ("training", "recipe_yaml", "command", "timing"):
        report.pop(name)
    report.update(title="Evaluation on another hospital", evaluated_run="a", phantoms=False)
    report["data"].update(images={"test": 215}, patients=None, split_by="image", split_source="all of it is test data")
    report["data"]["classes"] = {"no": {"images": {"test": 135}}, "yes": {"images": {"test": 80}}}
    curves.pop("train")
    return report, curves


def _data() -> dict[str, Any]:
    return {
        "data": {
            "name": "fundus_phantoms",
            "layout": "table (labels.csv)",
            "licence": "Apache-2.0",
            "images": {"train": 752, "val": 108, "test": 215},
            "patients": {"train": 470, "val": 67, "test": 134},
            "split_by": "patient",
            "split_source": "No split was given: 70 % of patients train, 10 % validate, 20 % test, by class.",
            "quarantined": 3,
            "leaks_allowed": False,
            "classes": {
                "no": {
                    "images": {"train": 470, "val": 68, "test": 135},
                    "patients": {"train": 300, "val": 42, "test": 84},
                },
                "yes": {
                    "images": {"train": 282, "val": 40, "test": 80},
                    "patients": {"train": 170, "val": 25, "test": 50},
                },
            },
            "leaks": [],
            "duplicates": {"exact_groups": 2, "near_groups": 5},
            "image_size": {"smallest": [480, 480], "median": [512, 512], "largest": [768, 768]},
            "facts": [["Channels", "3 (colour), 8 bit"], ["Covariates", "site, sex, age band"]],
        },
        "quarantine": [
            {"path": "images/P017_left.png", "reason": "the file ends after 812 of 20 144 bytes"},
            {"path": "images/P101_right.png", "reason": "no image: a web page saved under this name"},
            {"path": "images/P333_left.tif", "reason": "4 pages; name the page with #0 to #3"},
        ],
    }


def _model() -> dict[str, Any]:
    return {
        "backbone": {
            "name": "file:resnet18.safetensors",
            "architecture": "timm:resnet18",
            "source": "ImageNet-1k, timm resnet18.a1_in1k",
            "licence": "Apache-2.0",
            "parameters": 11_176_512,
            "sha256": "9f" * 32,
            "random": False,
            "input": {"size": [224, 224], "channels": 3},
        },
        "depth": {
            "thawed_stages": 2,
            "of": 5,
            "chosen_by": "rule",
            "reason": "470 training patients justify two stages: more would learn single patients.",
            "stages": ["stage 4", "stage 3", "stage 2", "stage 1", "stem"],
            "trained_parameters": 10_494_466,
            "curve": [],
        },
        "augment": {
            "preset": "fundus",
            "reason": "Colour photographs with a dark surround. Left and right eyes mirror each other.",
            "steps": [
                "flip left-right",
                "rotate by up to 15 degrees",
                "scale by 0.9 to 1.1",
                "brightness and contrast by 15 %",
            ],
        },
        "training": {
            "epochs": 24,
            "epochs_planned": 30,
            "best_epoch": 16,
            "stopped": "stopped early, no better for 8 epochs",
            "score": "auroc",
            "batch_size": 32,
            "image_size": [224, 224],
            "optimiser": "AdamW",
            "learning_rate": 0.001,
            "weight_decay": 0.05,
            "schedule": "one epoch of warm-up, then cosine",
            "loss": "cross-entropy",
            "balance": "samples drawn so that both classes weigh the same",
            "precision": "bfloat16 where it was faster",
            "ema": 0.99,
            "label_smoothing": 0.05,
        },
    }


def _point() -> dict[str, Any]:
    wilson = {"method": "patient bootstrap, 2000 draws"}
    return {
        "threshold": 0.437,
        "chosen_on": "val",
        "rule": "Youden’s index",
        "sensitivity": {**score(0.875, 0.08, n=80, n_patients=50), **wilson, "count": 70},
        "specificity": {**score(0.837, 0.07, n=135, n_patients=84), **wilson, "count": 113},
        "ppv": {**score(0.761, 0.09, n=92, n_patients=61), **wilson, "count": 70},
        "npv": {**score(0.919, 0.05, n=123, n_patients=81), **wilson, "count": 113},
        "prevalence": 0.372,
        "at_prevalence": [{"prevalence": 0.05, "ppv": score(0.22, 0.06), "npv": score(0.992, 0.006)}],
        "counts": {"tp": 70, "fp": 22, "tn": 113, "fn": 10},
    }


def _subgroups() -> list[dict[str, Any]]:
    rows = [("site", "A", 102, 0.925), ("site", "B", 71, 0.903), ("site", "C", 42, 0.861)]
    rows += [("sex", "female", 110, 0.917), ("sex", "male", 105, 0.905)]
    rows += [
        ("age band", "under 40", 51, 0.93),
        ("age band", "40 to 64", 103, 0.911),
        ("age band", "65 and over", 61, 0.889),
    ]
    found = [
        {
            "covariate": c,
            "group": g,
            "n": n,
            "n_patients": int(n * 0.62),
            "scores": {"auroc": score(v, 0.6 / n**0.5, n=n), "ece": score(0.06, 0.03)},
        }
        for c, g, n, v in rows
    ]
    none = score(None, n=4, n_patients=3, why="all four images are of one class")
    return [
        *found,
        {
            "covariate": "site",
            "group": "D",
            "n": 4,
            "n_patients": 3,
            "scores": {"auroc": none, "ece": score(0.2, 0.15, n=4)},
        },
    ]


def _again() -> dict[str, Any]:
    return {
        "timing": {
            "train_seconds": 94.2,
            "train_images_per_second": 211.4,
            "predict_images_per_second": 388.0,
            "prefix_seconds": 12.1,
        },
        "machine": {"device": "cpu", "cores": 2, "memory_gb": 16, "python": "3.11.7", "torch": "2.11.0"},
        "recipe_yaml": RECIPE,
        "recipe_sha256": "4c" * 32,
        "command": "medgraft train fundus_phantoms --out runs/again --recipe recipe.yaml",
        "checksums": {"model.safetensors": "ab" * 32},
    }
