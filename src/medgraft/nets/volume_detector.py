"""A head that finds boxes in volumes: a pyramid over the levels of an encoder of volumes under MONAI's RetinaNet.

Anchors, their matching, the loss of corners and the choice of boxes are MONAI's. The loss of classes is the focal loss
of all places, and the net between encoder and answers is ours: one tower of two layers where MONAI's has two of four,
for on a processor the finest map costs most.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from medgraft.errors import BadRecipe

INSTALL = 'Install MONAI: pip install "medgraft[volume]".'
_ALIKE = 0.9  # of the largest overlap: anchors from there on have nearly the same box
_COVERED = 0.5  # part of an anchor that may lie in an ignored box
_LEAST_SCORE = 0.01
_NMS_IOU = 0.15  # two things of a body do not lie in each other


@dataclass(frozen=True)
class VolumeFinderForm:
    """What a head that finds boxes in volumes is built from; it travels with the weights.

    Attributes:
        maps: maps in which boxes are looked for: as many of the encoder's levels, the finest first.
        context: coarser levels that only tell those maps what lies around.
        anchors: (d, h, w) in voxels of the boxes that the finest map begins with; each further map has twice these.
        width: channels of the maps.
        most: boxes a volume at most; of a window three times as many, for some are its neighbours'.
    """

    maps: int = 3
    context: int = 1
    anchors: tuple[tuple[float, float, float], ...] = ((4.0, 4.0, 4.0),)
    width: int = 48
    most: int = 100

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VolumeFinderForm:
        """Read what `to_dict` wrote."""
        anchors = tuple((float(d), float(h), float(w)) for d, h, w in values["anchors"])
        return cls(**{**values, "anchors": anchors})


class VolumePyramid(nn.Module):
    """Levels of an encoder of volumes -> one map a level, all of one width, finest first.

    Args:
        channels: C of each level, the finest first.
        width: channels of every map.
        maps: how many maps are given, of the finest levels.

    Source:
        Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017.
    """

    def __init__(self, channels: Sequence[int], *, width: int, maps: int) -> None:
        super().__init__()
        self.maps = maps
        self.across = nn.ModuleList(nn.Conv3d(own, width, 1) for own in channels)
        self.smooth = nn.ModuleList(nn.Conv3d(width, width, 3, padding=1) for _ in range(maps))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Get the maps `(N, width, D, H, W)` of as many of the levels `(N, C, D, H, W)`."""
        found = [across(level) for across, level in zip(self.across, levels, strict=True)]
        for index in range(len(found) - 2, -1, -1):
            found[index] = found[index] + F.interpolate(found[index + 1], size=found[index].shape[2:], mode="nearest")
        return [smooth(own) for smooth, own in zip(self.smooth, found[: self.maps], strict=True)]


