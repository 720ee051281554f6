"""Heads that find boxes: a pyramid over the encoder's levels, then Faster R-CNN or FCOS with the user's classes.

Both are torchvision's, fed with one size of images; what is ours is that ignored boxes of the truth teach nothing,
and that everything about places is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import box_area, box_iou, clip_boxes_to_image

from medgraft.errors import BadRecipe
from medgraft.nets.pyramid import Pyramid
from medgraft.nets.regions import RegionAlign

ARMS = ("faster_rcnn", "fcos")
_COVERED = 0.5  # part of an anchor that may lie on an ignored box


@dataclass(frozen=True)
class FinderForm:
    """What a head that finds boxes is built from; it travels with the weights.

    Attributes:
        arm: "faster_rcnn" or "fcos".
        strides: of the maps that boxes are looked for in, rising by doubling.
        ratios: heights of anchors in parts of their widths (Faster R-CNN).
        scales: widths of anchors in places of their map (Faster R-CNN).
        width: channels of the maps.
        most: boxes an image at most.
    """

    arm: str = "faster_rcnn"
    strides: tuple[int, ...] = (8, 16, 32)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    scales: tuple[float, ...] = (4.0, 5.66)
    width: int = 128
    most: int = 100

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return asdict(self)


class BoxHead(nn.Module):
    """Levels of an encoder -> boxes of `outputs` classes.

    Args:
        channels: C of each level of the encoder.
        strides: input pixels for one pixel of each level.
        outputs: classes, the background not among them.
        form: what it is built from.

    Attributes:
        reads: how many levels of the encoder are looked at, from the first.

    Raises:
        BadRecipe: there is no such arm.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, outputs: int, form: FinderForm) -> None:
        super().__init__()
        arms: dict[str, type[TwoStage] | type[OneStage]] = {"faster_rcnn": TwoStage, "fcos": OneStage}
        if form.arm not in arms:
            raise BadRecipe(f"there is no detector named {form.arm!r}", do=f"Known: {', '.join(ARMS)}.")
        self.outputs, self.form = outputs, form
        self.pyramid = Pyramid(channels, strides, wanted=form.strides, width=form.width)
        self.finder = arms[form.arm](outputs, form)
        self.reads = max(self.pyramid.taken) + 1

    @property
    def takes(self) -> tuple[int, ...]:
        """Get which levels of the encoder are looked at, rising."""
        return tuple(sorted(self.pyramid.taken))

    def losses(self, levels: Sequence[Tensor], pixels: Tensor, *, targets: Sequence[dict[str, Tensor]]) -> Tensor:
        """Get the sum of the losses.

        Args:
            levels: of the encoder, at least `reads`.
            pixels: `(N, C, H, W)` that they are of; only the size is looked at.
            targets: an image each: `boxes` `(M, 4)` float32 x0, y0, x1, y1 in pixels, `labels` `(M,)` int64 from 0,
                and `ignored` `(K, 4)` boxes in which finding something is neither right nor wrong.
        """
        found = self.finder.losses(self.pyramid(levels), _sized(pixels), list(targets))
        return torch.stack([loss.float() for loss in found.values()]).sum()

    def found(self, levels: Sequence[Tensor], pixels: Tensor) -> list[dict[str, Tensor]]:
        """Get of each image `boxes` `(M, 4)`, `labels` `(M,)` from 0 and `scores` `(M,)`, the surest first."""
        return self.finder.found(self.pyramid(levels), _sized(pixels))

    @torch.no_grad()
    def places(self, levels: Sequence[Tensor], pixels: Tensor, *, boxes: Tensor, labels: Tensor) -> Tensor:
        """Get where each box of one image came from: `(M, 4)` proposals, or `(M,)` places of maps; see `odds`.

        Args:
            levels: of the encoder.
            pixels: `(1, C, H, W)` that they are of; only the size is looked at.
            boxes: `(M, 4)` as `found` gave them.
            labels: `(M,)` from 0.
        """
        return self.finder.places(self.pyramid(levels), _sized(pixels), boxes, labels)

    def odds(self, levels: Sequence[Tensor], pixels: Tensor, *, places: Tensor, labels: Tensor) -> Tensor:
        """Get the log-odds `(N, M)` of each label against all else at the same places of each image.

        Args:
            levels: of the encoder; gradients flow back to them.
            pixels: `(N, C, H, W)` that they are of; only the size is looked at.
            places: M of `places`.
            labels: `(M,)` from 0.
        """
        return self.finder.odds(self.pyramid(levels), _sized(pixels), places, labels)


def _sized(pixels: Tensor) -> ImageList:
    size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    return ImageList(pixels, [size] * len(pixels))


