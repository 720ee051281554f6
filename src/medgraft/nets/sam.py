"""Segment Anything (SAM, MedSAM and others of its layout) and SAM 2, run by transformers.

Source: Kirillov et al., "Segment Anything", ICCV 2023; Ravi et al., "SAM 2", arXiv 2408.00714; Ma et al., "Segment
anything in medical images", Nat Commun 2024;15:654.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from medgraft.errors import BadWeights, MissingExtra
from medgraft.nets.prompter import Answer, Embedding, EncoderStages, Guess, PromptFrame, TeachablePrompter
from medgraft.values import Prompt

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_KINDS = {"sam": "sam", "sam2": "sam2", "sam2_video": "sam2"}  # SAM 2 is published with its memory for videos
ARM = "sam"
_GROUPS = 4  # of layers, that are frozen and tuned together
_NAMED = 3  # weights that are missing, named one by one
# Keys of a config.json by which transformers fetches code or other weights, or packs them another way.
_CODE = frozenset(["quantization_config", "auto_map", "use_kernels", "kernel_config", "trust_remote_code"])
# What a damaged description of a net raises when it is read.
_DAMAGED = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, AssertionError)


@dataclass(frozen=True)
class Sight:
    """How a model sees a picture.

    Attributes:
        side: of its square, in pixels.
        fitted: True stretches the longer side alike and pads; False stretches to the square.
        mean: per channel, for pixels in 0..1.
        std: per channel, for pixels in 0..1.
    """

    side: int
    fitted: bool = True
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    def frame(self, shape: tuple[int, int]) -> PromptFrame:
        """Get where a picture `(H, W)` is in the square."""
        return (PromptFrame.fitted if self.fitted else PromptFrame.stretched)(shape, self.side)

    def pixels(self, picture: np.ndarray, frame: PromptFrame) -> torch.Tensor:
        """Get a picture `(H, W, 3)` uint8 as what the model takes, `(1, 3, side, side)` float32."""
        from torchvision.transforms.v2 import functional as transforms

        channels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        sized = transforms.resize(channels, list(frame.to_shape), antialias=True)
        # In one step on 0..255, as the processors of these models round.
        mean, std = (torch.tensor(one) * 255.0 for one in (self.mean, self.std))
        inner = (sized.float() - mean[:, None, None]) / std[:, None, None]
        return functional.pad(inner, (0, self.side - inner.shape[3], 0, self.side - inner.shape[2]))


class SamPrompter(TeachablePrompter):
    """SAM or SAM 2.

    Args:
        model: of transformers, in eval mode.
        sight: how it sees a picture.
        facts: `name`, `source`, `licence` and `sha256`.
        device: where it runs.
    """

    def __init__(self, model: Any, sight: Sight, *, facts: Mapping[str, str], device: str = "cpu") -> None:
        self.model, self.sight = model.to(device).eval(), sight
        self.name, self.source = facts.get("name", ""), facts.get("source", "")
        self.licence, self.sha256 = facts.get("licence", ""), facts.get("sha256", "")
        self.device = torch.device(device)
        self.net = self.model
        self.backbone = EncoderStages(self.name, stages_of(self.model.vision_encoder), self.sha256)
        self.head = nn.ModuleDict(
            {name: part for name, part in self.model.named_children() if name != "vision_encoder"}
        )

    def described(self) -> dict[str, Any]:
        tiny = getattr(self.model.vision_encoder, "form", None)
        sight = {"side": self.sight.side, "fitted": self.sight.fitted}
        sight |= {"mean": list(self.sight.mean), "std": list(self.sight.std)}
        return {"arm": ARM, "config": self.model.config.to_dict(), "tiny": tiny, "sight": sight}

    def embed(self, picture: np.ndarray) -> Embedding:
        frame = self.sight.frame((int(picture.shape[0]), int(picture.shape[1])))
        pixels = self.sight.pixels(picture, frame).to(self.device)
        return Embedding(frame, self._features(pixels))

    def _features(self, pixels: torch.Tensor) -> Any:
        """What `get_image_embeddings` of transformers gives, which nothing can learn from."""
        if not hasattr(self.model, "no_memory_embedding"):
            return self.model.vision_encoder(pixels)[0]
        maps = list(self.model.get_image_features(pixels, return_dict=True).fpn_hidden_states)
        maps[-1] = maps[-1] + self.model.no_memory_embedding
        sizes = self.model.backbone_feature_sizes
        return [one.permute(1, 2, 0).view(1, -1, *size) for one, size in zip(maps, sizes, strict=False)]

    @torch.inference_mode()
    def guess(self, embedding: Embedding, prompts: Sequence[Prompt]) -> Guess:
        found = self.answer(embedding, prompts)
        return Guess(found.logits, found.quality)

    def answer(self, embedding: Embedding, prompts: Sequence[Prompt]) -> Answer:
        if len(prompts) > 1 and prompts[0].mask is not None:
            # The nets add a mask to the picture before it is laid out once a prompt.
            each = [self.answer(embedding, [prompt]) for prompt in prompts]
            logits, quality = torch.cat([one.logits for one in each]), torch.cat([one.quality for one in each])
            return Answer(logits, quality, np.concatenate([one.edges for one in each]))
        given = self._given(embedding.frame, prompts)
        told = self.model(image_embeddings=embedding.features, multimask_output=True, **given)
        frame = embedding.frame
        ways = [own * whole / to for own, whole, to in zip(frame.shape, frame.size, frame.to_shape, strict=True)]
        edges = np.broadcast_to([0.0, 0.0, ways[1], ways[0]], (*told.iou_scores[0].shape, 4))
        return Answer(told.pred_masks[0], told.iou_scores[0], edges)

    def _given(self, frame: PromptFrame, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        """Prompts as the nets take them, in their pixels."""
        given: dict[str, torch.Tensor] = {}
        if len(prompts[0].points):
            points = np.stack([one.points for one in prompts])[None]
            given["input_points"] = torch.from_numpy(frame.places(points[..., :2])).float()
            given["input_labels"] = torch.from_numpy(points[..., 2]).to(torch.int64)
        if len(prompts[0].boxes):
            boxes = np.concatenate([one.boxes for one in prompts])[None]
            given["input_boxes"] = torch.from_numpy(frame.places(boxes)).float()
        if prompts[0].mask is not None:
            config = self.model.config.prompt_encoder_config
            low = 4 * (self.sight.side // config.patch_size)
            given["input_masks"] = frame.guess(prompts[0].mask, (low, low))[None, None]
        return {name: value.to(self.device) for name, value in given.items()}


def stages_of(encoder: Any) -> list[tuple[str, nn.Module]]:
    """Get the layers of an encoder of pictures in four groups, the first layers first.

    What comes before the layers belongs to the first group, what comes after them to the last; positions, which are
    of no layer, are in none and stay as they are.
    """
    inner = getattr(encoder, "backbone", encoder)
    layers = next(getattr(inner, name) for name in ("layers", "blocks", "stages") if hasattr(inner, name))
    rest = [part for part in (*inner.children(), *encoder.children()) if part not in (layers, inner)]
    before = [part for part in rest if part is getattr(inner, "patch_embed", None)]
    after = [part for part in rest if part not in before]
    parts = np.array_split(np.arange(len(layers)), min(_GROUPS, len(layers)))
    groups = [[layers[int(k)] for k in some] for some in parts]
    groups[0] = before + groups[0]
    groups[-1] = groups[-1] + after
    return [(f"layers{number}", nn.ModuleList(group)) for number, group in enumerate(groups, start=1)]


def rebuilt(
    described: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    *,
    facts: Mapping[str, str],
    where: object,
    device: str = "cpu",
) -> SamPrompter:
    """Build what `described` was told of again, with weights that it has learnt.

    Raises:
        BadWeights: they do not fit, or `described` says nothing.
        MissingExtra: transformers is not installed.
    """
    from medgraft.nets.sam_original import tiny_encoder

    try:
        config, own, tiny = dict(described["config"]), described["sight"], described.get("tiny")
        mean, std = (tuple(float(value) for value in own[name]) for name in ("mean", "std"))
        sight = Sight(int(own["side"]), bool(own["fitted"]), mean, std)
        encoder = None if tiny is None else tiny_encoder(**tiny)
    except _DAMAGED as error:
        raise BadWeights("the card of the model does not say what the net is", where=where) from error
    model, side = built(config, state, where=where, encoder=encoder)
    if sight.side != side or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise BadWeights("the card of the model does not say how the net sees a picture", where=where)
    return SamPrompter(model, sight, facts=facts, device=device)


def library() -> Any:
    """Get the library that runs these models.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra(
            "models that outline what a prompt shows need transformers", do="pip install 'medgraft[sam]'"
        ) from error
    return transformers


