"""Checkpoints of segment-anything and MobileSAM: the numbers that their authors' own code gives."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from medgraft.errors import BadWeights
from medgraft.nets.prompter_sources import open_prompter
from medgraft.values import Prompt
from sam_checkpoints import checkpoint

pytest.importorskip("transformers")
torch.set_num_threads(1)
PROMPTS = {"box": Prompt(boxes=[(20, 10, 70, 45)]), "points": Prompt(points=[(30, 20, 1), (80, 50, 0)])}
# What segment-anything 1.0 and MobileSAM 1.0 say of these very weights and this picture, by their SamPredictor:
# the three qualities, and how many pixels each mask has.
THEIRS = {
    ("vit", "box"): ((0.23129, -0.50136, -0.44953), (5170, 2621, 5681)),
    ("vit", "points"): ((0.22587, -0.45488, -0.46778), (5409, 2080, 5744)),
    ("tiny", "box"): ((0.26483, -0.5075, -0.50859), (5285, 2852, 5267)),
    ("tiny", "points"): ((0.27123, -0.51355, -0.51517), (5190, 2883, 5160)),
}


def picture() -> np.ndarray:
    rows, columns = np.indices((60, 100))
    bands = (rows * 4 % 256, columns * 2 % 256, (rows + columns) * 3 % 256)
    return np.stack(bands, axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("kind", "wrapped"), [("vit", False), ("vit", True), ("tiny", False)])
def test_a_checkpoint_answers_as_the_code_of_its_authors(tmp_path: Path, kind: str, wrapped: bool):
    state = checkpoint(kind)
    torch.save({"model": state, "epoch": 3} if wrapped else state, tmp_path / "sam.pth")
    net = open_prompter(f"file:{tmp_path / 'sam.pth'}")
    embedding = net.encode(picture())
    for name, prompt in PROMPTS.items():
        quality, areas = THEIRS[kind, name]
        found = net.decode(embedding, prompt)
        assert found.quality == pytest.approx(quality, abs=1e-4)
        assert found.masks.sum(axis=(1, 2)) == pytest.approx(areas, abs=3)
        assert found.best == 0


def test_a_checkpoint_may_be_safetensors_too(tmp_path):
    from safetensors.torch import save_file

    save_file(checkpoint("vit"), tmp_path / "sam.safetensors")
    found = open_prompter(str(tmp_path / "sam.safetensors"))
    assert found.decode(found.encode(picture()), PROMPTS["box"]).quality[0] == pytest.approx(0.23129, abs=1e-4)


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return Path.touch, (self.place,)


def test_a_pickle_is_refused_and_never_run(tmp_path):
    path = tmp_path / "sam.pth"
    path.write_bytes(pickle.dumps({"image_encoder.pos_embed": Trap(tmp_path / "ran")}))
    with pytest.raises(BadWeights, match="not opened for safety"):
        open_prompter(f"file:{path}")
    torch.save({"image_encoder.pos_embed": Trap(tmp_path / "ran")}, path)
    with pytest.raises(BadWeights, match="not opened for safety"):
        open_prompter(f"file:{path}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("drop", "said"),
    [
        ("prompt_encoder.no_mask_embed.weight", "fit no SAM"),
        ("image_encoder.neck.0.weight", "missing, such as vision_encoder.neck.conv1.weight"),
        ("image_encoder.", "does not say its architecture"),
    ],
)
def test_a_checkpoint_that_lacks_something_says_what(tmp_path, drop, said):
    state = {name: value for name, value in checkpoint("vit").items() if not name.startswith(drop)}
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(BadWeights, match=said):
        open_prompter(f"file:{tmp_path / 'sam.pth'}")


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(BadWeights, match="no such file"):
        open_prompter(f"file:{tmp_path / 'absent.pth'}")
