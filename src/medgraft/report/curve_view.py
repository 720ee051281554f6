"""The curves of the page: ROC, precision-recall, confusion, reliability, agreement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medgraft.report import grids, plots, verdict
from medgraft.report.phrases import interval, value_of, with_interval
from medgraft.report.verdict import of


def view(report: Mapping[str, Any], curves: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the sections on curves, calibration and agreement show; what is absent is None."""
    roc, pr = _drawable(curves.get("roc")), _drawable(curves.get("pr"))
    cloud = of(curves, "scatter")
    unit = str(of(report, "target").get("unit") or "")
    agreed = plots.agreement(cloud["true"], cloud["predicted"], unit=unit) if cloud.get("true") else None
    confusion = of(report, "confusion")
    matrix = confusion.get("matrix")
    bins = of(curves, "reliability")
    calibration = of(report, "calibration")
    return {
        "roc_plot": _roc(report, roc),
        "pr_plot": _pr(report, pr),
        "many_classes": len(roc) > 1 or len(pr) > 1,
        "confusion_plot": grids.confusion([str(c) for c in confusion["classes"]], matrix) if matrix else None,
        "confusion_classes": list(confusion.get("classes") or ()),
        "in_counts": verdict.in_counts(report) if matrix else [],
        "reliability_plot": plots.reliability(bins) if bins.get("after") or bins.get("before") else None,
        "calibration": calibration,
        "agreement_plots": agreed,
    }


def _drawable(curves: Mapping[str, Any] | None) -> dict[str, Any]:
    return {str(name): one for name, one in (curves or {}).items() if one and one.get("x") and one.get("y")}


def _roc(report: Mapping[str, Any], roc: Mapping[str, Any]) -> Any:
    if not roc:
        return None
    if len(roc) == 1:
        score = of(report, "scores", "test").get("auroc")
        label = f"AUROC {with_interval(score)}" if value_of(score) is not None else "ROC"
        return plots.roc(next(iter(roc.values())), label=label, point=report.get("operating_point"))
    return plots.small_multiples(roc, labels=_class_labels(report, "auroc", "AUROC"), kind="roc")


def _pr(report: Mapping[str, Any], pr: Mapping[str, Any]) -> Any:
    if not pr:
        return None
    if len(pr) == 1:
        score = of(report, "scores", "test").get("auprc")
        label = f"AP {with_interval(score)}" if value_of(score) is not None else "Precision-recall"
        return plots.precision_recall(next(iter(pr.values())), label=label)
    return plots.small_multiples(pr, labels=_class_labels(report, "auprc", "AP"), kind="pr")


def _class_labels(report: Mapping[str, Any], name: str, words: str) -> dict[str, str]:
    labels = {}
    for label, scores in of(report, "per_class").items():
        value = value_of(scores.get(name))
        if value is not None:
            ends = scores[name]
            between = interval(ends, 2)
            labels[str(label)] = f"{words} {value:.2f}" + (f" ({between})" if between else "")
    return labels
