"""What commands print of what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Result = tuple[list[str], dict[str, Any]]


def run_lines(report: dict[str, Any], out: Path) -> Result:
    """Get what a person and a program are told of a finished run."""
    scores = {
        name: score for name, score in report["scores"]["test"].items() if score and score.get("value") is not None
    }
    lines = [score_line(name, score) for name, score in scores.items() if name in _HEADLINE]
    if report.get("enrichment"):
        lines.append(f"synthetic images: {report['enrichment']['why']}")
    lines += [f"warning: {text}" for text in (*report["warnings"], *report.get("alarms", ()))]
    paths = {"run": str(out), "report": str(out / "report.html"), "report_json": str(out / "report.json")}
    headline = {name: scores[name]["value"] for name in _HEADLINE if name in scores}
    return [*lines, f"Report: {paths['report']}"], {**paths, "task": report["task"], "scores": headline}


def depth_line(row: dict[str, Any], found: dict[str, Any]) -> str:
    """Get the score of one depth, as a line."""
    value = row["val"]["value"]
    shown = "not computable" if value is None else f"{found['score'].replace('_', ' ')} {value:.3f}"
    if row["val"]["low"] is not None:
        shown += f" (95 % interval {row['val']['low']:.3f} to {row['val']['high']:.3f})"
    return f"{row['thawed']} {row['name']}: {shown}{', dropped early' if row['dropped'] else ''}"


def brief(row: dict[str, Any]) -> str:
    """Get one number of a row, as words."""
    value = row["mean_drop"] if "mean_drop" in row else row["value"]
    return "not computable" if value is None else f"{value:.3f}"


def stage_line(net: str, rows: list[dict[str, Any]], told: dict[str, Any]) -> str:
    """Get what a head on each stage alone reaches, as a line."""
    each = ", ".join(
        f"{name} {row['value']:.3f}" for name, row in zip(told["stages"], rows, strict=True) if row["value"]
    )
    return f"{net}: {told['score'].replace('_', ' ')} of a head on each stage alone: {each}"


def value(values: dict[str, Any], field: str) -> Any:
    """Get a field of nested values, by its dotted name."""
    for part in field.split("."):
        values = values[part]
    return values


_HEADLINE = ("auroc", "accuracy", "balanced_accuracy", "quadratic_kappa", "mae", "map50", "map", "froc", "f1")
_HEADLINE += ("ap50", "dice", "iou_box", "iou_point", "fid_embedded", "kid_embedded", "ms_ssim", "nearest_copy")
_HEADLINE += ("pixel_auroc", "psnr", "ssim", "psnr_gain", "blind_error")


def score_line(name: str, score: dict[str, Any]) -> str:
    """Get a score with its interval and n, as a line."""
    interval = f" (95 % interval {score['low']:.3f} to {score['high']:.3f})" if score["low"] is not None else ""
    return f"{name.replace('_', ' ')} {score['value']:.3f}{interval}, n = {score['n']}"


def own_classes(rows: list[dict[str, Any]]) -> list[str]:
    """The file once, then its classes."""
    lines: list[str] = []
    for row in rows:
        lines += [row["path"]] if row["rank"] == 1 else []
        lines.append(f"  {row['rank']}. {row['class']}  {row['probability']:.3f}")
    return lines


def backbone_line(row: dict[str, Any]) -> str:
    """Get what can be grafted, as a line."""
    parts = [f"{row['name']:<44}", f"{row['parameters'] / 1e6:6.1f} M" if row.get("parameters") else " " * 8]
    parts += [str(row[name]) for name in ("licence", "source") if row.get(name)]
    if row.get("top1"):
        parts.append(f"top-1 {row['top1']}")
    parts.append("offline" if row.get("offline") else "download")
    return "  ".join(parts)
