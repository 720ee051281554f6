"""What was settled on validation images, and what could not be: threshold and temperature, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medgraft.report.phrases import decimal, rule_words, sentence
from medgraft.report.verdict import of

_PARTS = {"val": "validation", "test": "test"}
_WELL_TEMPERED = 0.02


def threshold_words(point: Mapping[str, Any]) -> str:
    """Get how a threshold came about, to follow its number.

    Example:
        >>> threshold_words({"chosen_on": "val", "rule": "youden"})
        'chosen on validation images by Youden’s index'
    """
    on = _PARTS.get(str(point.get("chosen_on")), point.get("chosen_on"))
    by = f" by {rule_words(point['rule'])}" if point.get("rule") else ""
    if point.get("why"):  # the rule could not be followed, or at a price: the reason says which
        return f"asked of {on} images{by}, with this note: {point['why']}"
    return f"chosen on {on} images{by}"


def temperature_words(report: Mapping[str, Any]) -> list[str]:
    """Get the sentences about the temperature, none where there is none."""
    calibration = of(report, "calibration")
    temperature, why = calibration.get("temperature"), of(calibration, "validation").get("why")
    on = _PARTS.get(str(calibration.get("fitted_on") or "val"), str(calibration.get("fitted_on")))
    if isinstance(temperature, list | tuple) and temperature:
        ends = " to ".join(decimal(float(end(temperature)), 2) for end in (min, max))
        said = [f"One temperature a label, {ends}, was fitted on {on} images.", *([sentence(why)] if why else [])]
    elif not isinstance(temperature, int | float):
        return []
    elif why:
        said = [f"The temperature is {decimal(temperature, 2)}: {why}."]
    else:
        said = [f"One temperature, {decimal(temperature, 2)}, was fitted on {on} images.", _told(float(temperature))]
    return [*said, _kept(report)]


def _told(temperature: float) -> str:
    if temperature > 1 + _WELL_TEMPERED:
        return "The raw model was too sure of itself."
    return (
        "The raw model was not sure enough." if temperature < 1 - _WELL_TEMPERED else "The raw model was well tempered."
    )


def _kept(report: Mapping[str, Any]) -> str:
    """What a temperature cannot change: dividing all logits keeps the order of two classes, not that of several."""
    if report.get("task") == "multilabel" or len(report.get("classes") or ()) == 2:
        return "It changes no ranking, so AUROC stays."
    return "It leaves every answer as it is; rankings of single classes may move a little."


def probe_words(probe: Mapping[str, Any]) -> str:
    """Get how the penalty of the probe came about, to follow its name.

    Example:
        >>> probe_words({"strength": 0.0316227, "folds": 5, "images": 437})
        'penalty 0.0316, chosen by cross-validation in 5 parts of the 437 training images'
    """
    strength = f"penalty {probe['strength']:.3g}"
    if not probe.get("folds"):
        return f"{strength}, which could not be chosen, as there are too few training images to hold some out"
    of = f"the {probe['images']} training images" if probe.get("images") else "the training images"
    return f"{strength}, chosen by cross-validation in {probe['folds']} parts of {of}"


def unsettled(report: Mapping[str, Any]) -> list[str]:
    """Get what validation could not settle as asked, as sentences for the warnings."""
    found = []
    point, fitted = of(report, "operating_point"), of(report, "calibration", "validation")
    if point.get("why"):
        found.append(sentence(f"about the threshold: {point['why']}"))
    if fitted.get("why"):
        found.append(sentence(f"about the temperature: {fitted['why']}"))
    return found
