"""Reader processes may die; the caller does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pool_work
import pytest
import tifffile
import zoo_dicom
from zoo_case import chunk, tiny_png

from medgraft.errors import BadImage
from medgraft.files import read_many, read_pixels, save_png

LIMIT = 64 << 20


def test_results_come_in_order() -> None:
    refs = list(range(200))
    assert list(read_many(refs, pool_work.act, workers=2)) == [(k, k) for k in refs]


def test_nothing_to_do() -> None:
    assert list(read_many([], pool_work.act, workers=2)) == []


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("abort", "the decoder crashed (SIGABRT)"),
        ("kill", "the decoder crashed (SIGKILL"),
        ("segv", "the decoder crashed (SIGSEGV)"),
        ("exit", "exit code 3"),
        ("raise", "ValueError: a bad thing"),
        ("memory", "more memory"),
        ("unsendable", "cannot be sent"),
    ],
)
def test_a_crash_costs_one_item(word: str, words: str) -> None:
    refs = [1, 2, word, 3, 4, 5, word, 6]
    results = dict(read_many(refs, pool_work.act, workers=1))
    assert len(results) == len(refs)
    for k, ref in enumerate(refs):
        if ref == word:
            assert isinstance(results[k], BadImage)
            assert words in results[k].what
        else:
            assert results[k] == ref


def test_a_hang_is_stopped() -> None:
    began = time.monotonic()
    results = dict(read_many([1, "hang", 2, 3], pool_work.act, workers=1, timeout_s=1.0))
    assert "took longer than 1 s" in results[1].what
    assert [results[k] for k in (0, 2, 3)] == [1, 2, 3]
    assert time.monotonic() - began < 20


def test_every_worker_may_die_again_and_again() -> None:
    refs = ["abort", 1, "kill", 2] * 3
    results = dict(read_many(refs, pool_work.act, workers=2))
    assert [results[k] for k in range(1, 12, 2)] == [1, 2] * 3
    assert all(isinstance(results[k], BadImage) for k in range(0, 12, 2))


def test_prints_do_not_break_the_answers() -> None:
    assert [r for _, r in read_many(["print", 5], pool_work.act, workers=0)] == ["printed", 5]


def test_torch_is_not_imported() -> None:
    assert [r for _, r in read_many(["torch"], pool_work.act, workers=1)] == [False]


def test_large_arrays_come_back_whole_and_writable() -> None:
    sizes = [10, 3 << 20, 1, 20 << 20, 0, 999_999]
    for k, array in read_many(sizes, pool_work.big, workers=2):
        assert array.shape == (sizes[k],)
        assert (array == sizes[k] % 251).all()
        array[:1] = 3


def test_the_caller_may_stop_early() -> None:
    before = threads()
    run = read_many(iter(int, 1), pool_work.act, workers=2)
    assert next(run) == (0, 0)
    run.close()
    assert threads() <= before


def threads() -> int:
    import threading

    return threading.active_count()


def test_refs_larger_than_a_pipe() -> None:
    refs = [b"x" * (300_000 + k) for k in range(12)]
    assert [len(r) for _, r in read_many(refs, pool_work.act, workers=1)] == [len(r) for r in refs]


def test_ctrl_c_ends_the_workers(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, signal, sys, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands down that it is ignored
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import pool_work
        from medgraft.files import read_many
        for k, r in read_many(iter(int, 1), pool_work.act, workers=2):
            if k == 3:
                print(os.getpid(), flush=True)
                time.sleep(60)
        """)
    )
    run = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None
    pid = int(run.stdout.readline())
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        run.kill()
        pytest.skip("needs /proc to see child processes")
    workers = [int(p) for p in Path(f"/proc/{pid}").glob("task/*/children") for p in p.read_text().split()]
    assert len(workers) == 2
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=20)
    for worker in workers:
        wait_until_gone(worker)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import pool_work
        from medgraft.files import read_many
        for k, r in read_many(iter(int, 1), pool_work.act, workers=1):
            if k == 3:
                print("ready", flush=True)
                time.sleep(60)
        """)
    )
    run = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"ready\n"
    tasks = list(Path(f"/proc/{run.pid}").glob("task/*/children"))
    if not tasks:
        run.kill()
        pytest.skip("needs /proc to see child processes")
    workers = [int(p) for task in tasks for p in task.read_text().split()]
    run.kill()
    run.wait(10)
    for worker in workers:
        wait_until_gone(worker)


def wait_until_gone(pid: int) -> None:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} still lives")


def png_bomb(path: Path) -> None:
    path.write_bytes(tiny_png(30000, 30000, 8, 2, b"\0" * 100_000))


def text_bomb(path: Path) -> None:
    body = chunk(b"zTXt", b"k\0\0" + deflated(b"", 100, 15))
    path.write_bytes(tiny_png(9, 9, 8, 0, b"\0" * 90, extra=body))


def deflate_bomb(path: Path) -> None:
    good = zoo_dicom.written(zoo_dicom.dataset(np.zeros((9, 9), np.uint8)), b"\0" * 81, zoo_dicom.DEFLATED)
    start = 144 + int.from_bytes(good[140:144], "little")  # the end of the file meta information
    zeros = b"\xe0\x7f\x10\x00OW\0\0" + (200 << 20).to_bytes(4, "little")
    path.write_bytes(good[:start] + deflated(zeros, 200, -15))


def deflated(start: bytes, megabytes: int, wbits: int) -> bytes:
    """Pack some bytes and then many zeros."""
    packer = zlib.compressobj(6, wbits=wbits)
    zeros = b"\0" * (1 << 20)
    return packer.compress(start) + b"".join(packer.compress(zeros) for _ in range(megabytes)) + packer.flush()


def rle_bomb(path: Path) -> None:
    tiny = np.array([1, 64] + [0] * 14, "<u4").tobytes() + b"\x81\0\x81\0"
    path.write_bytes(zoo_dicom.packed(np.zeros((9, 9), np.uint8), [tiny], zoo_dicom.RLE, Rows=60000, Columns=60000))


def rle_liar(path: Path) -> None:
    tiny = np.array([1, 64] + [0] * 14, "<u4").tobytes() + b"\x81\0\x81\0"
    path.write_bytes(zoo_dicom.packed(np.zeros((9, 9), np.uint8), [tiny], zoo_dicom.RLE, Rows=7000, Columns=7000))


def nifti_bomb(path: Path) -> None:
    header = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).header
    raw = bytearray(header.binaryblock + b"\0" * 4)
    raw[42:48] = np.array([2048, 2048, 512], "<i2").tobytes()
    path.write_bytes(deflated(bytes(raw), 100, 31))


def tiff_bomb(path: Path) -> None:
    data = deflated(b"", 300, 15)
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        page = tiff.pages[0]
        place = page.tags["StripOffsets"], page.tags["StripByteCounts"]
        end = path.stat().st_size
        place[0].overwrite(end)
        place[1].overwrite(len(data))
    with open(path, "ab") as file:
        file.write(data)


def nested(path: Path) -> None:
    item = b"\x40\x00\x75\xa3SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    good = zoo_dicom.written(zoo_dicom.report(zoo_dicom.SR), None)
    path.write_bytes(good + item * 20000)


def long_claim(path: Path) -> None:
    good = zoo_dicom.dcm(np.zeros((9, 9), np.uint8))
    place = good.index(b"\xe0\x7f\x10\x00OB\0\0")
    path.write_bytes(good[: place + 8] + b"\xfe\xff\xff\xff" + good[place + 12 :])


BOMBS = {
    "png.png": (png_bomb, "too large"),
    "text.png": (text_bomb, "Decompressed data too large"),
    "deflate.dcm": (deflate_bomb, "too large"),
    "rle.dcm": (rle_bomb, "too large"),
    "rle-liar.dcm": (rle_liar, "cannot make 7000 x 7000"),
    "nifti.nii.gz": (nifti_bomb, "too large"),
    "tiff.tif": (tiff_bomb, "INSUFFICIENT_SPACE"),
    "nested.dcm": (nested, "nested too deeply"),
    "long-claim.dcm": (long_claim, "truncated"),
}


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in BOMBS.items():
        make(folder / name)
    save_png(folder / "good.png", np.full((20, 20), 7, np.uint8))
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(name: str, bombs: dict[str, Path]) -> None:
    paths = [bombs["good.png"], bombs[name], bombs["good.png"]]
    run = read_many(paths, partial(pool_work.size_of, limit=LIMIT), workers=1, memory_bytes=1 << 30, timeout_s=10)
    assert next(run)[1] == (1, 20, 20)
    began = time.monotonic()
    _, result = next(run)
    took = time.monotonic() - began
    assert isinstance(result, BadImage)
    assert BOMBS[name][1] in str(result)
    assert next(run)[1] == (1, 20, 20)
    assert took < 2.0


def test_an_aborting_decoder_costs_one_file(bombs: dict[str, Path]) -> None:
    refs = [bombs["rle.dcm"], bombs["good.png"]]
    results = [r for _, r in read_many(refs, pool_work.abort_in_decoder, workers=1, memory_bytes=1 << 30)]
    assert "the decoder crashed (SIGABRT)" in results[0].what
    assert results[1] == "spared"


def test_reading_files_end_to_end(tmp_path: Path) -> None:
    for k in range(20):
        save_png(tmp_path / f"{k:02d}.png", np.full((30, 40, 3), k, np.uint8))
    (tmp_path / "05.png").write_bytes(b"oh no")
    paths = sorted(tmp_path.iterdir())
    work = partial(read_pixels, size=(16, 16), channels=1)
    for k, result in read_many(paths, work, workers=2):
        if k == 5:
            assert "text file" in result.what and result.where == str(paths[5])
        else:
            assert result.shape == (1, 16, 16) and result.max() == k
