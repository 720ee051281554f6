"""Everything that reads an image: PNG, JPEG, TIFF, BMP, WEBP, GIF, DICOM, NIfTI, npy and npz.

Content decides what a file is, its name only breaks ties. One format is one
row of `FORMATS`; each row opens a `Format` (see `form.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgraft.registry import Registry

if TYPE_CHECKING:
    from medgraft.files.dicom import referred
    from medgraft.files.form import MAX_BYTES, Format, Header, Wish
    from medgraft.files.label_map import LabelMap, grid_of, read_label_map
    from medgraft.files.listing import list_images
    from medgraft.files.pixels import (
        content_key,
        file_corners,
        fingerprint,
        network_corners,
        network_pixels,
        read_measured,
        read_pixels,
        way_back,
    )
    from medgraft.files.pool import read_many
    from medgraft.files.pyramid import write_pyramid
    from medgraft.files.read import header, read_image
    from medgraft.files.series import write_series
    from medgraft.files.slide import Level, Slide, open_slide
    from medgraft.files.write import save_nifti, save_png, write_dicom
    from medgraft.files.write_boxes import (
        Pictured,
        write_box_table,
        write_coco,
        write_coco_results,
        write_geojson,
        write_voc,
        write_yolo,
    )

FORMATS = Registry(
    "format",
    {
        "raster": "medgraft.files.raster:FORMAT",
        "dicom": "medgraft.files.dicom:FORMAT",
        "nifti": "medgraft.files.nifti:FORMAT",
        "array": "medgraft.files.array:FORMAT",
    },
)

_HOMES = {
    "MAX_BYTES": "form",
    "Format": "form",
    "Header": "form",
    "Wish": "form",
    "header": "read",
    "read_image": "read",
    "list_images": "listing",
    "LabelMap": "label_map",
    "grid_of": "label_map",
    "read_label_map": "label_map",
    "read_many": "pool",
    "network_pixels": "pixels",
    "read_pixels": "pixels",
    "content_key": "pixels",
    "fingerprint": "pixels",
    "file_corners": "pixels",
    "network_corners": "pixels",
    "read_measured": "pixels",
    "way_back": "pixels",
    "referred": "dicom",
    "save_nifti": "write",
    "save_png": "write",
    "write_dicom": "write",
    "Pictured": "write_boxes",
    "write_box_table": "write_boxes",
    "write_coco": "write_boxes",
    "write_coco_results": "write_boxes",
    "write_geojson": "write_boxes",
    "write_voc": "write_boxes",
    "write_yolo": "write_boxes",
    "write_pyramid": "pyramid",
    "Level": "slide",
    "Slide": "slide",
    "open_slide": "slide",
    "write_series": "series",
}

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "Format",
    "Header",
    "LabelMap",
    "Pictured",
    "Level",
    "Slide",
    "Wish",
    "content_key",
    "fingerprint",
    "grid_of",
    "header",
    "list_images",
    "network_pixels",
    "open_slide",
    "referred",
    "read_image",
    "read_label_map",
    "read_many",
    "read_pixels",
    "save_nifti",
    "save_png",
    "file_corners",
    "network_corners",
    "read_measured",
    "way_back",
    "write_box_table",
    "write_coco",
    "write_coco_results",
    "write_dicom",
    "write_geojson",
    "write_voc",
    "write_yolo",
    "write_pyramid",
    "write_series",
]


def __getattr__(name: str) -> Any:
    """Open a public name on first use, so that importing this room costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
