"""Pictures under their maps, and the page that shows them with what the maps are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from medgraft import storage
from medgraft.report import pictures, rendering
from medgraft.report.phrases import count, decimal

# From clear to deep red by way of yellow: read as heat, and told apart in print and by the colour-blind.
_HEAT = np.array([[255, 255, 178], [254, 204, 92], [253, 141, 60], [240, 59, 32], [189, 0, 38]], np.float32)
STAMP = "FAILS ITS CHECKS"
PAGE_PIXELS = 320  # the longer side of a picture on the page
_LEGIBLE = 160  # pixels that the words of the stamp need
_BARS = 4  # a picture lower than so many bars gets the stamp below it, lest it be covered
_CLEAR, _MOST = 0.15, 0.75  # values below are not shown; opacity of the largest


def laid_over(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Get a picture under its map, `(H, W, 3)` uint8.

    Args:
        picture: `(H, W)` or `(H, W, 3)` uint8.
        values: `(H, W)` in 0..1.
    """
    below = np.repeat(picture[..., None], 3, axis=-1) if picture.ndim == 2 else picture
    place = np.clip(values, 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    colour = _HEAT[low] + (_HEAT[low + 1] - _HEAT[low]) * (place - low)[..., None]
    opacity = (np.clip((values - _CLEAR) / (1 - _CLEAR), 0, 1) ** 0.7 * _MOST)[..., None]
    return np.rint(below * (1 - opacity) + colour * opacity).astype(np.uint8)


def stamped(picture: np.ndarray, words: str) -> np.ndarray:
    """Get a picture `(H, W, 3)` uint8 with words on a red bar across its foot.

    One that is too small for the words is enlarged first; too narrow, it gets a margin; too low, the bar lies below it.
    """
    picture = _enlarged(picture)
    height, width = picture.shape[0], max(picture.shape[1], _LEGIBLE)
    size = min(width, 640) // 16
    below = 2 * size if height < _BARS * 2 * size else 0
    drawn = Pillow.new("RGB", (width, height + below))
    drawn.paste(Pillow.fromarray(picture), (0, 0))
    pen = ImageDraw.Draw(drawn)
    pen.rectangle((0, height + below - 2 * size, width, height + below), fill=(160, 0, 0))
    pen.text((size // 2, height + below - 1.6 * size), words, fill=(255, 255, 255), font_size=size)
    return np.asarray(drawn)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """A tiny picture by a whole number, with hard edges of its pixels; others as they are."""
    times = -(-_LEGIBLE // max(picture.shape[:2]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def for_page(picture: np.ndarray, *, faults: Sequence[str], most: int = PAGE_PIXELS) -> np.ndarray:
    """Get a picture under its map as a page shows it: its longer side not above `most`, stamped where it has faults."""
    side = pictures.reduced(_enlarged(picture), most=most)
    return stamped(side, STAMP) if faults else side


def beside(row: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the card of an image in a gallery shows of its map: nothing where it has none.

    Args:
        row: of the gallery; "image" uint8, "map" `(H, W)` in 0..1, "shows" a text or nothing, "faults" texts.
    """
    if row.get("map") is None:
        return {}
    under = laid_over(np.asarray(row["image"]), np.asarray(row["map"]))
    address = pictures.data_uri(for_page(under, faults=row["faults"]), most=PAGE_PIXELS)
    return {"map": address, "shows": row.get("shows"), "faults": list(row["faults"])}


def _figures(row: Mapping[str, Any]) -> str:
    """What a map is worth in a line."""
    said = [f"alike with random weights {decimal(row['randomised'], 2)}"]
    if row["deletion"] is None:
        said.append("hiding and showing was not tried")
    else:
        said.append(f"deletion {decimal(row['deletion'], 2)}, insertion {decimal(row['insertion'], 2)}")
    if row.get("inside") is not None:
        whole = f"{row['area']:.1%} of the image" if "area" in row else f"{row['part']:.1%} of what was looked at"
        said.append(f"{row['inside']:.0%} of the map inside the box, which is {whole}")
    return "; ".join(said)


def write_maps_page(
    told: Mapping[str, Any], shown: Sequence[np.ndarray], *, folder: Path, most: int = PAGE_PIXELS
) -> Path:
    """Write explain.html and get its path.

    Args:
        told: what explain.json holds.
        shown: the pictures under their maps as of `for_page`, in the order of the images that could be read.
        folder: where the page goes.
        most: pixels of the longer side of a picture.
    """
    readable = [row for row in told["images"] if "error" not in row]
    cards = [
        {
            **row,
            "address": pictures.data_uri(picture, most=most),
            "figures": _figures(row),
        }
        for row, picture in zip(readable, shown, strict=True)
    ]
    pointing, aim, of = told.get("pointing"), told.get("aim", "mask"), told.get("of", "image")
    figures = [
        ("Maps", str(told["count"]), f"by {told['method']}"),
        ("Failed their checks", str(told["failed"]), "stamped"),
    ]
    if pointing:
        ends = f"{pointing['low']:.0%} to {pointing['high']:.0%}"
        figures.append(
            (f"Pointed at the {aim}", f"{pointing['share']:.0%}", f"{pointing['hits']} of {pointing['n']}; 95 % {ends}")
        )
    said = {
        "kind": "explain",
        "title": "Where it looked",
        "lead": f"{count(told['count'], of)}, a map each. It shows what the answer rests on, not what is ill.",
        "figures": [{"label": label, "value": value, "detail": detail} for label, value, detail in figures],
        "aim": aim,
        "elsewhere": told.get("elsewhere", "the same map laid on ten other places"),
        "cards": cards,
        "nothing": told.get("nothing") or [],
        "unread": [row for row in told["images"] if "error" in row],
    }
    path = Path(folder) / "explain.html"
    storage.write_text(path, rendering.page((("map_cards", "Maps"),), frame="plain.html", view=said))
    return path
