"""Tensors in files: safetensors in and out, foreign .pth in; never a pickle that runs code."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgraft.errors import BadWeights
from medgraft.storage import sha256_file, write_atomic

if TYPE_CHECKING:
    import torch

__all__ = ["load", "load_model", "metadata", "parameters", "save", "save_model", "sha256_file"]

MAX_HEADER_BYTES = 16_000_000
MAX_TENSORS = 100_000
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher")
_PREFIXES = ("module.", "_orig_mod.")
_AGAIN = "Get the file again; it may have been cut short while it was copied."


def header(path: Path) -> dict[str, Any]:
    """Read the header of a .safetensors file: tensor names, shapes and the metadata, no tensor.

    Raises:
        BadWeights: no safetensors file, cut short, or a header beyond the caps.
        Source: the format's own description, safetensors README.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= size - 8:
            raise BadWeights("this is no .safetensors file, or it was cut short", where=path, do=_AGAIN)
        if length > MAX_HEADER_BYTES:
            raise BadWeights(f"the header has {length} bytes, more than the {MAX_HEADER_BYTES} allowed", where=path)
        text = file.read(length)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadWeights("the header cannot be read", where=path, do=_AGAIN) from error
    if not isinstance(values, dict) or not all(isinstance(row, dict) for row in values.values()):
        raise BadWeights("the header cannot be read", where=path, do=_AGAIN)
    count = len(values) - ("__metadata__" in values)
    if count > MAX_TENSORS:
        raise BadWeights(f"the file holds {count} tensors, more than the {MAX_TENSORS} allowed", where=path)
    return values


def metadata(path: Path) -> dict[str, str]:
    """Read the words in the header of a .safetensors file."""
    return {str(key): str(value) for key, value in header(path).get("__metadata__", {}).items()}


def parameters(path: Path) -> int:
    """Count the numbers in a .safetensors file that training changes: all but those measured by BatchNorm."""
    tensors = {name: row["shape"] for name, row in header(path).items() if name != "__metadata__"}
    return sum(math.prod(shape) for name, shape in tensors.items() if "running_" not in name)


def load(path: Path) -> dict[str, torch.Tensor]:
    """Load the tensors of a weight file on the CPU: .safetensors, or .pth, .pt, .bin holding tensors only.

    Wrappers that training scripts put around weights ("state_dict", "model") are taken off.

    Raises:
        BadWeights: damaged, beyond the caps, or holding anything but tensors.
    """
    if not path.is_file():
        raise BadWeights("there is no such file", where=path)
    if _is_safetensors(path):
        return _load_safetensors(path)
    return _load_pickled(path)


def _is_safetensors(path: Path) -> bool:
    if path.suffix == ".safetensors":
        return True
    with open(path, "rb") as file:
        return file.read(9)[8:9] == b"{"


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    header(path)
    try:
        return load_file(path)
    except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
        raise BadWeights(f"the file is damaged ({error})", where=path, do=_AGAIN) from error


def _load_pickled(path: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged and for unsafe files
        raise BadWeights(
            "the file is damaged, or holds more than tensors and is not opened for safety",
            where=path,
            do="Save its state_dict() as .safetensors, then give that file.",
        ) from error
    for key in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or len(found) > MAX_TENSORS:
        raise BadWeights("the file holds no table of weights", where=path)
    state = {_bare(str(key)): value for key, value in found.items() if isinstance(value, torch.Tensor)}
    if not state:
        raise BadWeights("the file holds no weights", where=path)
    return state


def _bare(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def save(path: Path, *, state: Mapping[str, torch.Tensor], words: Mapping[str, str]) -> None:
    """Write tensors as .safetensors, whole or not at all.

    Args:
        path: the file.
        state: name -> tensor, on any device; tensors that share memory are written each.
        words: goes into the header.

    Raises:
        DiskFull: there is no space; the former file is intact.
    """
    from safetensors.torch import save as to_bytes

    plain = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    data = to_bytes(plain, metadata=dict(words))
    write_atomic(path, lambda file: _write(file, data), needed_bytes=len(data))


def _write(file: Any, data: bytes) -> None:
    file.write(data)


def save_model(path: Path, *, state: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> None:
    """Write a trained model with its card (task, classes, InputSpec, calibration ...) in the header."""
    save(path, state=state, words={"medgraft_card": json.dumps(card, ensure_ascii=False, allow_nan=False)})


def load_model(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Load what `save_model` wrote: (state, card).

    Raises:
        BadWeights: no such file, damaged, or no model of medgraft.
    """
    if not path.is_file():
        raise BadWeights("there is no such file", where=path)
    try:
        card = json.loads(metadata(path).get("medgraft_card", ""))
    except (ValueError, RecursionError) as error:
        raise BadWeights("this is no model of medgraft: its header has no card", where=path) from error
    if not isinstance(card, dict):
        raise BadWeights("this is no model of medgraft: its header has no card", where=path)
    return _load_safetensors(path), card
