"""Checkpoints: atomic, checked, the last two and the best kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medgraft.learn.resume import Checkpoint, Checkpoints, optimiser_tensors, restore_optimisers


def _checkpoint(value: float, best: float | None = None) -> Checkpoint:
    weights = {} if best is None else {"head.weight": torch.full((3,), best)}
    return Checkpoint({"model/head.weight": torch.full((3,), value)}, {"epoch": int(value)}, weights)


def test_the_newest_comes_back(tmp_path: Path) -> None:
    saver = Checkpoints(tmp_path)
    best = _checkpoint(1, best=7)
    saver.save(best, 1)
    saver.save(Checkpoint(_checkpoint(2).tensors, {"epoch": 2}, best.best), 2)
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    assert found.facts["epoch"] == 2
    assert torch.equal(found.tensors["model/head.weight"], torch.full((3,), 2.0))
    assert torch.equal(found.best["head.weight"], torch.full((3,), 7.0))
    assert len(list(tmp_path.glob("best-*"))) == 1


def test_two_states_are_kept_and_the_bests_they_name(tmp_path: Path) -> None:
    saver = Checkpoints(tmp_path)
    for step in range(5):
        saver.save(_checkpoint(step, best=step), step)
    assert len(list(tmp_path.glob("state-*"))) == 2
    assert len(list(tmp_path.glob("best-*"))) == 2


@pytest.mark.parametrize("damage", ["flip", "empty", "half", "short by one"])
@pytest.mark.parametrize("kind", ["state", "best"])
def test_a_damaged_file_is_skipped_for_the_one_before(tmp_path: Path, damage: str, kind: str) -> None:
    saver = Checkpoints(tmp_path)
    for step in range(2):
        saver.save(_checkpoint(step, best=step), step)
    newest = sorted(tmp_path.glob(f"{kind}-*"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 4
    sizes = {"flip": len(data), "empty": 0, "half": len(data) // 2, "short by one": len(data) - 1}
    newest.write_bytes(bytes(data[: sizes[damage]]))
    again = Checkpoints(tmp_path)
    found = again.latest()
    assert found is not None and found.facts["epoch"] == 0
    assert again.skipped


def test_nothing_whole_is_nothing(tmp_path: Path) -> None:
    saver = Checkpoints(tmp_path)
    path = saver.save(_checkpoint(1), 1)
    path.write_bytes(b"")
    assert Checkpoints(tmp_path).latest() is None


def test_clear_leaves_no_folder(tmp_path: Path) -> None:
    saver = Checkpoints(tmp_path / "resume")
    saver.save(_checkpoint(1, best=1), 1)
    saver.clear()
    assert not (tmp_path / "resume").exists()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_moments_come_back_exactly(layout: torch.memory_format) -> None:
    """With the optimiser that training uses, and in both layouts: a fused one reads the memory as it lies."""

    def made() -> tuple[torch.nn.Conv2d, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=layout)  # type: ignore[call-overload]
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    def step(layer: torch.nn.Conv2d, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        pixels = torch.linspace(-1, 1, 3 * 25).view(1, 3, 5, 5).contiguous(memory_format=layout)
        layer(pixels).square().sum().backward()
        optimiser.step()

    first, optimiser = made()
    step(first, optimiser)
    # A file gives tensors back in the plain layout, whatever they had.
    saved = {name: tensor.contiguous() for name, tensor in optimiser_tensors({"all": optimiser}).items()}
    weights = first.state_dict()
    second, other = made()
    second.load_state_dict(weights)
    restore_optimisers({"all": other}, saved)
    step(first, optimiser)
    step(second, other)
    assert torch.equal(first.weight, second.weight)
