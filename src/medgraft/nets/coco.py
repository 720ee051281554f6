"""A whole detector that was already trained: torchvision's Faster R-CNN with a ResNet-50 and a pyramid.

All of it but the layer that names classes is taken over: encoder, pyramid, proposals and the features of regions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from medgraft.errors import BadWeights, Offline
from medgraft.nets.backbone import Backbone
from medgraft.nets.detector import BoxHead, FinderForm
from medgraft.weights import hub, tensors

ENCODER = "none:torchvision:resnet50"
_LABEL = "fasterrcnn_resnet50_fpn"
# Where the parts of torchvision's detector go in ours.
_PARTS = {
    "backbone.fpn.": "pyramid.joined.",
    "rpn.head.": "finder.proposals.head.head.",
    "roi_heads.box_head.": "finder.regions.box_head.",
}
_BODY, _CLASSES = "backbone.body.", "roi_heads.box_predictor."


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """Weights of a whole detector.

    Attributes:
        state: names of torchvision -> tensors.
        origin: where they came from, in words.
        sha256: of the file.
        licence: of the weights.
    """

    state: dict[str, Tensor]
    origin: str
    sha256: str
    licence: str


def coco_form(most: int) -> FinderForm:
    """Get what the detector was built from: maps of strides 4 to 64, one size of anchors on each; boxes at most."""
    return FinderForm(strides=(4, 8, 16, 32, 64), ratios=(0.5, 1.0, 2.0), scales=(8.0,), width=256, most=most)


def fetch_detector(name: str, *, offline: bool) -> TrainedDetector:
    """Get the weights: of a file, or by "coco" those that torchvision offers, trained on COCO.

    Raises:
        BadWeights: no such file, damaged, or no such detector.
        Offline: they have to be downloaded and the network is forbidden.
    """
    if name == "coco":
        from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights as Known

        entry = Known.COCO_V1
        try:
            found = hub.fetch_url(entry.url, name=f"torchvision:{_LABEL}", offline=offline)
        except Offline as error:
            do = f"Run once with the network, or bring {Path(entry.url).name} here and give boxes.weights its path."
            raise Offline(error.what, where=error.where, do=do) from error
        path, origin, sha256 = found.path, entry.url, found.sha256
        licence = "not stated for the weights; torchvision itself is BSD-3-Clause"
    else:
        path = Path(name).expanduser()
        state_of = f"file {path.name}"
        if not path.is_file():
            raise BadWeights("there is no such file", where=path, do="Give boxes.weights a path, or coco.")
        origin, sha256, licence = state_of, tensors.sha256_file(path), "not stated"
    state = tensors.load(path)
    if not any(key.startswith(_BODY) for key in state) or not any(key.startswith("rpn.head.") for key in state):
        what = f"this is no {_LABEL} of torchvision: its parts backbone.body and rpn.head are not there"
        raise BadWeights(what, where=origin)
    return TrainedDetector(state, origin, sha256, licence)


def transplant(backbone: Backbone, head: BoxHead, *, trained: TrainedDetector) -> None:
    """Put a trained detector's numbers into an encoder and a head of the same form; the class layer keeps its own.

    Raises:
        BadWeights: a tensor is missing or has another shape.
    """
    state = trained.state
    body = {key.removeprefix(_BODY): value for key, value in state.items() if key.startswith(_BODY)}
    _fill(backbone, body, trained.origin, named=_in_torchvision)
    parts = {
        ours + key.removeprefix(theirs): value
        for theirs, ours in _PARTS.items()
        for key, value in state.items()
        if key.startswith(theirs)
    }
    # Weights of 2021 and before name the convolution of the proposals without its place in a row.
    parts = {key.replace(".head.head.conv.weight", ".head.head.conv.0.0.weight"): v for key, v in parts.items()}
    parts = {key.replace(".head.head.conv.bias", ".head.head.conv.0.0.bias"): v for key, v in parts.items()}
    parts = {_older_pyramid(key): value for key, value in parts.items()}
    _fill(head, parts, trained.origin, named=str, spared=("finder.regions.box_predictor.",))
    backbone.sha256, backbone.source, backbone.licence = trained.sha256, trained.origin, trained.licence


def _older_pyramid(key: str) -> str:
    """Weights of 2021 and before have convolutions of the pyramid that are not wrapped."""
    if not key.startswith("pyramid.joined.") or key.count(".") != 4:
        return key
    start, _, kind = key.rpartition(".")
    return f"{start}.0.{kind}"


def _in_torchvision(key: str) -> str:
    """Turn "encoder.layer1.layer1_0.bn1.bias" into "layer1.0.bn1.bias"."""
    return re.sub(r"^(layer\d)_(\d+)\.", r"\1.\2.", key.split(".", 2)[2])


def _fill(
    module: nn.Module,
    values: dict[str, Tensor],
    origin: str,
    *,
    named: Callable[[str], str],
    spared: tuple[str, ...] = (),
) -> None:
    """Copy tensors by their names in the file, which `named` knows."""
    own = module.state_dict()
    wanted = {key for key in own if not key.startswith(spared) and not key.endswith("num_batches_tracked")}
    with torch.no_grad():
        for key in sorted(wanted):
            found = values.get(named(key))
            if found is None or found.shape != own[key].shape:
                shape = "is missing" if found is None else f"has the shape {tuple(found.shape)}"
                raise BadWeights(f"the tensor {named(key)} {shape}, wanted {tuple(own[key].shape)}", where=origin)
            own[key].copy_(found)
