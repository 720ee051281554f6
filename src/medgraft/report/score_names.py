"""Scores in words: what each name means to a reader, and how its number is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from medgraft.report.phrases import listed


@dataclass(frozen=True)
class ScoreName:
    """How one score is called and read.

    Attributes:
        title: for table rows.
        means: one short sentence in plain words.
        unit_range: True when it lies in 0..1, so that it can be drawn on that scale.
        lower_is_better: True for errors.
        chance: the value of a model that knows nothing, where there is one.
    """

    title: str
    means: str = ""
    unit_range: bool = True
    lower_is_better: bool = False
    chance: float | None = None

    @property
    def spoken(self) -> str:
        """Get the title as it stands inside a sentence."""
        first = self.title.split(" ", 1)[0]
        keep = first in _PROPER or sum(letter.isupper() for letter in first) > 1 or not first[1:].isalpha()
        return self.title if keep else self.title[:1].lower() + self.title[1:]


_LOST = re.compile(r"\s*\((\d+) of (\d+) resamples could not be computed\)")
_OF_TABLE = re.compile(r"\d+ of \d+|left out|^within ")  # notes that tell of these images, not of the score
_MOST_NOTES = 6
_PROPER = {"Matthews", "Brier", "Pearson", "Spearman", "Dice", "Hamming", "F1"}

NAMES = {
    "auroc": ScoreName("AUROC", "chance that a case ranks above a non-case", chance=0.5),
    "auprc": ScoreName("Average precision", "area under the precision-recall curve"),
    "sensitivity": ScoreName("Sensitivity", "share of cases that are found"),
    "specificity": ScoreName("Specificity", "share of non-cases that are cleared"),
    "ppv": ScoreName("Positive predictive value", "share of positive answers that are right"),
    "npv": ScoreName("Negative predictive value", "share of negative answers that are right"),
    "balanced_accuracy": ScoreName("Balanced accuracy", "mean over classes of the share answered right"),
    "accuracy": ScoreName("Accuracy", "share answered right; flatters under imbalance"),
    "mcc": ScoreName("Matthews correlation", "agreement with the truth, 0 is chance", chance=0.0),
    "f1": ScoreName("F1", "harmonic mean of precision and recall"),
    "quadratic_kappa": ScoreName("Quadratic weighted kappa", "agreement on grades beyond chance", chance=0.0),
    "zone_kappa": ScoreName("Zones, quadratic weighted kappa", "agreement on grades beyond chance", chance=0.0),
    "zone_spearman": ScoreName("Zones, Spearman correlation", "order of severities of all zones", chance=0.0),
    "zone_mae": ScoreName("Zones, mean absolute error", unit_range=False, lower_is_better=True),
    "sum_kappa": ScoreName("Sum, quadratic weighted kappa", "agreement on whole sums beyond chance", chance=0.0),
    "sum_spearman": ScoreName("Sum, Spearman correlation", "order of the images' sums", chance=0.0),
    "sum_mae": ScoreName("Sum, mean absolute error", unit_range=False, lower_is_better=True),
    "zone_covered": ScoreName("Zones within their intervals", "share of known zones"),
    "sum_covered": ScoreName("Sums within their intervals", "share of images with all zones known"),
    "brier": ScoreName("Brier score", "mean squared error of probabilities", lower_is_better=True),
    "ece": ScoreName("Calibration error (ECE)", "mean gap of stated and observed", lower_is_better=True),
    "ece_classwise": ScoreName("Calibration error by class", "mean of the classes' ECE", lower_is_better=True),
    "log_loss": ScoreName("Log loss", "surprise at the truth", unit_range=False, lower_is_better=True),
    "mae": ScoreName("Mean absolute error", "", unit_range=False, lower_is_better=True),
    "rmse": ScoreName("Root mean squared error", "", unit_range=False, lower_is_better=True),
    "r2": ScoreName("R²", "share of the variance explained", chance=0.0),
    "pearson": ScoreName("Pearson correlation", "", chance=0.0),
    "spearman": ScoreName("Spearman correlation", "", chance=0.0),
    "bias": ScoreName("Bias", "mean of predicted minus true", unit_range=False),
    "concordance": ScoreName("Concordance correlation", "agreement with the identity line", chance=0.0),
    "exact_match": ScoreName("Exact match", "share of images with every label right"),
    "hamming": ScoreName("Hamming loss", "share of labels that are wrong", lower_is_better=True),
    "auroc_cuts": ScoreName("AUROC over cuts", "mean over the cuts between grades", chance=0.5),
    "within_one": ScoreName("Within one grade", "share at most one grade off"),
    "coverage": ScoreName("Coverage", "share of true answers that are in their sets"),
    "size": ScoreName("Size of a set", "mean number of answers in it", unit_range=False, lower_is_better=True),
    "single": ScoreName("Sets of one answer", "share of images"),
    "single_right": ScoreName("Right, of sets of one", "share of those images answered right"),
    "answered": ScoreName("Answered", "share of images on which the model does not abstain"),
    "right_when_answered": ScoreName("Right when answered", "share of those images answered right"),
    "right": ScoreName("Right on all images", "as if it never abstained"),
    "unlike": ScoreName("Unlike the training images", "share of test images beyond the limit", lower_is_better=True),
    "map": ScoreName("mAP", "mean average precision, IoU .50 to .95"),
    "map10": ScoreName("mAP at IoU .10", "mean over classes of the area under precision against recall"),
    "map25": ScoreName("mAP at IoU .25", "the same, of boxes that fit better"),
    "map50": ScoreName("mAP at IoU .50", "mean over classes of the area under precision against recall"),
    "map50_75": ScoreName("mAP at IoU .50 and .75", "the mean of both, by which epochs and depths are chosen"),
    "map75": ScoreName("mAP at IoU .75", "the same, of boxes that fit well"),
    "map_small": ScoreName("mAP of small boxes", "areas below 32² pixels"),
    "map_medium": ScoreName("mAP of medium boxes", "areas from 32² to 96² pixels"),
    "map_large": ScoreName("mAP of large boxes", "areas above 96² pixels"),
    "recall100": ScoreName("Average recall", "most boxes that could be found, IoU .50 to .95"),
    "precision": ScoreName("Precision", "share of called boxes that are right"),
    "recall": ScoreName("Recall", "share of true boxes that are found"),
    "count_mae": ScoreName("Count error", "boxes an image too many or too few", unit_range=False, lower_is_better=True),
    "patient_sensitivity": ScoreName("Patients found", "share of those with boxes in whom one is found"),
    "patient_specificity": ScoreName("Patients cleared", "share of those without boxes in whom none is called"),
    "image_sensitivity": ScoreName("Images found", "share of those with boxes in which one is found"),
    "image_specificity": ScoreName("Images cleared", "share of those without boxes in which none is called"),
    "ap50": ScoreName("AP at IoU .50"),
    "ap75": ScoreName("AP at IoU .75"),
    "ap": ScoreName("AP", "IoU .50 to .95"),
    "sensitivity_at_1_fp": ScoreName("Sensitivity at 1 false alarm an image"),
    "froc": ScoreName("FROC score", "mean sensitivity at 1/8 to 8 false positives an image"),
    "iou_box": ScoreName("IoU by a box", "overlap with the structure that an exact box shows"),
    "iou_point": ScoreName("IoU by one point", "overlap with the structure that its innermost pixel shows"),
    "iou_box_best": ScoreName("IoU by a box, best candidate", "as if a person chose among the candidates"),
    "iou_point_best": ScoreName("IoU by one point, best candidate", "as if a person chose among the candidates"),
    "pixel_auroc": ScoreName("Pixels, AUROC", "chance that a pixel in a mask is warmer than another", chance=0.5),
    "pixel_auprc": ScoreName("Pixels, average precision", "of pixels in masks against all others"),
    "aupro": ScoreName("Overlap of regions (AUPRO)", "mean share of a finding that is warm, few others being"),
    "dice": ScoreName("Dice", "overlap with the reference"),
    "iou": ScoreName("IoU", "intersection over union"),
    "nsd": ScoreName("Surface Dice (NSD)", "share of the surface within tolerance"),
    "hd95_mm": ScoreName("HD95 (mm)", "95th percentile of surface distance", unit_range=False, lower_is_better=True),
    "hd95_px": ScoreName(
        "HD95 (pixels)", "95th percentile of surface distance", unit_range=False, lower_is_better=True
    ),
    "assd_mm": ScoreName("Surface distance (mm)", "mean over both surfaces", unit_range=False, lower_is_better=True),
    "assd_px": ScoreName(
        "Surface distance (pixels)", "mean over both surfaces", unit_range=False, lower_is_better=True
    ),
    "cldice": ScoreName("clDice", "share of middle lines that lie in the other mask"),
    "volume_error": ScoreName(
        "Volume error", "found minus true, of the true volume (in planes area)", unit_range=False
    ),
    "volume_error_abs": ScoreName(
        "Absolute volume error", "the same without its sign", unit_range=False, lower_is_better=True
    ),
    "pq": ScoreName("Panoptic quality (PQ)", "how many things match, and how well, in one"),
    "sq": ScoreName("Fit of matches (SQ)", "mean IoU of things that match"),
    "rq": ScoreName("Recognition (RQ)", "F1 of an image at IoU .50"),
    "aji": ScoreName("Aggregated Jaccard index (AJI)", "overlap of things, those without a partner counted in full"),
    "aji_plus": ScoreName("AJI+", "the same, each thing matched once"),
    "fid_embedded": ScoreName(
        "FID", "Fréchet distance in features of the embedded encoder", unit_range=False, lower_is_better=True
    ),
    "kid_embedded": ScoreName(
        "KID", "kernel distance in features of the embedded encoder", unit_range=False, lower_is_better=True
    ),
    "kid": ScoreName("KID", "kernel distance of features", unit_range=False, lower_is_better=True),
    "denoising": ScoreName("Denoising score", "what the error of v lacks to zero", unit_range=False),
    "psnr_latents": ScoreName(
        "PSNR of latents (dB)", "how well held-out images come back of their latents", unit_range=False
    ),
    "psnr": ScoreName("PSNR (dB)", "peak signal to noise against clean images", unit_range=False),
    "psnr_gain": ScoreName("PSNR gained (dB)", "over the noisy image", unit_range=False),
    "ssim": ScoreName("SSIM", "structural similarity to clean images"),
    "ssim_gain": ScoreName("SSIM gained", "over the noisy image", unit_range=False),
    "blind": ScoreName("Blind score", "what the error at hidden pixels lacks to zero", unit_range=False),
    "blind_error": ScoreName(
        "Error at hidden pixels", "over the estimated noise; 1 is noise alone", unit_range=False, lower_is_better=True
    ),
    "ms_ssim": ScoreName("MS-SSIM of pairs", "how alike images of the set are to each other"),
    "histogram": ScoreName("Histogram distance", "between the values of real and drawn images, of white"),
    "nearest_copy": ScoreName("Nearer than the limit", "share of drawn images; of held-out ones it is 5 %"),
    "f1_50": ScoreName("F1 at IoU .50", "of the things of all images together"),
}
for _unit, _written in (("mm3", "mm³"), ("mm2", "mm²"), ("px", "pixels")):
    _limit = "95 % of found minus true lie between the limits"
    NAMES |= {
        f"volume_bias_{_unit}": ScoreName(f"Volume bias ({_written})", "mean of found minus true", unit_range=False),
        f"volume_low_{_unit}": ScoreName(f"Lower limit of agreement ({_written})", _limit, unit_range=False),
        f"volume_high_{_unit}": ScoreName(f"Upper limit of agreement ({_written})", _limit, unit_range=False),
    }

# Names that mean something else where pixels or voxels, or single things, are what is counted.
_OTHER = {
    "images": {
        "precision": "share of the drawn images that lie among real ones",
        "recall": "share of the real images that lie among drawn ones",
    },
    "pixels": {
        "sensitivity": "share of the true pixels that are found",
        "precision": "share of the found pixels that are true",
    },
    "things": {
        "ap50": "things that match over those that match, are missed or false",
        "ap75": "as at .50, of things that fit well",
        "ap": "as at .50, the mean over IoU .50 to .95",
        "count_mae": "things an image too many or too few",
    },
}


def named(name: str, *, classes: int = 2, of: str = "cases") -> ScoreName:
    """Get how a score is called; an unknown name is shown as it is; `ppv@0.01` means at a prevalence of 1 %.

    With more than two classes some scores are means over the classes. Of "pixels" (masks) and of "things" (single ones
    in masks, beside scores of their pixels) some names mean something else than of cases and boxes.
    """
    plain, _, share = name.partition("@")
    if share and plain in NAMES:
        return replace(NAMES[plain], means=f"if {float(share) * 100:g} % of the images were positive")
    known = NAMES.get(name) or ScoreName(name.replace("_", " "), unit_range=False)
    means = _OTHER.get(of, {}).get(name) or (_OTHER["pixels"].get(name) if of == "things" else None)
    if means:
        return replace(known, means=means)
    if classes > 2 and name in ("auroc", "auprc", "f1"):
        return replace(known, means="mean over classes, each against the rest")
    return known


def interval_note(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Get one line that says how the intervals of a table were made, or "" where nobody says."""
    ways: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    lost: list[tuple[int, str]] = []
    for name, score in scores.items():
        if score and score.get("method") and score.get("value") is not None and score.get("low") is not None:
            method = str(score["method"])
            found = _LOST.search(method)
            lost += [(int(found[1]), found[2])] if found else []
            way, *rest = _LOST.sub("", method).split("; ")
            for kind, words in ((ways, [way]), (notes, rest)):
                for word in words:
                    kind.setdefault(word, []).append(named(name).title.split(" (")[0])
    if not ways:
        return ""
    ordered = sorted(ways, key=lambda way: -len(ways[way]))
    every = [title for titles in ways.values() for title in titles]
    parts = [f"{way} ({listed(list(dict.fromkeys(ways[way])))})" for way in ordered[1:]]
    parts += [f"{note}{_whose(titles, every)}" for note, titles in _worth(notes).items()]
    most = max(lost) if lost else None
    tail = f" Up to {most[0]} of {most[1]} resamples of a score could not be computed." if most else ""
    return f"Intervals: {'; '.join([ordered[0], *parts])}.{tail}"


def _worth(notes: dict[str, list[str]]) -> dict[str, list[str]]:
    """Where there are many notes, leave out those that only say what one score is: its row says so."""
    if len(notes) <= _MOST_NOTES:
        return notes
    return {note: titles for note, titles in notes.items() if len(titles) > 1 or _OF_TABLE.search(note)}


def _whose(titles: list[str], every: list[str]) -> str:
    """Say which scores a note is of, by those that it is not of where these are fewer; "" where it is of all."""
    but = [title for title in every if title not in titles]
    if not but:
        return ""
    names = titles if len(titles) <= len(but) else but
    return f" ({'' if names is titles else 'all but '}{listed(list(dict.fromkeys(names)))})"
