"""The store: nothing decoded twice, nothing lost by a kill, nothing silently wrong."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medgraft import files, storage
from medgraft.errors import BadImage, DiskFull, Interrupted, UserError
from medgraft.samples import segments
from medgraft.samples.store import Store
from medgraft.values import ImageRef


def network_input(ref: ImageRef, net: dict[str, Any]) -> np.ndarray:
    """The long way, with floats in between."""
    return files.network_pixels(files.read_image(ref), **{**net, "size": tuple(net["size"])})


NET: dict[str, Any] = {"size": (24, 24), "channels": 1, "fit": "stretch"}


def write(folder: Path, count: int, *, start: int = 0, side: int = 30) -> list[ImageRef]:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        pixels = np.random.default_rng(i).integers(0, 256, (side, side), dtype=np.uint8)
        Picture.fromarray(pixels).save(folder / f"{i:03}.png")
    return [ImageRef(folder / f"{i:03}.png") for i in range(start, start + count)]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were sent to be decoded."""
    names: list[str] = []
    real = files.read_many

    def read_many(refs, work, **settings):
        names.extend(ref.path.name for ref in refs)
        return real(refs, work, **settings)

    monkeypatch.setattr(files, "read_many", read_many)
    return names


def truth(refs: list[ImageRef], net: dict[str, Any] = NET) -> np.ndarray:
    return np.stack([network_input(ref, net) for ref in refs])


def test_rows_are_the_network_pixels(tmp_path: Path) -> None:
    refs = write(tmp_path / "data", 6)
    store = Store.open(refs, NET, folder=tmp_path / "cache")
    assert len(store) == 6 and store.shape == (1, 24, 24) and store.dtype == np.uint8 and store.bad == []
    np.testing.assert_array_equal(store.rows([5, 0, 5]), truth(refs)[[5, 0, 5]])
    np.testing.assert_array_equal(store[2], truth(refs)[2])
    assert store.rows([]).shape == (0, 1, 24, 24)
    assert store.bytes == 6 * 24 * 24


