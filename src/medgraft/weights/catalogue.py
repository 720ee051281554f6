"""What can be grafted: names, sources, licences, and what is here already."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medgraft.errors import BadWeights, UnknownName
from medgraft.weights import tensors

EMBEDDED = Path(__file__).parent / "embedded"


def embedded() -> list[dict[str, Any]]:
    """Get one row for each encoder that comes with medgraft, the default first.

    A file `weights/embedded/NAME.safetensors` with `input_spec` in its header is one; `"rank"` in it (a
    small number is better) decides which is the default.
    """
    rows = []
    for path in sorted(EMBEDDED.glob("*.safetensors")):
        facts = {"path": path, "parameters": tensors.parameters(path)}
        rows.append({"name": f"embedded:{path.stem}"} | facts | stated(tensors.metadata(path), where=path))
    return sorted(rows, key=lambda row: (float(row.get("rank", 1e9)), row["name"]))


def default_name() -> str | None:
    """Get the name of the best embedded encoder, or None where there is none."""
    rows = embedded()
    return str(rows[0]["name"]) if rows else None


def embedded_path(name: str) -> Path:
    """Get the file of an embedded encoder.

    Raises:
        UnknownName: there is none of that name.
    """
    rows = {str(row["name"]).partition(":")[2]: row["path"] for row in embedded()}
    if name not in rows:
        known = f"Known: {', '.join(rows)}." if rows else "This release comes with none; use timm:NAME or file:PATH."
        raise UnknownName(f"there is no embedded encoder named {name!r}", do=known)
    return rows[name]


def stated(words: Mapping[str, str], *, where: Path) -> dict[str, Any]:
    """Read what the header of a weight file says of itself.

    Args:
        words: the header's metadata; `input_spec` is JSON with any of arch, timm_args (what timm builds it with
            beside its name), image_size, mean, std, interpolation, licence, source, classes, rank; `arch` may
            also stand alone.
        where: the file, for messages.

    Returns:
        Any of `arch`, `timm_args`, `input_spec` (fields of InputSpec), `licence`, `source`, `classes`, `rank`.

    Raises:
        BadWeights: `input_spec` is not readable.
    """
    facts: dict[str, Any] = {"arch": words["arch"]} if "arch" in words else {}
    if "input_spec" not in words:
        return facts
    try:
        values = dict(json.loads(words["input_spec"]))
        facts |= {key: values[key] for key in ("arch", "licence", "source", "rank") if key in values}
        if isinstance(values.get("timm_args"), dict):
            facts["timm_args"] = dict(values["timm_args"])
        facts["input_spec"] = _input_spec(values)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadWeights("the input_spec in the header cannot be read", where=where) from error
    return facts | _class_names(values.get("classes"), where)


def _input_spec(values: Mapping[str, Any]) -> dict[str, Any]:
    size = values.get("size", values.get("image_size", 224))
    size = [int(size), int(size)] if isinstance(size, int | float) else [int(side) for side in size]
    spec: dict[str, Any] = {"size": size}
    for key in ("mean", "std"):
        if key in values:
            spec[key] = [float(number) for number in values[key]]
            if len(spec[key]) not in (1, 3):
                raise ValueError(key)
    if values.get("interpolation") in ("bilinear", "bicubic"):
        spec["interpolation"] = values["interpolation"]
    return spec


def _class_names(classes: Any, where: Path) -> dict[str, Any]:
    """Read class names: a list, or the name of a text file beside the weights, one class a line."""
    if isinstance(classes, list):
        return {"classes": [str(name) for name in classes]}
    if isinstance(classes, str) and Path(classes).name == classes and (where.parent / classes).is_file():
        text = (where.parent / classes).read_text(encoding="utf-8")
        return {"classes": text.splitlines()}
    return {}
