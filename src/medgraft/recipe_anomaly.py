"""The part of a recipe about images that are unlike normal ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medgraft.recipe_places import Section


class Anomaly(Section):
    """How images unlike normal ones are found (task anomaly)."""

    normal: str | None = Field(None, description="label of the normal images; by itself where one label says so")
    method: Literal["auto", "patches", "diffusion", "autoencoder"] = Field(
        "auto", description="distance of features, or what a net of normals cannot draw again; planned"
    )
    levels: list[int] | None = Field(
        None, min_length=1, description="stages of the encoder that are compared, 1 is the first (patches); planned"
    )
    coreset: float = Field(0.1, gt=0, le=1, description="share of the normal places that is kept (patches)")
    most: int = Field(10_000, ge=10, description="places that are kept at most: time grows with them (patches)")
    apart: float | None = Field(
        None, ge=0, description="how far opposite edges of an image are, in deviations of features (patches); planned"
    )
    foreign: float = Field(
        0.3, ge=0, description="weight of a head that learnt to see what was put into normal images; 0 = off (patches)"
    )
    neighbours: int = Field(
        0, ge=0, le=50, description="kept places around the nearest one that a score is weighed by; 0 = off (patches)"
    )
    top: float | None = Field(
        None, gt=0, le=1, description="share of an image's places, the oddest, whose mean is its score; planned"
    )
    whole: float = Field(1.0, ge=0, description="weight of the image as a whole beside its places; 0 = off (patches)")
    noise: float = Field(0.4, gt=0, lt=1, description="time that images are taken to, 1 is noise alone (diffusion)")
    noises: int = Field(4, ge=1, description="noises that are averaged over (diffusion)")
    steps: int = Field(8, ge=1, le=1000, description="steps back from the noise (diffusion)")
    width: int = Field(16, ge=4, multiple_of=4, description="channels of the finest map (autoencoder)")
    code: int = Field(32, ge=1, description="channels of the coarsest map, all that it remembers (autoencoder)")
    maps: int = Field(40, ge=0, description="test images whose maps are written into the run folder, the oddest first")
    quantile: float = Field(
        0.95, gt=0.5, lt=1, description="share of the normal validation images that the threshold leaves below it"
    )
