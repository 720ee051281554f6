"""How fast diffusion learns and draws beside MONAI's net and loop and beside denoising-diffusion-pytorch.

    python benchmarks/generate.py --out runs/generate
    python benchmarks/generate.py --out runs/generate --usual     # also each way back as it is usually gone: minutes

All three have as many parameters, within a tenth, draw gray images of 64 x 64 pixels, learn 16 images a step in
float32 on one thread, and sit in one process, where they take turns of a few steps, so that the noise of a shared
machine hits all alike; a ratio is the median of those of neighbouring turns, with its quarters. The other packages are
no part of medgraft: `pip install monai einops denoising-diffusion-pytorch`; an arm without its package is left out.

The net of medgraft folds blocks of two by two pixels into channels, so that its finest map is 32 x 32: that is its
design, and the reason for most of the speed. `--fold 1` leaves it out. What each step does: medgraft's is the step of
`medgraft train` (AdamW, clipping, averaged weights); MONAI's that of its tutorial of DDPM in planes (Adam, the inferer,
the scheduler adds noise); of denoising-diffusion-pytorch that of its trainer (Adam, clipping, averaged weights). The
values of the images do not change the time, so they are drawn at random.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

os.environ["TQDM_DISABLE"] = "1"  # bars of the other packages
SIDE, BATCH, CALLS = 64, 16, 32
COLD = 2  # steps that are not timed
WANTED = 1.2
WIDTHS = (64, 128, 192)  # of a plan on a processor
USUAL = {"medgraft": 32, "monai": 1000, "ddp": 250}  # steps back: planned; of the tutorial; of the package's page


class Arm(Protocol):
    """One package."""

    @property
    def net(self) -> nn.Module:
        """What is asked."""
        ...

    def step(self, images: Tensor) -> None:
        """Learn from images of 0..1 once."""
        ...

    def draw(self, noise: Tensor, calls: int) -> Tensor:
        """Get images of noise, asking the net so many times."""
        ...


class Medgraft:
    """The step of `medgraft train --task diffuse`, and its way back."""

    def __init__(self, fold: int) -> None:
        from medgraft.learn.engine import Engine
        from medgraft.learn.loop import Loop, Schedule
        from medgraft.nets.denoiser import DenoiserForm
        from medgraft.tasks.answers import Answers
        from medgraft.tasks.diffuse import Diffuse

        form = DenoiserForm(2, 1, WIDTHS, 1, 1, 0, 0.1, fold)
        self.task = Diffuse(form, Answers(), side=SIDE)
        self.net = self.task.net
        optimisers = {"all": torch.optim.AdamW(self.task.parameters(), lr=3e-4, weight_decay=0.0, fused=True)}
        engine = Engine("cpu", precision="fp32", channels_last=False)
        words: dict[str, Any] = {"schedule": Schedule(epochs=1000, ema=0.999), "folder": None, "val": None}
        self.loop = Loop(self.task, engine, optimisers=optimisers, train=_Endless(), **words)

    def step(self, images: Tensor) -> None:
        from medgraft.values import Batch

        self.task.train()
        self.loop._step(Batch(images * 2 - 1, ("",) * len(images)))
        self.loop.step += 1

    @torch.inference_mode()
    def draw(self, noise: Tensor, calls: int) -> Tensor:
        self.task.eval()
        *_, made = self.task.drawn(noise, steps=calls, sampler="dpm")
        return made


class _Endless:
    """A loader, as far as a schedule asks for one."""

    def __len__(self) -> int:
        return 1000

    def epoch(self, epoch: int, *, start_step: int = 0) -> Any:
        raise NotImplementedError


class Monai:
    """The step and the way back of MONAI's tutorial 2d_ddpm, written anew; the widths are in its shares 1, 2, 2."""

    def __init__(self, parameters: int) -> None:
        from monai.inferers import DiffusionInferer
        from monai.networks.nets import DiffusionModelUNet
        from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

        def build(width: int) -> nn.Module:
            words: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "num_res_blocks": 1}
            words |= {"attention_levels": (False, True, True), "num_head_channels": 2 * width, "norm_num_groups": 16}
            return DiffusionModelUNet(channels=(width, 2 * width, 2 * width), **words)

        self.net = nearest(build, range(32, 161, 16), parameters)
        self.ddpm, self.ddim = DDPMScheduler(num_train_timesteps=1000), DDIMScheduler(num_train_timesteps=1000)
        self.inferer = DiffusionInferer(self.ddpm)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=2.5e-5)

    def step(self, images: Tensor) -> None:
        self.net.train()
        self.optimiser.zero_grad(set_to_none=True)
        noise = torch.randn_like(images)
        times = torch.randint(0, 1000, (len(images),)).long()
        said = self.inferer(inputs=images, diffusion_model=self.net, noise=noise, timesteps=times)
        nn.functional.mse_loss(said.float(), noise.float()).backward()
        self.optimiser.step()

    @torch.inference_mode()
    def draw(self, noise: Tensor, calls: int) -> Tensor:
        self.net.eval()
        scheduler: Any = self.ddpm if calls == 1000 else self.ddim
        scheduler.set_timesteps(num_inference_steps=calls)
        words: dict[str, Any] = {"diffusion_model": self.net, "scheduler": scheduler, "verbose": False}
        return self.inferer.sample(input_noise=noise, **words)


