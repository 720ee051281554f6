"""The parts of a recipe about images that are drawn, by diffusion and StyleGAN, and about adding them to real ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medgraft.recipe_places import Section

_Share = Annotated[float, Field(ge=0, le=100)]
_Width = Annotated[int, Field(ge=4, le=4096, multiple_of=2)]


class Generator(Section):
    """How images are drawn (tasks diffuse and stylegan)."""

    kinds: bool | None = Field(None, description="draw by class; planned: where each class has images enough")
    shape: list[int] | None = Field(
        None, min_length=2, max_length=3, description="([D,] H, W) pixels that are drawn; planned"
    )
    widths: list[_Width] | None = Field(
        None, min_length=1, max_length=7, description="channels at each resolution, the finest first; planned"
    )
    blocks: int = Field(1, ge=1, le=4, description="residual blocks a resolution (diffuse)")
    fold: int | None = Field(None, ge=1, le=4, description="pixels along an axis that become channels; planned")
    directions: int | None = Field(
        None, ge=0, le=512, description="of a Gaussian that tells what lines can; 0 = none; planned"
    )
    latent: Literal[1, 2, 4, 8] | None = Field(
        None, description="pixels along an axis that a place of a latent stands for; 1 draws pixels (diffuse); planned"
    )
    latent_width: int | None = Field(
        None, ge=4, le=256, description="channels of the autoencoder's finest resolution; planned"
    )
    latent_epochs: int | None = Field(None, ge=1, description="epochs of the autoencoder that makes latents; planned")
    checkpoint: bool | None = Field(
        None, description="compute maps again on the way back, for less memory (diffuse); planned"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of channels left out while it learns (diffuse)")
    sampler: Literal["dpm", "ddim", "ddpm"] = Field("dpm", description="way back from noise (diffuse)")
    steps: int = Field(32, ge=2, le=1000, description="steps back, each asks the net once (diffuse)")
    guidance: float = Field(0.5, ge=0, le=20, description="how far images are led to their class; 0 = off (diffuse)")
    gamma: float | None = Field(None, ge=0, description="penalty on slopes at real images, R1 (stylegan); planned")
    ramp: float = Field(50.0, gt=0, description="thousand images in which changes may come in (stylegan)")
    truncation: float = Field(1.0, gt=0, le=1, description="below 1: fewer kinds of image, each likelier (stylegan)")
    looks: int | None = Field(None, ge=1, description="how often an epoch shows an image; planned")
    encoders: list[str] = Field([], description="backbones whose features real and drawn images are compared by too")
    sheet: int | None = Field(
        None, ge=1, description="epochs between two sheets of samples, with their FID and KID; planned"
    )


class Synthetic(Section):
    """Synthetic images beside the real training images (task classify)."""

    run: str | None = Field(
        None, description="folder of a diffuse or stylegan run; diffuse or stylegan trains one inside; empty adds none"
    )
    ratio: Literal["auto", "balance"] | _Share = Field(
        "auto",
        description="synthetic images for one real training image; balance fills rare classes; auto asks validation",
    )
    tried: list[Literal["balance"] | _Share] = Field(
        [0.5, 1.0, 2.0, "balance"], min_length=1, description="ratios that auto tries beside 0"
    )
    epochs: int | None = Field(None, ge=1, description="of a generator that is trained inside; planned")
    sha256: str | None = Field(None, description="of the weights of the run that draws; others are refused; planned")
