"""The part of the page about synthetic images beside real ones: what validation said, and what they bought."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medgraft.report.phrases import count, listed, sentence
from medgraft.report.verdict import of

_NETS = {"diffuse": "a diffusion model", "stylegan": "a StyleGAN"}
SCORES = ("auroc", "balanced_accuracy", "log_loss")


def view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows; nothing where no synthetic images were asked for."""
    told = of(report, "enrichment")
    if not told:
        return {"enriched_words": [], "enriched_rows": [], "bought_rows": []}
    test = of(told, "test")
    rows = [
        {
            "what": row["words"],
            "images": sum(row["images"].values()),
            "scores": [row["val"].get(name) for name in SCORES],
            "difference": of(row, "difference").get("log_loss"),
            "said": "" if "admitted" not in row else "yes" if row["admitted"] else "no",
        }
        for row in told["tried"]
    ]
    kinds = (("without", "real images alone"), ("with", str(told.get("compared_words"))), ("difference", "difference"))
    return {
        "enriched_words": _words(told),
        "enriched_scores": SCORES,
        "enriched_rows": rows,
        "bought_rows": [
            {"what": words, "scores": [of(test, kind).get(name) for name in SCORES]} for kind, words in kinds if test
        ],
    }


def _words(told: Mapping[str, Any]) -> list[str]:
    own, real = of(told, "generator"), sum(told["real"].values())
    total = sum(told["synthetic"].values())
    net = _NETS.get(str(own.get("task")), "a generator")
    source = "trained on the training part alone" if own.get("inside") else "trained before, by another run"
    said = [
        f"Synthetic images are drawn by {net}, {source}. They are of no patient, and only in the training part; "
        "validation and test images are real.",
        sentence(f"decided by {told['chosen_by']}: {told['why']}"),
    ]
    if total:
        each = listed([f"{number} of “{name}”" for name, number in told["synthetic"].items() if number])
        both = f"{count(real, 'real image')} and {count(total, 'synthetic image')} ({each})"
        said.append(f"This model learnt from {both}.")
    else:
        said.append("This model learnt from real images alone.")
    return said


def methods(report: Mapping[str, Any]) -> str:
    """Get the sentences for a paper; "" where no synthetic images were asked for."""
    told = of(report, "enrichment")
    if not told:
        return ""
    own, total = of(told, "generator"), sum(told["synthetic"].values())
    net = _NETS.get(str(own.get("task")), "a generator")
    where = "on the training part alone" if own.get("inside") else "on other images than those of validation and test"
    tried = listed([str(row["words"]) for row in told["tried"]])
    used = f"{count(total, 'synthetic image')} were added" if total else "none were added"
    return (
        f"Synthetic training images were drawn by {net} trained {where}. Training was done with as many steps each "
        f"with: {tried}. They were to be let in where the validation loss was lower by more than chance "
        f"(paired bootstrap, corrected for the number of ratios); {used}."
    )