def test_only_what_changed_is_decoded_again(tmp_path: Path, counted: list[str]) -> None:
    refs = write(tmp_path / "data", 5)
    first = Store.open(refs, NET, folder=tmp_path / "cache")
    assert len(counted) == 5
    counted.clear()
    Store.open(refs, NET, folder=tmp_path / "cache")
    assert counted == []
    moved = refs[1].path.rename(tmp_path / "data" / "renamed.png")  # the same bytes under another name
    stamp = refs[3].path.stat()
    changed = bytearray(refs[4].path.read_bytes())
    refs[3].path.write_bytes(changed)  # now a copy of image 4
    os.utime(refs[3].path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    Picture.fromarray(np.full((30, 30), 77, np.uint8)).save(refs[2].path)
    again = [refs[0], ImageRef(moved), *refs[2:]]
    second = Store.open(again, NET, folder=tmp_path / "cache")
    assert counted == [refs[2].path.name]
    np.testing.assert_array_equal(second.rows(range(5)), truth(again))
    np.testing.assert_array_equal(second[1], first[1])
    counted.clear()
    Store.open(again, {**NET, "channels": 3}, folder=tmp_path / "cache")
    assert len(counted) == 4  # other pixels; the two identical files are one


def test_defaults_and_their_spelling_out_are_the_same_pool(tmp_path: Path, counted: list[str]) -> None:
    refs = write(tmp_path / "data", 2)
    Store.open(refs, NET, folder=tmp_path / "cache")
    counted.clear()
    Store.open(refs, {**NET, "size": [24, 24], "interpolation": "bilinear", "window": None}, folder=tmp_path / "cache")
    assert counted == []


def test_a_bad_file_is_named_and_never_black(tmp_path: Path) -> None:
    refs = write(tmp_path / "data", 4)
    refs[1].path.write_bytes(refs[1].path.read_bytes()[:60])
    missing = ImageRef(tmp_path / "data" / "none.png")
    store = Store.open([*refs, missing], NET, folder=tmp_path / "cache")
    assert [index for index, _ in store.bad] == [1, 4]
    assert all(len(reason) > 5 for _, reason in store.bad)
    for index in (1, 4):
        with pytest.raises(BadImage, match=refs[1].path.name if index == 1 else "none.png"):
            store[index]
    with pytest.raises(BadImage):
        store.rows([0, 1])
    np.testing.assert_array_equal(store.rows([0, 2, 3]), truth([refs[0], *refs[2:]]))
    assert [bool(record["error"]) for record in store.records] == [False, True, False, False, True]
    only_bad = Store.open([missing], NET, folder=tmp_path / "cache")
    assert only_bad.shape is None
    with pytest.raises(BadImage):
        only_bad[0]


def test_facts_come_with_the_same_decode_and_stay(tmp_path: Path, counted: list[str]) -> None:
    refs = write(tmp_path / "data", 3)
    fresh = Store.open(refs, NET, folder=tmp_path / "cache").records
    counted.clear()
    kept = Store.open(refs, NET, folder=tmp_path / "cache").records
    assert counted == []
    for ref, a, b in zip(refs, fresh, kept, strict=True):
        assert "pixels" not in a and a["key"] == str(ref) == b["key"]
        np.testing.assert_array_equal(a["thumbnail"], b["thumbnail"])
        assert {k: v for k, v in a.items() if k != "thumbnail"} == {k: v for k, v in b.items() if k != "thumbnail"}
        assert a["shape"] == [1, 30, 30] and len(a["sha256"]) == 64


def test_sixteen_bits_stay_and_make_the_whole_store_wide(tmp_path: Path) -> None:
    refs = write(tmp_path / "data", 2)
    deep = np.linspace(0, 65535, 900).astype(np.uint16).reshape(30, 30)
    Picture.fromarray(deep).save(tmp_path / "data" / "deep.png")
    refs.append(ImageRef(tmp_path / "data" / "deep.png"))
    store = Store.open(refs, NET, folder=tmp_path / "cache")
    assert store.dtype == np.uint16
    np.testing.assert_array_equal(store[0], truth(refs[:1])[0].astype(np.uint16) * 257)
    np.testing.assert_array_equal(store[2], network_input(refs[2], NET))
    assert len(np.unique(store[2])) > 256
    assert Store.open(refs[:2], NET, folder=tmp_path / "cache").dtype == np.uint8


def test_rows_of_an_array_file_and_volumes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", train_images=pixels, test_images=255 - pixels)
    refs = [ImageRef(tmp_path / "set.npz" / f"{part}_images", index=i) for part in ("train", "test") for i in range(5)]
    for _ in range(2):
        store = Store.open(refs, {**NET, "size": (16, 16)}, folder=tmp_path / "cache")
        np.testing.assert_array_equal(store.rows(range(5))[:, 0], pixels)
        np.testing.assert_array_equal(store.rows(range(5, 10))[:, 0], 255 - pixels)

    import nibabel

    volume = np.random.default_rng(1).normal(size=(12, 14, 10)).astype(np.float32)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "v.nii.gz")
    net = {"size": (8, 9, 10), "channels": 1, "fit": "stretch"}
    store = Store.open([ImageRef(tmp_path / "v.nii.gz")], net, folder=tmp_path / "cache")
    assert store.shape == (1, 8, 9, 10)
    np.testing.assert_array_equal(store[0], network_input(ImageRef(tmp_path / "v.nii.gz"), net))


def test_a_damaged_row_is_noticed_and_decoded_again(tmp_path: Path) -> None:
    refs = write(tmp_path / "data", 3)
    Store.open(refs, NET, folder=tmp_path / "cache").close()
    (data,) = (tmp_path / "cache").glob("*/*.bin")
    content = bytearray(data.read_bytes())
    content[24 * 24 + 7] ^= 4
    data.write_bytes(content)
    np.testing.assert_array_equal(Store.open(refs, NET, folder=tmp_path / "cache").rows(range(3)), truth(refs))
    data.write_bytes(content[:700])  # cut short: rows beyond the end count as missing
    np.testing.assert_array_equal(Store.open(refs, NET, folder=tmp_path / "cache").rows(range(3)), truth(refs))


def test_a_torn_or_foreign_line_is_skipped(tmp_path: Path, counted: list[str]) -> None:
    refs = write(tmp_path / "data", 4)
    Store.open(refs, NET, folder=tmp_path / "cache").close()
    (lines,) = (tmp_path / "cache").glob("*/*.jsonl")
    whole = lines.read_bytes().splitlines(keepends=True)
    lines.write_bytes(b"\xff\xfe no json\n[1, 2]\n" + b"".join(whole[:3]) + whole[3][:40])
    counted.clear()
    store = Store.open(refs, NET, folder=tmp_path / "cache")
    assert counted == [refs[3].path.name]
    np.testing.assert_array_equal(store.rows(range(4)), truth(refs))