class VolumeBoxHead(nn.Module):
    """Levels of an encoder of volumes -> boxes of `outputs` classes.

    Args:
        channels: C of each level of the encoder.
        outputs: classes.
        form: what it is built from.

    Attributes:
        reads: how many levels of the encoder are looked at, from the finest.

    Raises:
        BadRecipe: MONAI is not installed, or the encoder has too few levels.

    Source:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, the net; Zhang et al., ATSS, CVPR 2020, the
        matching; both as in MONAI's detection of nodules.
    """

    def __init__(self, channels: Sequence[int], *, outputs: int, form: VolumeFinderForm) -> None:
        super().__init__()
        self.outputs, self.form = outputs, form
        self.reads = min(len(channels), form.maps + form.context)
        if len(channels) < form.maps:
            raise BadRecipe(f"boxes are looked for in {form.maps} maps, and the encoder has {len(channels)} levels")
        each = len(form.anchors)
        self.pyramid = VolumePyramid(channels[: self.reads], width=form.width, maps=form.maps)
        self.shared = nn.Sequential(_block(form.width), _block(form.width))
        self.to_classes = nn.Conv3d(form.width, each * outputs, 1)
        self.to_shifts = nn.Conv3d(form.width, each * 6, 1)
        for last in (self.to_classes, self.to_shifts):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.to_classes.bias, -4.6)  # type: ignore[arg-type]  # a chance of .01, as findings are rare
        self._finder = _finder_of(outputs, form)

    def losses(self, levels: Sequence[Tensor], pixels: Tensor, *, targets: Sequence[dict[str, Tensor]]) -> Tensor:
        """Get the sum of the losses.

        Args:
            levels: of the encoder, at least `reads`.
            pixels: `(N, C, D, H, W)` that they are of; only the size is looked at.
            targets: a volume each: `boxes` `(M, 6)` float32 x0, y0, z0, x1, y1, z1 in voxels, `labels` `(M,)` int64
                from 0, and `ignored` `(K, 6)` boxes in which finding something is neither right nor wrong.
        """
        turned = [
            {"boxes": _reversed(one["boxes"]), "labels": one["labels"], "ignored": _reversed(one["ignored"])}
            for one in targets
        ]
        maps = self._maps(levels)
        flat, anchors, counts = self._flat(maps, pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it warns of each box that no anchor fits
            found = self._finder.compute_loss(flat, turned, anchors, counts)
        return torch.stack([loss.float() for loss in found.values()]).sum()

    @torch.no_grad()
    def found(self, levels: Sequence[Tensor], pixels: Tensor) -> list[dict[str, Tensor]]:
        """Get of each volume `boxes` `(M, 6)`, `labels` `(M,)` from 0 and `scores` `(M,)`, the surest first."""
        maps = self._maps(levels)
        flat, anchors, counts = self._flat(maps, pixels)
        sizes = [list(pixels.shape[2:])] * len(pixels)
        told = self._finder.postprocess_detections(flat, anchors, sizes, counts)
        return [
            {"boxes": _reversed(one["boxes"]), "labels": one["labels"], "scores": one["labels_scores"]} for one in told
        ]

    @property
    def takes(self) -> tuple[int, ...]:
        """Get which levels of the encoder are looked at, rising."""
        return tuple(range(self.reads))

    @torch.no_grad()
    def places(self, levels: Sequence[Tensor], pixels: Tensor, *, boxes: Tensor, labels: Tensor) -> Tensor:
        """Get the numbers `(M,)` of the anchors that boxes of one volume came from.

        They are the surest of those that overlap a box most: a surer one would have been found in its place.

        Args:
            levels: of the encoder.
            pixels: `(1, C, D, H, W)` that they are of; only the size is looked at.
            boxes: `(M, 6)` as `found` gave them.
            labels: `(M,)` from 0.
        """
        from monai.data.box_utils import box_iou, clip_boxes_to_image

        flat, anchors, _ = self._flat(self._maps(levels), pixels)
        corners = self._finder.box_coder.decode_single(flat["box_regression"][0], anchors[0])
        clipped: Any = clip_boxes_to_image(corners, list(pixels.shape[2:]), remove_empty=False)[0]
        shared: Any = box_iou(clipped, _reversed(boxes).to(clipped))
        sure = flat["classification"][0].sigmoid()[:, labels]
        return sure.masked_fill(shared < _ALIKE * shared.amax(dim=0), -1.0).argmax(dim=0)

    def odds(self, levels: Sequence[Tensor], pixels: Tensor, *, places: Tensor, labels: Tensor) -> Tensor:
        """Get the log-odds `(N, M)` of each label at the same anchors of each volume.

        Args:
            levels: of the encoder; gradients flow back to them.
            pixels: not looked at: anchors of volumes of one size have the same numbers.
            places: `(M,)` of `places`.
            labels: `(M,)` from 0.
        """
        return self._finder._reshape_maps(self._maps(levels)["classification"])[:, places, labels]

    def _maps(self, levels: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Logits and shifts of each map, float32."""
        maps = [self.shared(one) for one in self.pyramid(list(levels)[: self.reads])]
        return {
            "classification": [self.to_classes(one).float() for one in maps],
            "box_regression": [self.to_shifts(one).float() for one in maps],
        }

    def _flat(self, maps: dict[str, list[Tensor]], pixels: Tensor) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        finder = self._finder
        counts = [int(one[0, 0].numel()) for one in maps["classification"]]
        anchors = finder.anchor_generator(pixels, maps["classification"])
        return {name: finder._reshape_maps(own) for name, own in maps.items()}, anchors, counts


def _block(width: int) -> nn.Sequential:
    """No norm: one over places would answer differently in patches and in whole scans."""
    layer = nn.Conv3d(width, width, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(layer, nn.ReLU())


def _reversed(corners: Tensor) -> Tensor:
    """Turn x0, y0, z0, x1, y1, z1 into MONAI's order, that of the axes, or back."""
    return corners[:, [2, 1, 0, 5, 4, 3]]


class _Faces(nn.Module):
    """What MONAI's detector asks of its net; the maps come from elsewhere."""

    def __init__(self, outputs: int, anchors: int) -> None:
        super().__init__()
        self.spatial_dims, self.num_classes, self.num_anchors, self.size_divisible = 3, outputs, anchors, 1
        self.cls_key, self.box_reg_key = "classification", "box_regression"


def _finder_of(outputs: int, form: VolumeFinderForm) -> Any:
    """Get MONAI's detector; it has nothing that learns.

    Raises:
        BadRecipe: MONAI is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
            from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
    except ImportError as error:
        raise BadRecipe("boxes.arm retinanet needs MONAI", do=INSTALL) from error

    class Retina(RetinaNetDetector):
        """Anchors in ignored boxes teach nothing."""

        def compute_anchor_matched_idxs(self, anchors: Any, targets: Any, num_anchor_locs_per_level: Any) -> Any:
            found = super().compute_anchor_matched_idxs(anchors, targets, num_anchor_locs_per_level)
            for own, places, one in zip(found, anchors, targets, strict=True):
                if len(one["ignored"]):
                    own[(own == -1) & _in(places, one["ignored"])] = -2
            return found

        def compute_cls_loss(self, cls_logits: Any, targets: Any, matched_idxs: Any) -> Tensor:
            """The focal loss of all places but the left out ones, by how many places are positive."""
            total, positive = cls_logits.new_zeros(()), 0
            for logits, one, matched in zip(cls_logits, targets, matched_idxs, strict=True):
                wanted, hit = torch.zeros_like(logits), matched >= 0
                wanted[hit, one["labels"][matched[hit]]] = 1.0
                own = matched != -2
                total = total + sigmoid_focal_loss(logits[own], wanted[own], reduction="sum")
                positive += int(hit.sum())
            return total / max(1, positive)

    scales = tuple(2**level for level in range(form.maps))
    anchors = AnchorGeneratorWithAnchorShape(feature_map_scales=scales, base_anchor_shapes=form.anchors)
    finder = Retina(_Faces(outputs, len(form.anchors)), anchors)
    finder.set_atss_matcher(num_candidates=4, center_in_gt=False)
    finder.set_box_selector_parameters(
        score_thresh=_LEAST_SCORE, topk_candidates_per_level=500, nms_thresh=_NMS_IOU, detections_per_img=3 * form.most
    )
    return finder


def _in(places: Tensor, boxes: Tensor) -> Tensor:
    """Get which of `(A, 6)` places lie by half of their own volume in one of `(K, 6)` boxes."""
    low = torch.maximum(places[:, None, :3], boxes[None, :, :3])
    high = torch.minimum(places[:, None, 3:], boxes[None, :, 3:])
    shared = (high - low).clamp_min(0).prod(dim=2).amax(dim=1)
    return shared > _COVERED * (places[:, 3:] - places[:, :3]).prod(dim=1).clamp_min(1e-6)
