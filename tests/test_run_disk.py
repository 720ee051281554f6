"""Full disks, exhausted memory and a loss that is no number: said plainly, and nothing that was saved is harmed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medgraft.learn.resume import Checkpoints
from whole_runs import finish, result, start, stops

_PLAIN = re.compile(r"needs [\d.]+ (MB|bytes), [\d.]+ (MB|bytes) are free")


class Disk:
    """A small disk of its own.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])

    def resize(self, size: str) -> None:
        """Give the disk another size, such as "14m"; what lies on it stays."""
        self._mount(["-o", f"remount,size={size}"])

    def _mount(self, words: list[str]) -> None:
        done = subprocess.run(["mount", *words, str(self.path)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Get a disk of 64 kB, or skip where mounting is not allowed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs Linux and root")
    made = Disk(tmp_path / "disk")
    yield made
    subprocess.run(["umount", "-l", str(made.path)], check=True)


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_good_checkpoint(tiny_data: Path, tmp_path: Path, disk: Disk) -> None:
    finish(start(tiny_data, tmp_path / "whole", epochs=3))
    disk.resize("14m")  # two checkpoints of 6 MB fit, the third must lie beside them before the first may go
    out = disk.path / "run"
    said = stops(start(tiny_data, out, epochs=3))
    assert "the disk is full" in said and str(out / "resume") in said and "--resume" in said
    assert _PLAIN.search(said)
    kept = Checkpoints(out / "resume")
    found = kept.latest()
    assert found is not None and not kept.skipped and found.facts["step"] >= 1
    assert not list((out / "resume").glob(".*.tmp"))
    assert "the disk is full" in stops(start(tiny_data, out, epochs=3, resume=True))  # still no room: said again
    disk.resize("60m")
    finish(start(tiny_data, out, epochs=3, resume=True))
    assert result(out) == result(tmp_path / "whole")


@pytest.mark.slow
def test_a_full_cache_disk_is_said_and_leaves_nothing_wrong(tiny_data: Path, tmp_path: Path, disk: Disk) -> None:
    finish(start(tiny_data, tmp_path / "whole", depth="1", epochs=3))
    home = disk.path / "home"
    there = {"MEDGRAFT_HOME": str(home)}
    met = []
    for size in ("64k", "400k", "600k", "700k", "8m"):
        disk.resize(size)
        process = start(tiny_data, tmp_path / "cut", depth="1", epochs=3, resume=bool(met), environment=there)
        if size == "8m":
            finish(process)
        else:
            said = stops(process)
            assert "the disk is full" in said and re.search(r"\d+ bytes|\d MB", said)
            met.append("prefix" if str(home / "prefix") in said else "images" if "MEDGRAFT_HOME" in said else said)
    assert set(met) == {"images", "prefix"}
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_said_and_written_later(tiny_data: Path, tmp_path: Path) -> None:
    """A limit on the size of files meets the writes themselves, not the look at the free space before them."""
    import resource

    finish(start(tiny_data, tmp_path / "whole", depth="head", epochs=3))
    limit = 1_000_000  # room for everything but the model of 1.5 MB, which comes last
    process = start(
        tiny_data,
        tmp_path / "cut",
        depth="head",
        epochs=3,
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    said = stops(process)
    assert "model.safetensors" in said and "larger than this system allows" in said and _PLAIN.search(said)
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    finish(start(tiny_data, tmp_path / "cut", depth="head", epochs=3, resume=True))
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


@pytest.mark.parametrize("epochs", [3, 1])
def test_a_loss_that_is_no_number_stops_the_run(tiny_data: Path, tmp_path: Path, epochs: int) -> None:
    settings = {"fit.lr": 1e30, "fit.head_lr": 1e30, "fit.clip": 0, "fit.warmup": 0, "fit.ema": 0}
    # In the second case the only step of the run ruins the weights, so that validation meets them first.
    settings |= {"fit.batch_size": 8 if epochs > 1 else 64}
    said = stops(start(tiny_data, tmp_path / "run", epochs=epochs, settings=settings))
    assert re.search(r"nan|inf|not finite", said) and re.search(r"samples were p\d\d_\d\.png", said)
    assert "fit.lr" in said
    kept = Checkpoints(tmp_path / "run" / "resume")
    assert kept.latest() is not None or epochs == 1
    assert not kept.skipped


_STARVED = """
import resource, sys
import medgraft.run, torch, torch._dynamo
from medgraft.cli import main
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 900_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.argv = ["medgraft", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory that holds")
def test_too_little_memory_is_said(tiny_data: Path, tmp_path: Path) -> None:
    words = ["train", str(tiny_data), "--out", str(tmp_path / "run"), "--backbone", "none:timm:test_resnet"]
    words += ["--image-size", "1024", "--batch-size", "32", "--epochs", "1", "--label-column", "label"]
    words += ["--set", "fit.precision=fp32", "--set", "fit.channels_last=false", "--augment", "none"]
    process = subprocess.Popen(
        [sys.executable, "-c", _STARVED, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    said = stops(process)
    assert "memory ran out" in said and "--batch-size" in said