def test_a_row_that_vanished_is_decoded_on_the_fly(tmp_path: Path) -> None:
    refs = write(tmp_path / "data", 3)
    store = pickle.loads(pickle.dumps(Store.open(refs, NET, folder=tmp_path / "cache")))  # noqa: S301
    for path in (tmp_path / "cache").glob("*/*.bin"):
        path.unlink()
    np.testing.assert_array_equal(store.rows(range(3)), truth(refs))
    refs[0].path.write_bytes(refs[1].path.read_bytes())
    again = pickle.loads(pickle.dumps(store))  # noqa: S301
    with pytest.raises(BadImage, match="changed while it was in use"):
        again[0]


def test_the_budget_evicts_the_least_recently_used_other_data(tmp_path: Path, counted: list[str]) -> None:
    row = 24 * 24
    cache = tmp_path / "cache"
    old, newer, third = (write(tmp_path / name, 4, start=10 * i) for i, name in enumerate("abc"))
    Store.open(old, NET, folder=cache).close()
    Store.open(newer, {**NET, "channels": 3}, folder=cache).close()
    for age, path in enumerate(sorted(cache.glob("*/*.bin"), key=lambda p: p.stat().st_size)):
        os.utime(path, (1e9 + age, 1e9 + age))  # `old` has the smaller rows, so it is the older one
    room = sum(path.stat().st_size for path in cache.glob("*/*")) + row
    store = Store.open(third, NET, folder=cache, budget_bytes=room)
    assert store.notes == []
    counted.clear()
    Store.open(newer, {**NET, "channels": 3}, folder=cache).close()
    assert counted == []
    Store.open(old, NET, folder=cache)
    assert len(counted) == 4


def test_a_store_in_use_is_not_evicted(tmp_path: Path, counted: list[str]) -> None:
    cache = tmp_path / "cache"
    first, second = write(tmp_path / "a", 4), write(tmp_path / "b", 4, start=10)
    held = Store.open(first, NET, folder=cache)
    tight = Store.open(second, NET, folder=cache, budget_bytes=4 * 24 * 24)
    assert "decoded again" in tight.notes[0] and "4 of 4" in tight.notes[0]
    np.testing.assert_array_equal(tight.rows(range(4)), truth(second))
    np.testing.assert_array_equal(held.rows(range(4)), truth(first))
    held.close()
    counted.clear()
    Store.open(first, NET, folder=cache)
    assert counted == []


def test_beyond_the_budget_the_bits_are_the_same_and_it_is_said(tmp_path: Path, counted: list[str]) -> None:
    refs = write(tmp_path / "data", 6)
    for budget, over in ((0, 6), (2 * 24 * 24 + 10, 4)):
        cache = tmp_path / f"cache{budget}"
        store = Store.open(refs, NET, folder=cache, budget_bytes=budget)
        assert f"{over} of 6 images" in store.notes[0] and "machine.cache_gb" in store.notes[0]
        np.testing.assert_array_equal(store.rows(range(6)), truth(refs))
        assert sum(path.stat().st_size for path in cache.glob("*/*.bin")) <= budget
        assert all(len(record["sha256"]) == 64 for record in store.records)
    store.close()
    counted.clear()
    roomy = Store.open(refs, NET, folder=cache)
    assert len(counted) == 4 and roomy.notes == []  # there is room now: they are kept
    assert roomy.bytes == 6 * 24 * 24


BUILD = """
import sys
from pathlib import Path
from medgraft.samples import segments
from medgraft.samples.store import Store
from medgraft.values import ImageRef
segments._SYNC_LINES = 3
def progress(done, total):
    print(done, flush=True)
if __name__ == "__main__":
    refs = [ImageRef(p) for p in sorted(Path(sys.argv[1]).iterdir())]
    Store.open(refs, {"size": (24, 24), "channels": 1, "fit": "stretch"}, folder=Path(sys.argv[2]), progress=progress)
"""


