"""Write a volume as a DICOM series: one file a slice, in a folder of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.files.write import write_dicom

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_series(
    folder: Path, stored: np.ndarray, *, affine: np.ndarray, facts: dict[str, Any] | None = None
) -> list[Path]:
    """Write the slices of a volume as DICOM files 0001.dcm, 0002.dcm ..., and get their paths.

    Args:
        folder: where the files go; made where it is absent.
        stored: `(D, H, W)` uint16 or int16 as it goes into the files.
        affine: index `(d, h, w)` -> RAS millimetres; its axes at right angles.
        facts: DICOM keywords of every slice, such as `{"Modality": "CT", "RescaleIntercept": -1024}`. UIDs that are
            not given follow from facts and pixels, so the same call writes the same files.

    Raises:
        ValueError: the axes of the affine are not at right angles.
    """
    from pydicom.uid import generate_uid

    facts = dict(facts or {})
    lps = _RAS_TO_LPS @ np.asarray(affine, np.float64)
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    ways = lps[:3, :3] / steps
    if not np.allclose(ways.T @ ways, np.eye(3), atol=1e-4):
        raise ValueError("a series of slices has axes at right angles; this affine has not")
    seeds = [str(sorted((key, str(value)) for key, value in facts.items())), str(lps.round(6).tolist())]
    seeds.append(hashlib.sha256(np.ascontiguousarray(stored).tobytes()).hexdigest())
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        facts.setdefault(keyword, generate_uid(entropy_srcs=[keyword, *seeds]))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, layer in enumerate(stored):
        corner = lps[:3, 3] + k * lps[:3, 0]
        paths.append(folder / f"{k + 1:04d}.dcm")
        own = {
            "SOPInstanceUID": generate_uid(entropy_srcs=["SOPInstanceUID", str(k), *seeds]),
            "InstanceNumber": k + 1,
            "ImagePositionPatient": _words(corner),
            "ImageOrientationPatient": _words(np.concatenate([ways[:, 2], ways[:, 1]])),
            "PixelSpacing": _words(steps[1:]),
            "SliceThickness": _words(steps[:1])[0],
            "SpacingBetweenSlices": _words(steps[:1])[0],
            "SliceLocation": _words(ways[:, 0] @ corner[:, None])[0],
        }
        write_dicom(paths[-1], layer, **{**own, **facts})
    return paths


def _words(values: np.ndarray) -> list[str]:
    """Get numbers as decimal strings, which may have 16 characters."""
    return [f"{float(value):.8f}"[:16] for value in np.atleast_1d(values)]
