"""A small model of medgraft's own that outlines what a prompt shows: a `PromptNet` over a pyramid of pictures.

A box or a mask is answered in a window around it. Of a point it cannot be known how large the structure is that is
meant: it is answered once at each size of the pyramid, and these answers are the candidates.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medgraft.errors import BadWeights
from medgraft.nets.prompt_net import GRID, SIDE, PromptNet, planes_of
from medgraft.nets.prompter import (
    Answer,
    Candidates,
    Embedding,
    Guess,
    PromptFrame,
    TeachablePrompter,
    size_prior,
    stability,
)
from medgraft.values import Prompt
from medgraft.weights import tensors

ARM = "pyramid"
BOX_ROOM, MASK_ROOM, POINT_ROOM = 1.3, 1.4, 1.3  # how many times wider a window is than what it is around
_LEAST, _MOST = 2, 3  # how often a pyramid doubles from SIDE pixels up
WIDEST = 1.1  # of a window in pixels of its size of the pyramid, as a multiple of SIDE
_RIM = 16  # pixels around a picture that are empty
_COARSE = 256  # side of what is guessed of a whole picture
_NOT = -10.0  # logits beyond a window
_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class _Level:
    """A picture at one size: where its pixels are, and what the net keeps of it."""

    frame: PromptFrame
    kept: list[Tensor]


@dataclass(frozen=True, eq=False)
class _Window:
    """Where a prompt is answered.

    Attributes:
        edges: x0, y0, x1, y1 in pixels of the file, a square.
        level: number of the size of the pyramid, the smallest is 0.
        prompt: what is asked there.
    """

    edges: np.ndarray
    level: int
    prompt: Prompt


class PyramidPrompter(TeachablePrompter):
    """A net and its pyramid.

    Args:
        net: as trained.
        mean: that is taken away of pixels in 0..1.
        std: by which they are divided.
        facts: name, source, licence and sha256.
        device: "cpu", "cuda" or "cuda:1".
    """

    # Best on procedural scenes, of which it says less of itself than SAM of photographs.
    sure = (0.6, 0.6)

    def __init__(
        self, net: PromptNet, *, mean: float, std: float, facts: Mapping[str, str], device: str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.net = self.prompt_net = net.eval().to(self.device)
        laid_out: Any = net
        laid_out.to(memory_format=torch.channels_last)
        self.backbone = net.encoder
        self.head = nn.ModuleDict({name: part for name, part in net.named_children() if name != "encoder"})
        self.mean, self.std = mean, std
        for name, value in facts.items():
            setattr(self, name, value)

    def described(self) -> dict[str, Any]:
        own = self.backbone
        return {"arm": ARM, "arch": own.architecture, "options": own.options, "mean": self.mean, "std": self.std}

    def embed(self, picture: np.ndarray) -> Embedding:
        shape = (int(picture.shape[0]), int(picture.shape[1]))
        # Twice as fine as the file, so that what is small is drawn by more than some pixels.
        doubled = min(_MOST, max(_LEAST, round(math.log2(2 * max(shape) / SIDE))))
        # Half of SIDE is for boxes around nearly all of a picture, whose windows are larger than it.
        frames = [PromptFrame.fitted(shape, SIDE << times >> 1) for times in range(doubled + 2)]
        levels = [_Level(frame, self._seen(picture, frame)) for frame in frames]
        return Embedding(frames[-1], levels)

    def _seen(self, picture: np.ndarray, frame: PromptFrame) -> list[Tensor]:
        # Windows are read from planes one after the other: brought to that once, and not at each prompt.
        return [level.contiguous() for level in self.prompt_net.see(self._pixels(picture, frame))]

    def _pixels(self, picture: np.ndarray, frame: PromptFrame) -> Tensor:
        from torchvision.transforms.v2 import functional as transforms

        channels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(self.device)
        sized = transforms.resize(channels.float() / 255, list(frame.to_shape), antialias=True)
        height, width = frame.to_shape
        rest = [_RIM + (-(side + 2 * _RIM)) % 32 for side in (width, height)]
        padded = functional.pad((sized - self.mean) / self.std, (_RIM, rest[0], _RIM, rest[1]))
        return padded.to(memory_format=torch.channels_last)

    def answer(self, embedding: Embedding, prompts: Sequence[Prompt]) -> Answer:
        asked = [windows_of(embedding, prompt) for prompt in prompts]
        logits, quality = self._answers(embedding, [window for some in asked for window in some])
        edges = np.array([[window.edges for window in some] for some in asked])
        each = edges.shape[:2]
        return Answer(logits.unflatten(0, each), quality.unflatten(0, each), edges)

    @torch.inference_mode()
    def guess(self, embedding: Embedding, prompts: Sequence[Prompt]) -> Guess:
        found = self.answer(embedding, prompts)
        side = float(max(embedding.frame.shape))
        laid = pasted(found.logits.flatten(0, 1), found.edges.reshape(-1, 4), (side, side), (_COARSE, _COARSE))
        return Guess(laid.unflatten(0, found.edges.shape[:2]), found.quality)

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompt: Prompt) -> Candidates:
        if len(prompt) != 1:
            raise ValueError("a prompt of several structures is parted by Prompt.each")
        found = self.answer(embedding, [prompt])
        height, width = embedding.frame.shape
        masks = np.zeros((len(found.edges[0]), height, width), bool)
        firm = np.zeros(len(masks))
        for number, (one, edges) in enumerate(zip(found.logits[0], found.edges[0], strict=True)):
            # Beyond the window nothing is drawn, and nothing is looked at: large pictures are mostly beyond it.
            rows, columns, fine = window_on(one, edges, extent=(float(height), float(width)), shape=(height, width))
            masks[number, rows, columns] = (fine > 0).cpu().numpy()
            firm[number] = stability(fine[None])[0]
        return Candidates(masks, found.quality[0].double().cpu().numpy(), firm, size_prior(found.edges[0]))

    def _answers(self, embedding: Embedding, windows: Sequence[_Window]) -> tuple[Tensor, Tensor]:
        """Logits `(P, GRID, GRID)` and foreseen overlaps `(P, )` of windows, those of one size together."""
        order: list[int] = []
        drawn: list[Tensor] = []
        foreseen: list[Tensor] = []
        for number, level in enumerate(embedding.features):
            rows = [k for k, window in enumerate(windows) if window.level == number]
            for start in range(0, len(rows), _AT_ONCE):
                some = rows[start : start + _AT_ONCE]
                logits, quality = self._answered(level, [windows[k] for k in some])
                order += some
                drawn.append(logits.float())
                foreseen.append(quality.float().sigmoid())
        back = torch.tensor(np.argsort(order), device=self.device)
        return torch.cat(drawn)[back], torch.cat(foreseen)[back]

    def _answered(self, level: _Level, windows: Sequence[_Window]) -> tuple[Tensor, Tensor]:
        frame = level.frame
        edges = np.stack([frame.places(window.edges) for window in windows])
        where = torch.tensor(edges, dtype=torch.float32, device=self.device)
        # roi_align leaves out what is beyond the picture, as training did.
        read = self.prompt_net.read(level.kept, functional.pad(where + _RIM, (1, 0)))
        height, width = frame.to_shape
        most = max(1, *(len(window.prompt.points) for window in windows))
        points = np.full((len(windows), most, 3), -1.0)
        boxes = np.full((len(windows), 4), np.nan)
        before = torch.zeros(len(windows), GRID, GRID, device=self.device)
        for row, window in enumerate(windows):
            prompt = window.prompt
            points[row, : len(prompt.points), :2] = frame.places(prompt.points[:, :2] + 0.5)
            points[row, : len(prompt.points), 2] = prompt.points[:, 2]
            if len(prompt.boxes):
                boxes[row] = frame.places(prompt.boxes[0])
            if prompt.mask is not None:
                before[row] = _guessed(prompt.mask, window.edges).to(self.device)
        planes = planes_of(
            where,
            picture=where.new_tensor([[0.0, 0.0, width, height]]).expand(len(windows), 4),
            points=torch.tensor(points, dtype=torch.float32, device=self.device),
            boxes=torch.tensor(boxes, dtype=torch.float32, device=self.device),
            before=before,
        )
        return self.prompt_net(read, planes)


def windows_of(embedding: Embedding, prompt: Prompt) -> list[_Window]:
    """Get where a prompt of one structure is answered: a box or a mask once, points once a size of the pyramid."""
    height, width = embedding.frame.shape
    sizes = [max(level.frame.size) / max(height, width) for level in embedding.features]
    if len(prompt.boxes) or prompt.mask is not None:
        corners = prompt.boxes[0] if len(prompt.boxes) else _bounds(prompt.mask)
        room = BOX_ROOM if len(prompt.boxes) else MASK_ROOM
        side = room * max(corners[2] - corners[0], corners[3] - corners[1], 4.0)
        edges = _square((corners[:2] + corners[2:]) / 2, side)
        return [_Window(edges, _finest(side, sizes), prompt)]
    inside = prompt.points[prompt.points[:, 2] == 1, :2] + 0.5
    low, high = inside.min(axis=0), inside.max(axis=0)
    found = []
    for size in sizes[1:]:
        side = max(SIDE / size, POINT_ROOM * float((high - low).max()))
        ends = np.array([width, height], np.float64)
        half = side / 2
        middle = np.where(ends > side, np.clip((low + high) / 2, half, np.maximum(ends - half, half)), ends / 2)
        found.append(_Window(_square(middle, side), _finest(side, sizes), prompt))
    return found


def _finest(side: float, sizes: Sequence[float]) -> int:
    """The finest size of the pyramid at which a window of `side` pixels of the file is not too wide."""
    return max((k for k, size in enumerate(sizes) if side * size <= WIDEST * SIDE), default=0)


def _square(middle: np.ndarray, side: float) -> np.ndarray:
    return np.concatenate([middle - side / 2, middle + side / 2])


def _bounds(mask: Any) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def _guessed(mask: np.ndarray, edges: np.ndarray) -> Tensor:
    """A mask `(H, W)` of the file in a window, `(GRID, GRID)` from -1 to 1."""
    from torchvision.ops import roi_align

    where = torch.tensor([[0.0, *edges]], dtype=torch.float32)
    share = roi_align(torch.from_numpy(mask.astype(np.float32))[None, None], where, GRID, 1.0, -1, aligned=True)
    return 2 * share[0, 0] - 1


def pasted(logits: Tensor, edges: np.ndarray, extent: tuple[float, float], shape: tuple[int, int]) -> Tensor:
    """Lay windows on a grid: linear within, surely not beyond.

    Args:
        logits: `(P, GRID, GRID)`.
        edges: `(P, 4)` x0, y0, x1, y1 of each in pixels of the file.
        extent: (height, width) that the grid covers, in pixels of the file, from its upper left corner.
        shape: (h, w) of the grid.

    Returns:
        `(P, h, w)`.
    """
    laid = logits.new_full((len(logits), *shape), _NOT)
    for number, (one, corners) in enumerate(zip(logits, edges, strict=True)):
        rows, columns, fine = window_on(one, corners, extent=extent, shape=shape)
        laid[number, rows, columns] = fine
    return laid


def window_on(
    logits: Tensor, edges: np.ndarray, *, extent: tuple[float, float], shape: tuple[int, int]
) -> tuple[slice, slice, Tensor]:
    """Get which rows and columns of a grid a window covers, and its logits there; arguments as in `pasted`, of one."""
    x0, y0, x1, y1 = (float(edge) for edge in edges)
    steps = [size / count for size, count in zip(extent, shape, strict=True)]
    places, lines = [], []
    for low, high, step, count in ((y0, y1, steps[0], shape[0]), (x0, x1, steps[1], shape[1])):
        first = min(count, max(0, math.ceil(low / step - 0.5)))
        last = max(first, min(count, math.floor(high / step - 0.5) + 1))
        middles = (torch.arange(first, last, device=logits.device) + 0.5) * step
        places.append(slice(first, last))
        lines.append((2 * (middles - low) / (high - low) - 1).float())
    down, across = lines
    if not len(down) or not len(across):
        return places[0], places[1], logits.new_zeros(len(down), len(across))
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)
    fine = functional.grid_sample(logits[None, None], grid[None], padding_mode="border", align_corners=False)
    return places[0], places[1], fine[0, 0]


def opened(path: Path, *, name: str, device: str = "cpu") -> PyramidPrompter:
    """Open a file that `state_of` and a header made.

    Raises:
        BadWeights: damaged, or of another net.
    """
    words = tensors.metadata(path)
    try:
        spec = dict(json.loads(words["input_spec"]))
        architecture, options = str(spec["arch"]), dict(spec["timm_args"])
        mean, std = float(spec["mean"][0]), float(spec["std"][0])
    except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise BadWeights("the header does not say what the net is", where=path) from error
    facts = {
        "name": name,
        "source": str(spec.get("source", path.name)),
        "licence": str(spec.get("licence", "")),
        "sha256": tensors.sha256_file(path),
    }
    described = {"arch": architecture, "options": options, "mean": mean, "std": std}
    return rebuilt(described, tensors.load(path), facts=facts, where=path, device=device)


def rebuilt(
    described: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    facts: Mapping[str, str],
    where: object,
    device: str = "cpu",
) -> PyramidPrompter:
    """Build what `described` was told of again, with weights that it has learnt.

    Raises:
        BadWeights: they do not fit, or `described` says nothing.
    """
    try:
        net = built(str(described["arch"]), dict(described["options"]))
        mean, std = float(described["mean"]), float(described["std"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise BadWeights("the card or header of the model does not say what the net is", where=where) from error
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise BadWeights("the card or header of the model does not say how the net sees a picture", where=where)
    state = {key: value.float() for key, value in state.items() if not key.endswith("num_batches_tracked")}
    wanted = {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    if state.keys() != wanted.keys() or any(state[key].shape != value.shape for key, value in wanted.items()):
        raise BadWeights("its weights are not those of the net that its header names", where=where)
    net.load_state_dict(state, strict=False)
    return PyramidPrompter(net, mean=mean, std=std, facts=facts, device=device)


def built(architecture: str, options: dict[str, Any]) -> PromptNet:
    """Get the net from random numbers.

    Args:
        architecture: of its encoder, as `backbone` takes it.
        options: what the encoder is built with beside its name.
    """
    from medgraft.nets.backbone import backbone

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it starts from random numbers
        return PromptNet(backbone(f"none:{architecture}", options=options))