def kind_of(config: Mapping[str, Any], *, where: object) -> str:
    """Tell of a config.json which model it is of: "sam" or "sam2".

    Raises:
        BadWeights: another one.
    """
    word = str(config.get("model_type", ""))
    if word not in _KINDS:
        what = f"is of the model {word!r}" if word else "names no model"
        raise BadWeights(f"its config.json {what}, and not of SAM or SAM 2", where=where, do="Name such a model.")
    return _KINDS[word]


def built(
    config: Mapping[str, Any], state: Mapping[str, torch.Tensor], *, where: object, encoder: Any = None
) -> tuple[Any, int]:
    """Build SAM or SAM 2 and put weights into it: (model, side of the square that it sees).

    Args:
        config: what its config.json holds.
        state: weights by transformers' keys; keys that it does not know (of a memory for videos) are left out.
        where: for messages.
        encoder: a module that takes the place of the encoder of pictures; it gives `(features, )`.

    Raises:
        BadWeights: weights are missing or have another shape.
        MissingExtra: transformers is not installed, or its version has no SAM 2.
    """
    transformers = library()
    kind = kind_of(config, where=where)
    names = {"sam": ("SamConfig", "SamModel"), "sam2": ("Sam2Config", "Sam2Model")}[kind]
    if not hasattr(transformers, names[1]):
        version = transformers.__version__
        raise MissingExtra(f"transformers {version} has no SAM 2", where=where, do="pip install -U transformers")
    try:
        values = {key: value for key, value in _plain(config).items() if key not in ("model_type", "architectures")}
        made = getattr(transformers, names[0])(**values)
        _check_sizes(made, encoder is not None)
        model = getattr(transformers, names[1])(made)
    except Exception as error:  # the library checks what it is told in many ways
        said = " ".join(str(error).split())[:200]
        raise BadWeights(f"its config.json builds no model ({said})", where=where) from error
    if encoder is not None:
        model.vision_encoder = encoder
    _fill(model, state, where)
    return model, int(made.prompt_encoder_config.image_size)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json without what makes transformers fetch and run code, and of no other model within.

    Raises:
        ValueError: a part is no JSON object, or of another model.
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        if "_implementation" in key or key in _CODE:
            continue
        if key.endswith("_config") and value is not None:
            if not isinstance(value, Mapping):
                raise ValueError(f"{key} is no JSON object")
            if not str(value.get("model_type") or "sam").startswith("sam"):
                raise ValueError(f"{key} is of the model {value['model_type']!r}")
        found[key] = _plain(value) if isinstance(value, Mapping) else value
    return found


