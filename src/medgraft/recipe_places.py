"""The parts of the recipe about places in an image: zones and boxes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the recipe: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Zones(Section):
    """Which zones of an image have severities of their own (task localise)."""

    columns: list[str] | None = Field(
        None, min_length=1, description="columns of the zones' severities, down the first column of the grid, then on"
    )
    mask_column: str | None = Field(
        None, description="column of masks: the severity of a zone is the share of it that the mask covers"
    )
    region_column: str | None = Field(
        None, description="column of masks of the organ, whose bounding box the grid parts; the image when empty"
    )
    grid: tuple[int, int] | None = Field(None, description="rows and columns of the zones; by their number when empty")


class Boxes(Section):
    """How boxes are found (task detect)."""

    arm: Literal["auto", "faster_rcnn", "fcos", "retinanet", "candidates"] = Field(
        "auto", description="of images faster_rcnn or fcos; of volumes retinanet, or candidates, which tunes nothing"
    )
    weights: str | None = Field(None, description="a whole detector to begin with: a file of torchvision's, or coco")
    strides: list[int] | None = Field(None, min_length=1, description="of maps to look for boxes in; planned")
    ratios: list[float] | None = Field(None, min_length=1, description="heights of anchors by widths; planned")
    width: int = Field(128, ge=32, multiple_of=32, description="channels of the maps; of volumes a quarter")
    most: int | None = Field(None, ge=1, description="boxes an image at most; planned")
    crop: int | None = Field(None, ge=0, description="side of the windows that training looks at; 0 = whole; planned")
    um_per_px: float | None = Field(None, gt=0, description="micrometres a pixel of the images, where nothing says it")
    sides_mm: list[float] | None = Field(None, min_length=1, description="of planes through a candidate; planned")
    windows_hu: list[tuple[float, float]] | None = Field(None, description="(centre, width), one or three; planned")
    candidates: int | None = Field(None, ge=1, description="places that are looked at in a volume at most; planned")
    views: int | None = Field(None, ge=1, le=64, description="views of a candidate that is a finding; planned")
    spacing_mm: tuple[float, float, float] | None = Field(None, description="(z, y, x) of a net's voxel; planned")
    region: Literal["auto", "lungs", "all"] = Field("auto", description="where in a scan a net looks; planned")
    anchors_mm: list[float] | None = Field(None, min_length=1, description="sides of cubes on the finest map; planned")
    maps: int | None = Field(None, ge=1, le=5, description="maps of a volume that boxes are looked for in; planned")
    patch: tuple[int, int, int] | None = Field(None, description="(D, H, W) voxels that a net learns from; planned")
    patches: int | None = Field(None, ge=1, description="patches a scan that an epoch shows; planned")
    mirrored: bool | None = Field(None, description="look at a scan four times, mirrored along each axis; planned")
    hit: Literal["auto", "iou", "centre"] = Field("auto", description="when a box is a hit: overlap, or its centre")
    iou: float = Field(0.5, gt=0, lt=1, description="overlap from which a box is a hit, intersection over union")


class Masks(Section):
    """What is drawn on images, and how (task segment)."""

    names: dict[str, str] | list[str] | None = Field(
        None, min_length=1, description="number -> class, or classes by rising number; of the data where they say it"
    )
    colours: dict[str, str] | None = Field(None, description='class of each colour of label maps, such as "#ff0000"')
    instances: bool | None = Field(None, description="tell things of one class apart, such as nuclei; planned")
    decoder: Literal[
        "auto",
        "unet",
        "fpn",
        "dynunet",
        "segresnet",
        "smp_unet",
        "smp_unetplusplus",
        "smp_manet",
        "smp_linknet",
        "smp_fpn",
    ] = Field(  # fmt: skip
        "auto",
        description="unet, fpn and those of segmentation-models-pytorch stand on the backbone; dynunet and segresnet "
        "are whole nets of MONAI's",
    )
    width: int = Field(16, ge=8, multiple_of=8, description="channels of the finest map")
    deep: int | None = Field(None, ge=0, le=4, description="coarser maps that are learnt from as well; planned")
    rungs: int | None = Field(None, ge=1, description="resolutions of the encoder that are looked at; planned")
    fine: bool | None = Field(
        None, description="draw on the pixels themselves, or on the encoder's finest level at half the cost; planned"
    )
    norm: Literal["batch", "group"] | None = Field(
        None, description="normalise its maps by the patches of a step, or each picture by itself; planned"
    )
    scale: float | None = Field(None, gt=0, le=4, description="network pixels for a pixel of a picture; planned")
    side: int | None = Field(None, ge=32, description="instead: network pixels of every picture's longer side; planned")
    um_per_px: float | None = Field(None, gt=0, description="instead: micrometres of a network pixel; planned")
    spacing_mm: tuple[float, float, float] | None = Field(None, description="(z, y, x) of a net's voxel; planned")
    windows_hu: list[tuple[float, float]] | None = Field(None, description="(centre, width), one or three; planned")
    own_levels: bool | None = Field(
        None, description="black and white are of each picture's own pixels, not of its file's format; planned"
    )
    patch: list[int] | None = Field(
        None, min_length=2, max_length=3, description="([D,] H, W) network pixels that are learnt from; planned"
    )
    patches: int | None = Field(None, ge=1, description="patches an image that an epoch shows; planned")
    around: float = Field(0.5, ge=0, le=1, description="share of the patches that lie around a class, all alike")
    mirrored: list[int] | None = Field(
        None, description="axes (of [D,] H, W: 0, 1 ...) along which is mirrored, to learn and to look; planned"
    )
    dice: float = Field(1.0, ge=0, description="weight of the Dice loss beside the cross-entropy")
    boundary: float = Field(0.0, ge=0, description="how much more pixels at the boundary of a class weigh")
    tolerance: float | None = Field(
        None, gt=0, description="of the boundary in the score nsd, in mm, or pixels where sizes are unknown; planned"
    )
    thin: bool | None = Field(None, description="score centre lines as well, of vessels and the like; planned")


class Prompts(Section):
    """What a model that outlines learns from (task outline)."""

    structures: Literal["auto", "whole", "parts"] = Field(
        "auto", description="what a prompt means: all of a class in an image, or each connected part of it; planned"
    )
    least: int = Field(16, ge=1, description="pixels that a structure has at least")
    most: int = Field(12, ge=1, description="structures of a picture that are learnt from at once, at most")
    looks: int | None = Field(None, ge=1, description="how often an epoch shows a picture; planned")
    slices: int = Field(3, ge=1, description="of a volume, slices of each class that are looked at")
    axis: Literal["axial", "coronal", "sagittal"] = Field("axial", description="of these slices")
