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
    "libjpeg": ("a second decoder of JPEG in DICOM (GPL-3.0)", "pip install 'medgraft[libjpeg]'"),
}
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
        "bfloat16": torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else "unknown",
        "cache folder": f"{storage.home()} ({_free()} free)",
        **_reading(),
    }
    missing = [{"what": what, "do": do} for package, (what, do) in _OPTIONAL.items() if find_spec(package) is None]
    return {"facts": facts, "missing": missing}


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

    return {"formats": ", ".join(FORMATS)}
