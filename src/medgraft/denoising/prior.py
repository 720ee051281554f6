"""A diffusion model as a way of taking noise away: it goes on from the noisy image, at the time of as much noise."""

from __future__ import annotations

import math

import numpy as np
import torch

from medgraft.denoising.planes import Levels, windowed
from medgraft.errors import RunRefused
from medgraft.generation.opened import GeneratorRun
from medgraft.learn import stopping
from medgraft.nets.diffusing import parts, time_of
from medgraft.tasks.diffuse import Diffuse


class Prior:
    """What a diffusion model makes of a noisy image.

    In -1..1 an image with noise of the standard deviation s is, times alpha, the state of the time at which sigma is
    s times alpha. One step back gives the mean of all images that it may be, several steps one of them.

    Args:
        run: of images of one channel.
        steps: back to the image; 1 has the smallest error, more give finer texture that may be invented.

    Raises:
        RunRefused: it is no diffusion model, or draws colour.

    Source: Tweedie's formula, Efron, J Am Stat Assoc 2011;106:1602.
    """

    name = "prior"

    def __init__(self, run: GeneratorRun, *, steps: int = 1) -> None:
        if not isinstance(run.task, Diffuse):
            raise RunRefused("this run is no diffusion model", where=run.folder, do="Train one with --task diffuse.")
        if run.shape[0] != 1:
            raise RunRefused("this run draws colour, and channels are cleaned one by one", where=run.folder)
        self.run, self.task, self.steps = run, run.task, steps

    @property
    def axes(self) -> int:
        """2 where it knows planes, 3 where it knows volumes."""
        return len(self.run.shape) - 1

    def clean(self, solid: np.ndarray, levels: Levels) -> np.ndarray:
        """Get `(D, H, W)` without its noise."""
        if levels.noise <= 0:
            return solid.astype(np.float32)
        values = (2 * (solid - levels.low) / levels.white - 1).astype(np.float32)
        spread = 2 * levels.noise / levels.white
        window = self.run.shape[1:]

        def asked(windows: np.ndarray) -> np.ndarray:
            return self._back(windows, spread)

        found = (
            windowed(values, window, asked)
            if self.axes == 3
            else np.stack([windowed(plane, window, asked) for plane in values])
        )
        return ((found + 1) / 2 * levels.white + levels.low).astype(np.float32)

    def _back(self, windows: np.ndarray, spread: float) -> np.ndarray:
        """Windows `(N, ...)` without their noise."""
        stopping.check()
        time = time_of(torch.tensor(-2 * math.log(spread)), side=self.task.side)
        device = self.run.engine.device
        noisy = torch.from_numpy(windows)[:, None].to(device)
        alpha, _ = parts(time[None].to(device), side=self.task.side, ndim=noisy.ndim)
        # A single step of "ddpm" is what is foreseen, and draws nothing; that of "ddim" keeps a trace of the noise.
        sampler = "ddpm" if self.steps == 1 else "ddim"
        with torch.inference_mode(), self.run.engine.autocast():
            *_, made = self.task.drawn(alpha * noisy, steps=self.steps, sampler=sampler, start=float(time))
        return made[:, 0].float().cpu().numpy()