class TwoStage(nn.Module):
    """Faster R-CNN: proposals, then their classes and corners.

    Source:
        Ren et al., Faster R-CNN, NeurIPS 2015, as in torchvision; fewer proposals, since a medical image holds tens of
        boxes and not the hundreds that the numbers of COCO allow for.
    """

    def __init__(self, outputs: int, form: FinderForm) -> None:
        super().__init__()
        sizes = tuple(tuple(int(scale * stride) for scale in form.scales) for stride in form.strides)
        anchors = AnchorGenerator(sizes, (tuple(form.ratios),) * len(sizes))
        kept = max(300, 2 * form.most)
        self.proposals = _Proposals(
            anchors,
            _Float(RPNHead(form.width, len(form.scales) * len(form.ratios))),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2 * kept, "testing": 2 * kept},
            post_nms_top_n={"training": kept, "testing": kept},
            nms_thresh=0.7,
        )
        hidden = 4 * form.width
        self.regions = _Regions(
            RegionAlign(form.strides),
            TwoMLPHead(form.width * 49, hidden),
            _FloatPair(FastRCNNPredictor(hidden, outputs + 1)),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=256,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=0.01,
            nms_thresh=0.5,
            detections_per_img=form.most,
        )

    def losses(self, maps: list[Tensor], images: ImageList, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Get the four losses by name; arguments as in `BoxHead.losses`."""
        named = {str(index): one for index, one in enumerate(maps)}
        shifted = [{**one, "labels": one["labels"] + 1} for one in targets]  # 0 is the background here
        proposals, first = self.proposals(images, named, shifted)
        _, second = self.regions(named, proposals, images.image_sizes, shifted)
        return {**first, **second}

    def found(self, maps: list[Tensor], images: ImageList) -> list[dict[str, Tensor]]:
        """Get boxes, labels and scores of each image."""
        named = {str(index): one for index, one in enumerate(maps)}
        proposals, _ = self.proposals(images, named)
        found, _ = self.regions(named, proposals, images.image_sizes)
        return [{**one, "labels": one["labels"] - 1} for one in found]

    def places(self, maps: list[Tensor], images: ImageList, boxes: Tensor, labels: Tensor) -> Tensor:
        """Get the proposals `(M, 4)` that boxes of one image came from."""
        proposals, _ = self.proposals(images, {str(index): one for index, one in enumerate(maps)})
        logits, shifts = self._judged(maps, images, proposals)
        corners = self.regions.box_coder.decode(shifts, proposals).clone()  # (P, outputs + 1, 4)
        sure = logits.softmax(dim=1)
        of_label = [(corners[:, label + 1], sure[:, label + 1]) for label in labels.tolist()]
        return proposals[0][_nearest(of_label, boxes, images.image_sizes[0])]

    def odds(self, maps: list[Tensor], images: ImageList, places: Tensor, labels: Tensor) -> Tensor:
        """Get `(N, M)` log-odds of a class against all others and the background in the same proposals."""
        logits, _ = self._judged(maps, images, [places] * len(images.image_sizes))
        own = (labels + 1).repeat(len(images.image_sizes))[:, None]
        others = logits.scatter(1, own, -torch.inf).logsumexp(dim=1)
        return (logits.gather(1, own)[:, 0] - others).view(len(images.image_sizes), len(labels))

    def _judged(self, maps: list[Tensor], images: ImageList, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        named = {str(index): one for index, one in enumerate(maps)}
        features = self.regions.box_roi_pool(named, proposals, images.image_sizes)
        logits, shifts = self.regions.box_predictor(self.regions.box_head(features))
        return logits, shifts


class OneStage(nn.Module):
    """FCOS: every place of every map says what it lies in and how far the edges are.

    Source:
        Tian et al., FCOS: A simple and strong anchor-free object detector, TPAMI 2022, as in torchvision.
    """

    def __init__(self, outputs: int, form: FinderForm) -> None:
        super().__init__()
        self.net = _Fcos(outputs, form)

    def losses(self, maps: list[Tensor], images: ImageList, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Get the three losses by name; arguments as in `BoxHead.losses`."""
        return self.net.compute_loss(targets, *self._outputs(maps, images))

    def found(self, maps: list[Tensor], images: ImageList) -> list[dict[str, Tensor]]:
        """Get boxes, labels and scores of each image."""
        outputs, anchors, counts = self._outputs(maps, images)
        parts = {name: list(values.split(counts, dim=1)) for name, values in outputs.items()}
        by_level = [list(one.split(counts)) for one in anchors]
        return self.net.postprocess_detections(parts, by_level, images.image_sizes)

    def places(self, maps: list[Tensor], images: ImageList, boxes: Tensor, labels: Tensor) -> Tensor:
        """Get the numbers `(M,)` of the places that boxes of one image came from."""
        outputs, anchors, _ = self._outputs(maps, images)
        corners = self.net.box_coder.decode(outputs["bbox_regression"][0], anchors[0])
        sure = (outputs["cls_logits"][0].sigmoid() * outputs["bbox_ctrness"][0].sigmoid()).sqrt()
        of_label = [(corners, sure[:, label]) for label in labels.tolist()]
        return _nearest(of_label, boxes, images.image_sizes[0])

    def odds(self, maps: list[Tensor], images: ImageList, places: Tensor, labels: Tensor) -> Tensor:
        """Get `(N, M)` logits of a class at the same places."""
        return self._outputs(maps, images)[0]["cls_logits"][:, places, labels]

    def _outputs(self, maps: list[Tensor], images: ImageList) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        outputs = {name: values.float() for name, values in self.net.head(maps).items()}
        counts = [one.shape[2] * one.shape[3] for one in maps]
        return outputs, self.net.anchor_generator(images, maps), counts


class _Fcos(FCOS):
    """torchvision's matching, losses and choice of boxes, without its encoder and its resizing of images."""

    def __init__(self, outputs: int, form: FinderForm) -> None:
        nn.Module.__init__(self)
        self.anchor_generator = AnchorGenerator(
            tuple((stride,) for stride in form.strides), ((1.0,),) * len(form.strides)
        )
        self.head = FCOSHead(form.width, 1, outputs, num_convs=2)
        self.box_coder = self.head.box_coder
        self.center_sampling_radius = 1.5
        self.score_thresh, self.nms_thresh, self.topk_candidates = 0.01, 0.5, 1000
        self.detections_per_img = form.most

    def compute_loss(
        self, targets: list[dict[str, Tensor]], head_outputs: Any, anchors: Any, num_anchors_per_level: Any
    ) -> dict[str, Tensor]:
        """As torchvision, but places in ignored boxes say nothing of classes."""
        for image, one in enumerate(targets):
            if len(one["ignored"]):
                quiet = _on(anchors[image], one["ignored"]) & ~_on(anchors[image], one["boxes"])
                head_outputs["cls_logits"][image][quiet] = -30.0  # sure of nothing: no loss, no gradient
        return super().compute_loss(targets, head_outputs, anchors, num_anchors_per_level)


class _Float(nn.Module):
    """A head of proposals whose answers are float32 whatever it multiplies in."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Get objectness and shifts of each map."""
        sure, shifts = self.head(maps)
        return [one.float() for one in sure], [one.float() for one in shifts]


class _FloatPair(nn.Module):
    """The last layers of regions, their answers in float32."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Get logits of classes and shifts of corners."""
        logits, shifts = self.head(features)
        return logits.float(), shifts.float()


class _Proposals(RegionProposalNetwork):
    """Proposals that learn nothing from anchors on ignored boxes."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As torchvision, and -1 (not looked at) for an anchor of the background that lies on an ignored box."""
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        for own, places, one in zip(labels, anchors, targets, strict=True):
            if len(one["ignored"]):
                own[(own == 0) & _on(places, one["ignored"])] = -1.0
        return labels, matched


class _Regions(RoIHeads):
    """Regions that learn nothing from proposals on ignored boxes."""

    def select_training_samples(self, proposals: list[Tensor], targets: Any) -> Any:
        """As torchvision, without proposals that lie on ignored boxes and on no other."""
        kept = [
            own[~(_on(own, one["ignored"]) & ~_on(own, one["boxes"]))] if len(one["ignored"]) else own
            for own, one in zip(proposals, cast("list[dict[str, Tensor]]", targets), strict=True)
        ]
        return super().select_training_samples(kept, targets)


def _on(places: Tensor, boxes: Tensor) -> Tensor:
    """Get which of `(A, 4)` places lie by half of their own area in one of `(M, 4)` boxes."""
    if not len(boxes):
        return torch.zeros(len(places), dtype=torch.bool, device=places.device)
    low = torch.maximum(places[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(places[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(dim=2).amax(dim=1)
    return shared > _COVERED * box_area(places).clamp_min(1e-6)


def _nearest(of_label: Sequence[tuple[Tensor, Tensor]], boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Get `(M,)` which of P candidates each of `(M, 4)` boxes is: the surest of those that overlap it most.

    Of many that overlap, the one that was found is the surest: the others were dropped in its favour.
    """
    found = []
    for (corners, sure), box in zip(of_label, boxes, strict=True):
        shared = box_iou(clip_boxes_to_image(corners, size), box[None].to(corners))[:, 0]
        found.append((shared * sure).argmax())
    return torch.stack(found) if found else torch.zeros(0, dtype=torch.int64, device=boxes.device)