def _check_sizes(made: Any, own_encoder: bool) -> None:
    """Check that the encoder of pictures and that of prompts mean the same square.

    Raises:
        ValueError: they do not.
    """
    prompts, vision = made.prompt_encoder_config, made.vision_config
    side, grid = int(prompts.image_size), int(prompts.image_size) // int(prompts.patch_size)
    if own_encoder:
        return
    if hasattr(vision, "backbone_feature_sizes"):
        size, grids = vision.backbone_config.image_size, vision.backbone_feature_sizes[-1]
    else:
        size, grids = vision.image_size, int(vision.image_size) // int(vision.patch_size)
    sides, grids = ([one, one] if isinstance(one, int) else list(one) for one in (size, grids))
    if sides != [side, side]:
        raise ValueError(f"pictures of {sides[0]} pixels and prompts of {side}")
    if grids != [grid, grid]:
        raise ValueError(f"pictures on a grid of {grids[0]} and prompts on one of {grid}")


def _fill(model: Any, state: Mapping[str, torch.Tensor], where: object) -> None:
    wanted = model.state_dict()
    given = dict(state)
    # One matrix has two names, and files hold it under either.
    twins = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")
    for one, other in (twins, twins[::-1]):
        if one in wanted and one not in given and other in given:
            given[one] = given[other]
    missing = [name for name in wanted if name not in given]
    if missing:
        named = ", ".join(missing[:_NAMED])
        raise BadWeights(
            f"{len(missing)} weights of the model are missing, such as {named}",
            where=where,
            do="Do config.json and the weights belong together?",
        )
    other = [name for name in wanted if given[name].shape != wanted[name].shape]
    if other:
        shapes = f"{tuple(given[other[0]].shape)}, not {tuple(wanted[other[0]].shape)}"
        raise BadWeights(
            f"{len(other)} weights have another shape, such as {other[0]} ({shapes})",
            where=where,
            do="Do config.json and the weights belong together?",
        )
    model.load_state_dict({name: given[name].float() for name in wanted})


def sight_of(preprocessing: Mapping[str, Any] | None, *, kind: str, side: int) -> Sight:
    """Read from a preprocessor_config.json how a model sees a picture; where there is none, as the originals do."""
    values = dict(preprocessing or {})
    values = dict(values.get("image_processor") or values)
    mean, std = (tuple(float(v) for v in values.get(f"image_{name}") or default) for name, default in _NORMAL)
    scale = 255.0 * float(values.get("rescale_factor") or 1 / 255.0)
    if not values.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    return Sight(side, kind == "sam", tuple(v / scale for v in mean), tuple(v / scale for v in std))


_NORMAL = (("mean", _MEAN), ("std", _STD))
