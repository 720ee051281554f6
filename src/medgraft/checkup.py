"""What `medgraft doctor` says: versions, device, threads, formats and codecs, what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from medgraft import storage
from medgraft.version import VERSION

_OPTIONAL = {
    "onnxruntime": ("export to ONNX", "pip install 'medgraft[onnx]'"),
    "transformers": ("models that outline what a prompt shows", "pip install 'medgraft[sam]'"),
}
_IN_WORDS = {
    "raster": "PNG, JPEG, TIFF, BMP, WEBP, GIF",
    "dicom": "DICOM",
    "nifti": "NIfTI",
    "array": "npy, npz",
}
_DECODERS = {
    "JPEG 2000": "pip install pylibjpeg pylibjpeg-openjpeg",
    "High-Throughput": "pip install pylibjpeg pylibjpeg-openjpeg",
    "RLE": "pip install pylibjpeg pylibjpeg-rle",
}
_NO_DECODER = "no package is known; convert these files"
_PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "pydicom", "nibabel", "pillow", "numpy")


def doctor() -> dict[str, Any]:
    """Get {"facts": {name: text}, "missing": [{"what", "do"}]}."""
    import torch

    facts: dict[str, str] = {
        "medgraft": VERSION,
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: _version(name) for name in _PACKAGES},
        "device": _device(torch),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        "instructions of the processor": torch.backends.cpu.get_cpu_capability(),
        "cache folder": f"{storage.home()} ({_free()} free)",
        **_reading(),
    }
    missing = [{"what": what, "do": do} for package, (what, do) in _OPTIONAL.items() if find_spec(package) is None]
    return {"facts": facts, "missing": missing + _unread()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _device(torch: Any) -> str:
    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return "cpu (no CUDA device)"


def _free() -> str:
    folder = storage.home()
    while not folder.exists():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 1e9:.0f} GB"


def _reading() -> dict[str, str]:
    from medgraft.files import FORMATS
    from medgraft.files.dicom_pixels import codecs

    read = list(dict.fromkeys(name.split(" (")[0] for _, name, available in codecs() if available))
    return {"formats": ", ".join(_IN_WORDS.get(name, name) for name in FORMATS), "DICOM codecs": ", ".join(read)}


def _unread() -> list[dict[str, str]]:
    """The compressed kinds of DICOM that no package here decodes, and the package that would."""
    from medgraft.files.dicom_pixels import codecs

    return [
        {"what": f"DICOM files in {name} ({uid})", "do": _DECODERS.get(_family(name), _NO_DECODER)}
        for uid, name, available in codecs()
        if not available
    ]


def _family(name: str) -> str:
    return next((word for word in _DECODERS if name.startswith(word)), "")
