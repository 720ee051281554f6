"""A trained model for other programs, checked there against this one."""

from __future__ import annotations

import contextlib
import copy
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medgraft.errors import BadRecipe, MissingExtra, UserError
from medgraft.opened import Run
from medgraft.tasks.localise import Localise

FORMATS = ("onnx", "torchscript", "safetensors")
_CHECKED = 8
_TOLERANCE = 1e-3


class Deployed(nn.Module):
    """The net as others run it: pixels in 0..1 in, probabilities (or the number), logits and severities of zones out.

    Normalisation, calibration and the correction for weighted classes are inside, so no other program can forget them.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(self, run: Run) -> None:
        super().__init__()
        task, spec = run.model.task, run.model.spec
        self.task = copy.deepcopy(task).cpu()
        self.kind = task.answer_kind
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(spec.mean).view(shape))
        self.register_buffer("std", torch.tensor(spec.std).view(shape))
        self.register_buffer("temperature", torch.tensor(task.temperature))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        logits = self.task.corrected(self.task((pixels - self.mean) / self.std))
        if isinstance(self.task, Localise):
            return self.answers(logits), logits, self.task.severities(logits)
        return self.answers(logits), logits

    def answers(self, logits: Tensor) -> Tensor:
        """Get probabilities, or the number, of logits."""
        logits = self.task.named_logits(logits)
        scaled = logits / self.temperature
        if self.kind == "number":
            return logits * self.task.answers.scale + self.task.answers.centre
        if self.kind == "labels":
            return scaled.sigmoid()
        if self.kind == "ordinal":
            above = scaled.sigmoid()
            ends = torch.ones_like(above[:, :1])
            return torch.cat([ends, above], 1) - torch.cat([above, 0 * ends], 1)
        return scaled.softmax(1)


def export(run: Run, *, out: Path, format: str) -> dict[str, Any]:
    """Write the model and check it.

    Args:
        run: a finished run.
        out: the file.
        format: one of `FORMATS`.

    Returns:
        {"format", "images": how many were compared, "largest_difference": of any output from the same net in float32,
        "difference_from_predict": of any probability or number from what `predict` gives, which is more for a run
        whose precision is bfloat16}.

    Raises:
        BadRecipe: no such format, or `out` is a folder.
        MissingExtra: ONNX is wanted and not installed.
        UserError: the written file gives other numbers; it is not kept.
    """
    if format not in FORMATS:
        raise BadRecipe(f"there is no export format {format!r}", do=f"Known: {', '.join(FORMATS)}.")
    if out.is_dir():
        raise BadRecipe("this is a folder, not a file", where=out, do=f"Give a file, such as {out / 'model'}.{format}.")
    if format == "safetensors":
        shutil.copyfile(run.folder / "model.safetensors", _folder(out) / out.name)
        return {"format": format, "images": 0, "largest_difference": 0.0, "difference_from_predict": 0.0}
    net = Deployed(run).float().eval()
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    pixels = run.model.pixels
    stored = _pictures(pixels.channels, pixels.size)
    batch = torch.from_numpy(stored).float() / 255
    with torch.inference_mode():
        expected = [part.numpy() for part in net(batch)]
    with tempfile.TemporaryDirectory(dir=_folder(out)) as folder:
        made = Path(folder) / "model"
        found = _onnx(net, batch, made, outputs=len(expected)) if format == "onnx" else _torchscript(net, batch, made)
        difference = max(float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True))
        size = max(1.0, *(float(np.abs(part).max()) for part in expected))
        if not difference <= _TOLERANCE * size:
            raise UserError(f"the {format} file gives other numbers (up to {difference:.2g})", where=out)
        shutil.move(made, out)
    with torch.inference_mode():
        ours = net.answers(torch.from_numpy(run.predictor.seen(stored)[0]).float()).numpy()
    apart = float(np.abs(ours - found[0]).max())
    return {
        "format": format,
        "images": _CHECKED,
        "largest_difference": difference,
        "difference_from_predict": apart,
    }


def _pictures(channels: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth random pictures, uint8: nearer to images than noise is."""
    coarse = torch.rand(_CHECKED, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=size, mode="bilinear") * 255).round().to(torch.uint8).numpy()


def _folder(out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.parent


def _torchscript(net: nn.Module, batch: Tensor, path: Path) -> list[np.ndarray]:
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, batch), path)
        return [part.numpy() for part in torch.jit.load(path)(batch)]


@contextlib.contextmanager
def _hushed(library: str) -> Iterator[None]:
    """Keep a library from telling the user how it optimises."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _onnx(net: nn.Module, batch: Tensor, path: Path, *, outputs: int) -> list[np.ndarray]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        do = "Install it with: pip install 'medgraft[onnx]'"
        raise MissingExtra(f"ONNX export needs the package {error.name}", do=do) from error
    with warnings.catch_warnings(), _hushed("onnxscript"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (batch,),
            dynamo=True,
            input_names=["pixels"],
            output_names=["probabilities", "logits", "severities"][:outputs],
            dynamic_shapes={"pixels": {0: torch.export.Dim("images")}},
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [np.asarray(part) for part in session.run(None, {"pixels": batch.numpy()})]
