"""The part of the page about single answers: sets that hold the truth, and when the model abstains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medgraft.report.phrases import count, decimal, listed, percent, share_with_interval, value_of
from medgraft.report.verdict import of

_SETS = ("coverage", "size", "single", "single_right")
_ABSTAINS = ("answered", "right_when_answered", "right")


def view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows; nothing where the run has no certainty."""
    told = of(report, "certainty")
    sets = of(told, "sets")
    if not sets:
        return {"certainty_words": [], "certainty_scores": {}, "certainty_classes": {}}
    scores = {name: sets[name] for name in _SETS if sets.get(name)}
    scores |= {name: told[name] for name in _ABSTAINS if told.get(name)}
    above = of(told, "ood").get("above")
    return {
        "certainty_words": _words(report, told),
        "certainty_scores": scores | ({"unlike": above} if above else {}),
        "certainty_classes": of(sets, "per_class"),
    }


def _words(report: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    wanted, task = percent(float(told["coverage"])), report.get("task")
    if task == "regress":
        width = value_of(of(told, "sets").get("size"))
        reach = "" if width is None else f" It reaches {decimal(width / 2)} to either side of the predicted number."
        said = [f"Around each number stands an interval that is meant to hold the truth for {wanted} of images.{reach}"]
    elif task == "multilabel":
        said = [f"A label is excluded from an image only so rarely that {wanted} of true labels are kept."]
    else:
        said = [
            f"Beside the one answer stands a set of all that fit, meant to hold the truth for {wanted} of each class."
        ]
        said.append(
            "The model abstains where the set has more than one answer, or none, or one that is not the answer given."
        )
    few = told.get("few_cases") or []
    if few:
        said.append(f"Of {listed([str(name) for name in few])} validation had too few images for limits of their own.")
    share = of(told, "ood").get("share")
    if share:
        said.append(
            "It also abstains on images unlike those of the training: further away, by the encoder’s features, than "
            f"{percent(float(share))} of the validation images. An answer may be right there, but nothing here says so."
        )
    return said


def warnings(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Get the warnings that sets or distances did not hold on the test images what they promise."""
    told = of(report, "certainty")
    found = []
    covered, wanted = of(told, "sets").get("coverage") or {}, told.get("coverage")
    if wanted and covered.get("high") is not None and covered["high"] < wanted:
        what = (
            f"they were to hold the truth for {percent(float(wanted))}, and hold it for {share_with_interval(covered)}"
        )
        found.append(_warning("The sets of answers are too small here", f"On these images {what}."))
    ood = of(told, "ood")
    above, share = ood.get("above") or {}, ood.get("share")
    # Some are always beyond the limit: it is drawn so that of the validation images a few are.
    if share and (above.get("low") or 0) > 2 * (1 - float(share)):
        number = count(round(float(above["value"]) * int(above["n"])), "image")
        what = f"{number} of {above['n']} look unlike the training images, which makes every score here less certain."
        found.append(_warning("These are other images than those of the training", what))
    return found


def _warning(title: str, text: str) -> dict[str, str]:
    return {"level": "note", "title": title, "text": text}
