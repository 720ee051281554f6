"""The part of the page about noise that was taken away: how well, beside filters, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medgraft.report import pictures
from medgraft.report.phrases import decimal, with_interval

_NAMES = {
    "noisy": "noisy images as they are",
    "neighbours": "mean of the four neighbours",
    "blindspot": "this run",
    "prior": "diffusion model as a prior",
    "median": "median filter",
    "bilateral": "bilateral filter",
    "nlmeans": "non-local means",
    "tv": "total variation",
    "wavelet": "wavelets (BayesShrink, all shifts)",
}
_SCORES = ("psnr", "psnr_gain", "ssim", "blind_error")
_TOGETHER = 0.2  # correlation of neighbours in what was taken away, above which noise is not that of single pixels


def is_denoised(report: Mapping[str, Any]) -> bool:
    """Say whether a report is of a run that takes noise away."""
    return bool(report.get("denoising"))


def question(report: Mapping[str, Any]) -> str:
    """Get what was asked."""
    del report
    return "Can the noise of images like these be taken away, learnt from noisy images alone?"


def main(name: str, *, number: str) -> str:
    """Get the main sentence, of which the subject is the model."""
    if name == "psnr":
        return f"took noise away to a peak signal-to-noise ratio of {number} dB against clean images."
    return (
        f"foretold hidden pixels with an error of {number} times the estimated noise; 1 is noise alone, which cannot "
        "be foretold. No clean images were given, so how near the result is to them was not measured."
    )


def words(report: Mapping[str, Any]) -> list[str]:
    """Get what else a reader should take away."""
    told = report["denoising"]
    own = (told.get("methods") or {}).get("blindspot") or {}
    found = (
        [f"That is {with_interval(own['psnr_gain'])} dB more than the noisy images have."] if "psnr_gain" in own else []
    )
    best = _best_filter(told)
    if best is not None:
        way, score = best
        found.append(f"The best filter beside it is {_NAMES.get(way, way)}, with {with_interval(score)}.")
    return found


def warnings(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Get what a reader must know before the numbers."""
    together = ((report.get("denoising") or {}).get("noise") or {}).get("neighbours") or {}
    if not is_denoised(report) or (together.get("median") or 0) < _TOGETHER:
        return []
    text = (
        f"Neighbouring pixels of what was taken away go together (correlation {decimal(together['median'], 2)}): the "
        "noise is not that of single pixels, or fine structure went with it. Look at the pictures."
    )
    return [{"level": "stop", "title": "What was taken away is not noise of single pixels", "text": text}]


def view(report: Mapping[str, Any], curves: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows; nothing where no noise was taken away."""
    if not is_denoised(report):
        return {"denoised": False, "denoised_rows": [], "denoised_names": [], "noise_rows": [], "denoised_sheet": None}
    told = report["denoising"]
    names = [name for name in _SCORES if any(name in own for own in told["methods"].values())]
    rows = [
        {"what": _NAMES.get(way, way), "scores": [own.get(name) for name in names]}
        for way, own in told["methods"].items()
    ]
    noise = told.get("noise") or {}
    labels = {
        "noise_before": "Noise before (standard deviation)",
        "noise_after": "Noise after",
        "taken_away": "What was taken away (root mean square)",
        "neighbours": "Correlation of its neighbouring pixels",
        "kept": "Share of the noisy pixel in the result",
    }
    sheet = curves.get("denoised")
    return {
        "denoised": True,
        "denoised_names": names,
        "denoised_rows": rows,
        "denoised_clean": told.get("clean"),
        "noise_rows": [
            {"what": label, **{end: f"{noise[name][end]:.3g}" for end in ("low", "median", "high")}}
            for name, label in labels.items()
            if name in noise
        ],
        "denoised_sheet": None if sheet is None else pictures.data_uri(sheet, most=1240, quality=90),
    }


def _best_filter(told: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    name, sign = ("psnr", 1) if told.get("clean") else ("blind_error", -1)
    others = {
        way: own[name]
        for way, own in (told.get("methods") or {}).items()
        if way not in ("blindspot", "noisy", "neighbours") and (own.get(name) or {}).get("value") is not None
    }
    return max(others.items(), key=lambda pair: sign * pair[1]["value"]) if others else None
