"""Outline: what a prompt shows, learnt from masks. A model is asked as a person would ask it, and corrected once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from medgraft.nets import add_adapters, freeze, merge_adapters
from medgraft.nets.prompt_loss import on_grid, prompt_loss
from medgraft.nets.prompter import Answer, Embedding, TeachablePrompter, size_prior
from medgraft.samples.showing import innermost, parts_of
from medgraft.tasks.answers import Parts
from medgraft.tasks.base import Task
from medgraft.values import Batch, Prediction, Prompt


class Outline(Task):
    """A model that outlines what prompts show, and learns from masks what that should be.

    Args:
        prompter: with an encoder in stages and a head; it stays in eval mode, as its statistics are of many pictures.

    Attributes:
        thawed: stages that learn, from the head down.
        rank: of the adapters that learn in their place; 0 for none.
        learning: how many numbers learn.
    """

    wants: ClassVar[frozenset[str]] = frozenset({"mask"})
    places: ClassVar[str] = "prompts"

    def __init__(self, prompter: TeachablePrompter) -> None:
        super().__init__()
        self.net = prompter.net
        self.prompter = prompter
        self.thawed, self.rank, self.learning = 0, 0, 0
        self._seen: tuple[str, Embedding] | None = None

    @property
    def backbone(self) -> Any:
        """The stages of the encoder."""
        return self.prompter.backbone

    @property
    def head(self) -> nn.Module:
        """What is not of the encoder."""
        return self.prompter.head

    def thaw(self, stages: int, *, rank: int = 0, seed: int = 0) -> None:
        """Let the last `stages` stages and the head learn; freeze the rest.

        Raises:
            BadRecipe: the encoder has fewer stages, or does not take adapters.
        """
        self.net.requires_grad_(False)
        freeze(self.backbone, thawed=stages)
        add_adapters(self.backbone, rank=rank, seed=seed)
        self.head.requires_grad_(True)
        self.thawed, self.rank = stages, rank
        self.learning = sum(one.numel() for one in self.parameters() if one.requires_grad)

    def settle(self) -> None:
        """Make the net a plain one, with what adapters learnt in its weights."""
        merge_adapters(self.backbone)

    def train(self, mode: bool = True) -> Outline:
        """Stay in eval mode: a batch is one picture, of which no statistics can be had."""
        del mode
        return super().train(False)

    def parts(self) -> Parts:
        return Parts(tuple(self.backbone.stages), self.head)  # type: ignore[arg-type]

    # ---- learning ---------------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        assert batch.targets is not None
        masks = batch.targets[0].float()
        embedding = self._embedded(batch)
        answer = self.prompter.answer(embedding, batch.prompts)
        first = prompt_loss(answer, masks)
        again = self.prompter.answer(embedding, self._clicked(batch.prompts, answer, masks))
        yield "all", (first + prompt_loss(again, masks)) / 2

    def _embedded(self, batch: Batch) -> Embedding:
        with torch.set_grad_enabled(self.thawed > 0 and torch.is_grad_enabled()):
            return self.prompter.embed(_picture(batch))

    def _clicked(self, prompts: Sequence[Prompt], answer: Answer, masks: Tensor) -> list[Prompt]:
        """The same prompts, each with a click in the middle of what is wrong in its best answer."""
        prior = np.stack([size_prior(edges) for edges in answer.edges])
        best = (answer.quality.detach() * answer.quality.new_tensor(prior)).argmax(dim=1)
        found = []
        for row, prompt in enumerate(prompts):
            edges = answer.edges[row, int(best[row])]
            drawn = answer.logits[row, best[row]].detach() > 0
            wanted = on_grid(masks[row : row + 1], edges[None], shape=drawn.shape)[0] > 0.5
            found.append(clicked(prompt, (drawn != wanted).cpu().numpy(), wanted.cpu().numpy(), edges))
        return found

    # ---- judging ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Prediction]:
        """Get one prediction a prompt: its best candidate as a mask in the pixels of the file, and its quality.

        A picture that comes again at once, shown in another way, is not seen again.
        """
        if self._seen is None or self._seen[0] != batch.keys[0]:
            self._seen = batch.keys[0], self._embedded(batch)
        embedding = self._seen[1]
        found = []
        for prompt in batch.prompts:
            told = self.prompter.decode(embedding, prompt)
            quality = float(told.quality[told.best])
            words: dict[str, Any] = {"value": quality, "mask": told.masks[told.best]}
            found.append(Prediction(batch.keys[0], np.array([quality]), np.zeros(0), "", **words))
        return found

    def meter(self) -> OverlapMeter:
        self._seen = None  # the weights may have changed
        return OverlapMeter()


class OverlapMeter:
    """Mean overlap (IoU) of masks that were drawn, prompt by prompt."""

    def __init__(self) -> None:
        self.overlaps: list[float] = []

    def update(self, predictions: Sequence[Prediction], targets: np.ndarray) -> None:
        """Add the predictions of one picture and its masks `(1, P, H, W)`."""
        for one, truth in zip(predictions, targets[0] > 0, strict=True):
            assert one.mask is not None
            union = int((one.mask | truth).sum())
            self.overlaps.append(float((one.mask & truth).sum()) / union if union else 1.0)

    def watch(self) -> tuple[float, float]:
        """Get (loss, score): the mean overlap, and what it lacks to one."""
        score = float(np.mean(self.overlaps)) if self.overlaps else 0.0
        return 1.0 - score, score


def _picture(batch: Batch) -> np.ndarray:
    return np.ascontiguousarray(batch.pixels[0].permute(1, 2, 0).cpu().numpy())


def clicked(prompt: Prompt, wrong: np.ndarray, wanted: np.ndarray, edges: np.ndarray) -> Prompt:
    """Get a prompt with one more point: where an answer is most wrong, or in the middle of it where it is right.

    Args:
        prompt: of one structure.
        wrong: `(h, w)` where the answer errs, on the grid of the answer.
        wanted: `(h, w)` the structure there.
        edges: `(4, )` what the grid covers, in pixels of the file.
    """
    x, y = innermost(parts_of(wrong if wrong.any() else wanted, most=1)[0]) if (wrong | wanted).any() else (0.0, 0.0)
    across, down = (edges[2] - edges[0]) / wanted.shape[1], (edges[3] - edges[1]) / wanted.shape[0]
    point = [edges[0] + (x + 0.5) * across - 0.5, edges[1] + (y + 0.5) * down - 0.5, float(wanted[int(y), int(x)])]
    return Prompt(np.concatenate([prompt.points, [point]]), prompt.boxes)