class Ddp:
    """The step and the way back of denoising-diffusion-pytorch, its net with the channels of its page in shares."""

    def __init__(self, parameters: int) -> None:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet

        self.net = nearest(
            lambda width: Unet(dim=width, dim_mults=(1, 2, 4, 8), channels=1), range(16, 65, 4), parameters
        )
        self.way = GaussianDiffusion(self.net, image_size=SIDE, timesteps=1000, sampling_timesteps=CALLS)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=8e-5, betas=(0.9, 0.99))
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.steps = 0

    def step(self, images: Tensor) -> None:
        self.way.train()
        self.way(images).backward()
        nn.utils.clip_grad_norm_(self.way.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.steps += 1
        if self.steps % 10 == 0:  # as its trainer
            for own, new in zip(self.average.parameters(), self.net.parameters(), strict=True):
                own.lerp_(new.detach(), 1 - 0.995)

    @torch.inference_mode()
    def draw(self, noise: Tensor, calls: int) -> Tensor:
        self.way.eval()
        self.way.sampling_timesteps, self.way.is_ddim_sampling = calls, calls < 1000
        return self.way.sample(batch_size=len(noise))


def nearest(build: Callable[[int], nn.Module], widths: range, parameters: int) -> nn.Module:
    """Get the net whose number of parameters is nearest."""
    return min((build(width) for width in widths), key=lambda net: abs(count(net) - parameters))


def count(net: nn.Module) -> int:
    """Get the number of parameters."""
    return sum(one.numel() for one in net.parameters())


def arms_of(given: argparse.Namespace) -> dict[str, Arm]:
    """Get the arms whose packages are here."""
    arms: dict[str, Arm] = {"medgraft": Medgraft(given.fold)}
    parameters = count(arms["medgraft"].net)
    for name, kind in (("monai", Monai), ("ddp", Ddp)):
        try:
            arms[name] = kind(parameters)
        except ImportError as error:
            print(f"{name} is left out: {str(error).splitlines()[0]}", flush=True)
    return arms


def timed(work: Callable[[], object]) -> list[float]:
    """Get (seconds by the wall, seconds of the processor)."""
    began = time.perf_counter(), time.process_time()
    work()
    return [time.perf_counter() - began[0], time.process_time() - began[1]]


def turns(arms: dict[str, Arm], work: Callable[[Arm], object], *, rounds: int, each: int) -> dict[str, Any]:
    """Let the arms take turns, another first in each; the first round is not told."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in arms}
    names = list(arms)
    for round_ in range(rounds + 1):
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            told = timed(lambda arm=arms[name]: [work(arm) for _ in range(each)])
            if round_:
                seconds[name].append([one / each for one in told])
    return seconds


def rows_of(what: str, seconds: dict[str, Any], per: float) -> list[str]:
    """Get rows of the table: images a second of medgraft and of another, and the ratio of neighbouring turns."""
    ours, found = np.array(seconds["medgraft"]), []
    for name, theirs in ((name, np.array(one)) for name, one in seconds.items() if name != "medgraft"):
        for clock, words in enumerate(("", ", by processor time")):
            low, middle, high = np.percentile(theirs[:, clock] / ours[:, clock], (25, 50, 75))
            rates = [per / float(np.median(one[:, clock])) for one in (ours, theirs)]
            said = f"{middle:.2f} ({low:.2f} to {high:.2f}, {len(ours)} turns)"
            found.append(f"| {what}{words} | {rates[0]:.3g} | {name} {rates[1]:.3g} | {said} | at least {WANTED} |")
    return found


def main() -> None:
    """Let the arms take turns and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/generate"))
    parser.add_argument("--fold", type=int, default=2, help="of the net of medgraft")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2, help="training steps of a turn")
    parser.add_argument("--drawn", type=int, default=2, help="images of a turn of drawing")
    parser.add_argument("--usual", action="store_true", help="also the way back as each is usually gone")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    arms = arms_of(given)
    sizes = {name: count(arm.net) for name, arm in arms.items()}
    print(json.dumps({"parameters": sizes, "fold": given.fold, "threads": given.threads}), flush=True)
    images, noise = torch.rand(BATCH, 1, SIDE, SIDE), torch.randn(given.drawn, 1, SIDE, SIDE)
    told: dict[str, Any] = {"parameters": sizes, "options": {k: str(v) for k, v in vars(given).items()}}
    told["train"] = turns(arms, lambda arm: arm.step(images), rounds=given.rounds, each=given.steps)
    table = rows_of("training images a second", told["train"], BATCH)
    told["equal"] = turns(arms, lambda arm: arm.draw(noise, CALLS), rounds=max(2, given.rounds // 2), each=1)
    table += rows_of(f"drawn images a second, {CALLS} calls of the net each", told["equal"], given.drawn)
    if given.usual:
        one = noise[:1]
        told["usual"] = {name: [timed(lambda n=name, a=arm: a.draw(one, USUAL[n]))] for name, arm in arms.items()}
        table += rows_of(f"drawn images a second, {json.dumps(USUAL)} calls", told["usual"], 1)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "generate.json").write_text(json.dumps(told) + "\n")
    print("| what | medgraft | other | ratio | wanted |\n|---|---|---|---|---|\n" + "\n".join(table))


if __name__ == "__main__":
    main()
