"""What the depth finder found: in a sentence, as a table, and as a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medgraft import storage
from medgraft.report import plots, rendering
from medgraft.report.phrases import count, decimal, duration, value_of
from medgraft.report.score_names import named
from medgraft.report.verdict import of

Entry = Mapping[str, Any]


def reason(entry: Entry) -> str:
    """Say why this depth: it was the best, or the shallowest that is as good as one can tell.

    Args:
        entry: what depth.json holds.
    """
    rows = {row["name"]: row for row in entry["curve"]}
    chosen, best = rows[entry["chosen"]], rows[entry["best"]]
    score, words = named(str(entry["score"])).title, _words(chosen, entry["of"])
    value = decimal(value_of(chosen["val"]))
    said = f"on training images held out in {entry['folds']} parts, {words} gave {score} {value}"
    ended = "of the depths tried to the end" if any(row["dropped"] for row in entry["curve"]) else "of all depths"
    if chosen is best:
        among = "" if chosen["thawed"] == 0 else " and the shallowest within one standard error of it"
        return f"{said}, the best {ended}{among}"
    error = decimal(chosen["behind"]["standard_error"])
    most = f"{decimal(value_of(best['val']))} by {_words(best, entry['of'])}"
    alone = "" if chosen["thawed"] == 0 else f"; no shallower one {ended} did"
    return f"{said}, within one standard error ({error}) of the best, {most}{alone}"


def _words(row: Mapping[str, Any], every: int) -> str:
    thawed: int = row["thawed"]
    if not thawed:
        return "the head alone"
    if row["name"] == "lora":
        return "tuning low-rank adapters in all stages"
    return f"tuning all {every} stages" if thawed == every else f"tuning {count(thawed, 'stage')}"


def _lowest(row: Mapping[str, Any]) -> str:
    return f"down to {row['name']}" if row["thawed"] and row["name"] != "lora" else ""


def view(entry: Entry) -> dict[str, Any]:
    """Get what a page shows of a search; nothing where there was none."""
    curve = [row for row in entry.get("curve") or () if row.get("val")]
    if not curve:
        return {"depth_plot": None, "depth_rows": [], "depth_caption": ""}
    score = named(str(entry.get("score") or "score")).title
    axis = score if len(score) < 24 else "Score"
    held = (
        f"on {count(entry['images'], 'training image')} held out in {entry['folds']} parts"
        if entry.get("images")
        else ""
    )
    said = f"{score} {held} against depth, with 95 % intervals; the chosen depth is marked."
    if any(row.get("dropped") for row in curve):
        said += " Open circles were dropped early, after a shorter try."
    return {
        "depth_plot": plots.depth_curve(curve, chosen=entry.get("chosen"), y_label=axis),
        "depth_rows": [_row(row, entry) for row in curve],
        "depth_caption": said,
    }


def _row(row: Mapping[str, Any], entry: Entry) -> dict[str, Any]:
    tried = [one for one in entry.get("tried") or () if one["name"] == row["name"]]
    behind = of(row, "behind")
    gap = "–" if behind.get("value") in (None, 0.0) else decimal(behind["value"])
    return {
        **row,
        "chosen": row["name"] == entry.get("chosen"),
        "gap": gap if not behind.get("standard_error") else f"{gap} ± {decimal(behind['standard_error'])}",
        "rates": ", ".join(f"{lr:g}" for lr in dict.fromkeys(one["lr"] for one in tried)),
    }


def write_depth_page(entry: Entry, *, folder: Path, phantoms: bool = False) -> Path:
    """Write depth.html and get its path.

    Args:
        entry: what depth.json holds.
        folder: where the page goes.
        phantoms: the images are procedural; the page is stamped.
    """
    path = Path(folder) / "depth.html"
    storage.write_text(path, render_depth(entry, phantoms=phantoms))
    return path


def render_depth(entry: Entry, *, phantoms: bool = False) -> str:
    """Get depth.html as text; see `write_depth_page`."""
    chosen = next(row for row in entry["curve"] if row["name"] == entry["chosen"])
    figures = [
        ("Chosen", _words(chosen, entry["of"]).removeprefix("tuning "), _lowest(chosen)),
        ("Training images", str(entry["images"]), f"in {entry['folds']} parts, each held out once"),
        (
            "Took",
            duration(entry.get("seconds")),
            f"{count(len(entry['tried']), 'trial')} of {len(entry['curve'])} depths",
        ),
    ]
    said = {
        "kind": "depth",
        "title": entry.get("data") or "Depth",
        "lead": f"{reason(entry)[:1].upper()}{reason(entry)[1:]}.",
        "figures": [{"label": label, "value": value, "detail": detail} for label, value, detail in figures],
        "phantoms": phantoms,
        "entry": entry,
        **view(entry),
    }
    return rendering.page((("depth_curve", "Score against depth"),), frame="plain.html", view=said)


def ladder(depth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Get the stages from the pixels to the head; names that are not known are counted."""
    named_stages, every = [str(name) for name in depth.get("stages") or ()], depth.get("of")
    thawed = depth.get("thawed_stages")
    if thawed is None or not every or every > 24:
        return []
    names = named_stages[:every] + [f"stage {n}" for n in range(every - len(named_stages), 0, -1)]
    return [{"name": name, "thawed": place < thawed} for place, name in enumerate(names)][::-1]
