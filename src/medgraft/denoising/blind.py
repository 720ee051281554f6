"""A net that learnt from noisy images, as a way of taking noise away; and how much of the noisy image to keep."""

from __future__ import annotations

import numpy as np
import torch

from medgraft.denoising.planes import Levels, windowed
from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.nets.restorer import shapes
from medgraft.samples.noise import brightness_of, power_by_brightness
from medgraft.tasks.denoise import Denoise

_WINDOW = 512  # pixels of a plane's side that are looked at together
_SHARED = 128  # of them that neighbouring windows share: more than the net looks around, so that no seam is seen


class Foretold:
    """What a net foretells of each pixel by its surroundings, before what is known of the pixel itself is added.

    Args:
        task: in eval mode.
        engine: device and precision.
        mirrored: look at each plane mirrored too, and take the mean.
    """

    name = "blindspot"
    hides = True  # the value of a pixel has no part in what it says of it

    def __init__(self, task: Denoise, engine: Engine, *, mirrored: bool = True) -> None:
        self.task, self.engine, self.mirrored = task, engine, mirrored

    def clean(self, solid: np.ndarray, levels: Levels) -> np.ndarray:
        """Get `(D, H, W)` as the surroundings of each pixel foretell it."""
        values = ((solid - levels.mean) / levels.spread).astype(np.float32)
        full = shapes(self.task.net.form, solid.shape[1:])
        window = [min(_WINDOW, side) for side in full]
        return (
            np.stack([windowed(plane, window, self._asked, overlap=min(_SHARED, min(window) // 2)) for plane in values])
            * levels.spread
            + levels.mean
        )

    def _asked(self, planes: np.ndarray) -> np.ndarray:
        stopping.check()
        given = torch.from_numpy(planes)[:, None].to(self.engine.device)
        with torch.inference_mode(), self.engine.autocast():
            found = self.task.foretold(given)
            if self.mirrored:
                found = (found + self.task.foretold(given.flip(3)).flip(3)) / 2
        return found[:, 0].cpu().numpy()


class Blindspot(Foretold):
    """What a net foretells, and of the noisy pixel itself as much as it is worth.

    The noise of a pixel has no part in what its surroundings foretell, so that both errors are without relation and
    weigh by their powers; that of what is foretold is its distance to the noisy pixels, less the noise. Both are taken
    by brightness, as bright and dark places may differ in noise.

    Source: Batson and Royer, ICML 2019, p. 524 (the best linear combination).
    """

    def clean(self, solid: np.ndarray, levels: Levels) -> np.ndarray:
        """Get `(D, H, W)` without its noise."""
        return self.parted(solid, levels)[0]

    @property
    def blind(self) -> Foretold:
        """Get the same without the noisy pixel's share."""
        return Foretold(self.task, self.engine, mirrored=self.mirrored)

    def parted(self, solid: np.ndarray, levels: Levels) -> tuple[np.ndarray, float]:
        """Get `(D, H, W)` without its noise, and the mean share of the noisy pixel in it, 0 to 1."""
        found = super().clean(solid, levels)
        shares = np.stack([_kept(noisy, told) for noisy, told in zip(solid, found, strict=True)])
        return ((1 - shares) * found + shares * solid).astype(np.float32), float(shares.mean())


def _kept(noisy: np.ndarray, foretold: np.ndarray) -> np.ndarray:
    """The share of the noisy pixel at each place of a plane."""
    power, _ = power_by_brightness(noisy, foretold)
    shares = np.ones(noisy.shape)
    for part in brightness_of(foretold):
        error = float(np.mean((foretold[part] - noisy[part]) ** 2)) if part.any() else 0.0
        if error > 0:
            shares[part] = max(0.0, error - float(power[part].mean())) / error
    return shares