def start(tmp_path: Path, **settings: Any) -> subprocess.Popen[str]:
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    command = [sys.executable, str(script), str(tmp_path / "data"), str(tmp_path / "cache")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)


def test_a_killed_build_goes_on_where_it_was(tmp_path: Path, counted: list[str]) -> None:
    refs = write(tmp_path / "data", 40, side=200)
    process = start(tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 10:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    store = Store.open(refs, NET, folder=tmp_path / "cache")
    assert 0 < len(counted) <= 40 - 9  # three whole groups of three lines were on the disk
    np.testing.assert_array_equal(store.rows(range(40)), truth(refs))


def test_two_processes_share_one_build(tmp_path: Path) -> None:
    refs = write(tmp_path / "data", 30)
    crowd = [start(tmp_path) for _ in range(2)]
    for process in crowd:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*/*.bin")) == 30 * 24 * 24
    np.testing.assert_array_equal(Store.open(refs, NET, folder=tmp_path / "cache").rows(range(30)), truth(refs))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_said_and_what_was_written_stays(tmp_path: Path, counted: list[str]) -> None:
    import resource

    refs = write(tmp_path / "data", 40)

    def limit() -> None:  # a file may grow to ten rows and no further, as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10 * 24 * 24, 10 * 24 * 24))

    # Facts take more than the rows here, so the lines meet the limit first: some of them are on the disk then.
    process = start(tmp_path, preexec_fn=limit)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "DiskFull" in said and "machine.cache_gb=0" in said
    store = Store.open(refs, NET, folder=tmp_path / "cache")
    np.testing.assert_array_equal(store.rows(range(40)), truth(refs))


def test_full_rows_before_a_full_disk_are_kept(tmp_path: Path) -> None:
    """The row that found no room is taken back, the whole ones before it get their lines."""
    pixels = np.arange(100, dtype=np.uint8).reshape(1, 10, 10)
    with pytest.raises(DiskFull), segments.Writer(tmp_path) as writer:
        for i in range(5):
            if i == 3:
                data, _ = writer._open()
                data.close()
                writer._files = (open("/dev/full", "wb", buffering=0), writer._files[1])  # noqa: SIM115
            writer.add(f"{i}", pixels, record={})
    assert set(segments.read_rows(tmp_path, {str(i) for i in range(5)})) <= {"0", "1", "2"}


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    refs = write(tmp_path / "data", 1)
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(UserError, match="MEDGRAFT_HOME"):
        Store.open(refs, NET, folder=tmp_path / "cache")


def test_waiting_for_another_process_can_be_stopped(tmp_path: Path) -> None:
    refs = write(tmp_path / "data", 2)
    Store.open(refs, NET, folder=tmp_path / "cache").close()
    (here,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    asked: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        asked.append((done, total))
        raise Interrupted("stopped")

    with storage.lock(here), pytest.raises(Interrupted):
        Store.open(refs, NET, folder=tmp_path / "cache", progress=progress)
    assert asked == [(0, 2)]


def test_stopping_keeps_what_is_done(tmp_path: Path, counted: list[str]) -> None:
    refs = write(tmp_path / "data", 8)

    def progress(done: int, total: int) -> None:
        assert total == 8
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store.open(refs, NET, folder=tmp_path / "cache", progress=progress)
    counted.clear()
    Store.open(refs, NET, folder=tmp_path / "cache")
    assert len(counted) == 3


def test_real_images_give_the_same_bits_from_the_store(shared, tmp_path: Path) -> None:
    refs = files.list_images(shared("data/cxr_pneumonia_624"))[:6] + files.list_images(shared("data/odir5k_sub"))[:6]
    net = {"size": (64, 64), "channels": 3, "fit": "pad"}
    store = Store.open(refs, net, folder=tmp_path / "cache", workers=2)
    assert store.bad == []
    np.testing.assert_array_equal(store.rows(range(12)), truth(refs, net))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """Reading ten times as many rows takes no more resident memory."""
    refs = write(tmp_path / "data", 300)
    store = Store.open(refs, {"size": (512, 512), "channels": 3, "fit": "stretch"}, folder=tmp_path / "cache")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    store.rows(range(16))
    before = resident()
    for begin in range(0, 300, 16):
        store.rows(range(begin, min(300, begin + 16)))
    time.sleep(0.1)
    assert resident() - before < 60e6  # all rows together are 236 MB
