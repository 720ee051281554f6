"""What one decode tells about one image: hashes, a thumbnail, numbers for the survey.

`image_facts` is the work function of `files.read_many`: it runs in a worker
process, costs one decode, and may make the network pixels by the way, so that
the survey and the store share that decode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.errors import MedgraftError
from medgraft.storage import sha256_file
from medgraft.values import Image, ImageRef, Sample

THUMBNAIL = 64  # side in pixels: enough to tell two chest X-rays apart, 4 KB an image


def image_facts(ref: ImageRef, network: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Decode one image once and get its record, picklable.

    Args:
        ref: where the image is.
        network: what `files.network_pixels` takes (size, channels, fit, interpolation) and optionally
            `window`, (centre, width); None makes no network pixels.

    Returns:
        key (the reference as text; `facts_of` puts the sample's key there), sha256 of the file's bytes,
        content (hex, the same for equal decoded pixels), thumbnail (uint8, 64 x 64, gray, stretched),
        shape (C, [D,] H, W), bits, spacing_mm, mean, std, low, high (file's own unit), unit, gray,
        saturation and corners (0..1, of the displayed picture), notes, facts, error (None),
        and pixels (C, H, W) when `network` is given.

    Raises:
        BadImage: the file cannot be read as an image.
    """
    from medgraft import files

    wanted = dict(network or {})
    window = wanted.pop("window", None)
    image = files.read_image(ref, window=None if window is None else (float(window[0]), float(window[1])))
    record = _numbers(image) | _look(image)
    record |= {
        "key": str(ref),
        "sha256": source_sha256(ref),
        "content": files.content_key(image),
        "shape": list(image.pixels.shape),
        "bits": int(image.bits),
        "unit": image.unit,
        "spacing_mm": None if image.spacing_mm is None else [float(v) for v in image.spacing_mm],
        "notes": list(image.notes),
        "facts": {str(k): str(v) for k, v in image.facts.items()},
        "error": None,
    }
    if network is not None:
        wanted["size"] = tuple(wanted["size"])
        record["pixels"] = files.network_pixels(image, **wanted)
    return record


def facts_of(samples: Sequence[Sample], *, workers: int = 0, network: Mapping[str, Any] | None = None) -> list[dict]:
    """Get the record of every sample, in order; an unreadable file gives a record with its `error`.

    Example:
        >>> facts_of([])
        []
    """
    if not samples:
        return []
    from medgraft import files

    records: list[dict] = [{} for _ in samples]
    refs = [sample.image for sample in samples]
    for index, result in files.read_many(refs, partial(image_facts, network=network), workers=workers):
        records[index] = named(samples[index], result)
    return records


def named(sample: Sample, result: dict[str, Any] | MedgraftError) -> dict[str, Any]:
    """Get one result of `read_many` as the record of its sample; an error becomes a record with `error`."""
    if isinstance(result, MedgraftError):
        why = result.what if result.do is None else f"{result.what.rstrip('.')}. {result.do}"
        return {"key": sample.key, "sha256": _sha256_or_empty(sample.image), "content": "", "error": why}
    return {**result, "key": sample.key}


def source_sha256(ref: ImageRef) -> str:
    """Get the sha256 of the file's bytes (of an npz for its arrays); of a series, of its files' hashes in order."""
    if ref.files:
        parts = sorted(_cached_sha256(path, *_stamp(path)) for path in ref.files)
        return hashlib.sha256("".join(parts).encode()).hexdigest()
    path = ref.path.parent if ref.path.parent.suffix.lower() == ".npz" and ref.path.parent.is_file() else ref.path
    return _cached_sha256(path, *_stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=256)  # the rows of one array file share its hash
def _cached_sha256(path: Path, size: int, changed_ns: int) -> str:
    return sha256_file(path)


def _sha256_or_empty(ref: ImageRef) -> str:
    try:
        return source_sha256(ref)
    except OSError:
        return ""


def _numbers(image: Image) -> dict[str, float]:
    """Mean, spread and extremes in the file's unit; NaN is left out."""
    pixels = image.pixels
    total = float(pixels.sum(dtype=np.float64))
    if not np.isfinite(total):
        pixels = pixels[np.isfinite(pixels)]
    if pixels.size == 0:
        return {"mean": 0.0, "std": 0.0, "low": 0.0, "high": 0.0}
    return {
        "mean": float(pixels.mean(dtype=np.float64)),
        "std": float(pixels.std(dtype=np.float64)),
        "low": float(pixels.min()),
        "high": float(pixels.max()),
    }


def _look(image: Image) -> dict[str, Any]:
    """The small gray picture, and how colourful the displayed image is and how dark its corners are."""
    from medgraft import files

    flat = _middle(image)
    colour = flat.pixels.shape[0] >= 3
    small = files.network_pixels(flat, size=(THUMBNAIL, THUMBNAIL), channels=3 if colour else 1, fit="stretch")
    shown = small.astype(np.float32) / (255.0 if small.dtype == np.uint8 else 65535.0)
    luma = shown[0] if not colour else np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), shown[:3], axes=1)
    spread = shown.max(axis=0) - shown.min(axis=0)
    saturation = float(spread.mean() / max(float(shown.max(axis=0).mean()), 1e-6)) if colour else 0.0
    edge = THUMBNAIL // 10
    corners = [luma[:edge, :edge], luma[:edge, -edge:], luma[-edge:, :edge], luma[-edge:, -edge:]]
    return {
        "thumbnail": np.rint(np.clip(luma, 0, 1) * 255).astype(np.uint8),
        "gray": not colour or saturation < 0.02,
        "saturation": saturation,
        "corners": float(np.mean([np.mean(corner) for corner in corners])),
        "rgb": [float(channel.mean()) for channel in shown[:3]] if colour else None,
    }


def _middle(image: Image) -> Image:
    """The middle slice of a volume; a flat image as it is."""
    if image.pixels.ndim == 3:
        return image
    middle = image.pixels.shape[1] // 2
    return Image(
        pixels=image.pixels[:, middle], range=image.range, source=image.source, unit=image.unit, bits=image.bits
    )
