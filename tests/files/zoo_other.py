"""Foreign files, odd names, numpy and NIfTI animals."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from zoo_case import Case, noise, planes, save
from zoo_raster import GRAY, PNG_RGB, RGB

VOLUME = noise(7, 6, 5, seed=21, top=900, dtype=np.int16)  # (i, j, k) as NIfTI stores it
ZYX = np.ascontiguousarray(VOLUME.transpose(2, 1, 0)[None], dtype=np.float32)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 3.0, 0, -20], [0, 0, 4.0, 30], [0, 0, 0, 1]])
HTML = b"<!DOCTYPE html><html><body>404 not found</body></html>"


def cases() -> list[Case]:
    """All animals of this module."""
    return foreign_cases() + name_cases() + numpy_cases() + npz_cases() + nifti_cases() + broken_nifti_cases()


def _archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "hello")
    return buffer.getvalue()


def foreign_cases() -> list[Case]:
    """What is no image here; the refusal names it."""
    rows = {
        "page.dcm": (HTML, "web page (HTML) with the name of a DICOM file"),
        "page.jpg": (b"\n  <html>" + HTML, "web page (HTML) with the name of an image"),
        "page-bom.png": (b"\xef\xbb\xbf<html>", "web page (HTML)"),
        "empty.png": (b"", "is empty (0 bytes)"),
        "empty.dcm": (b"", "is empty (0 bytes)"),
        "zeros.dcm": (b"\0" * 5000, "zero bytes with the name of a DICOM file"),
        "one-byte.nii": (b"\1", "no known kind"),
        "report.pdf": (b"%PDF-1.7\n" + b"x" * 99, "a PDF document"),
        "report.png": (b"%PDF-1.7\n" + b"x" * 99, "a PDF document with the name of an image"),
        "phone.heic": (b"\0\0\0\x18ftypheic" + b"\0" * 99, "HEIC"),
        "film.mp4": (b"\0\0\0\x18ftypmp42" + b"\0" * 99, "video"),
        "layers.psd": (b"8BPS\0\1" + b"\0" * 99, "Photoshop"),
        "draw.eps": (b"%!PS-Adobe-3.0\n" + b"x" * 99, "PostScript"),
        "draw.svg": (b"<?xml version='1.0'?><svg></svg>", "SVG"),
        "all.zip": (_archive(), "ZIP archive"),
        "not-npz.npz": (_archive(), "no array"),
        "table.png": (b"path,label\na.png,1\n", "text file with the name of an image"),
        "random.dcm": (np.random.default_rng(0).bytes(4000), "no known kind of image with the name of a DICOM file"),
        "random.png": (np.random.default_rng(1).bytes(4000), "no known kind"),
        "tool": (b"\x7fELF\2\1\1" + b"\0" * 99, "a program"),
        "evil.npy": (pickle.dumps(print, protocol=4), "Python pickle with the name of a numpy file"),
        "h5.nii": (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "HDF5"),
        "old.mha": (b"ObjectType = Image\nNDims = 3\n", "MetaImage"),
        "some.nrrd": (b"NRRD0004\n# x\n", "NRRD"),
        "brain.mgz": (gzip.compress(b"\0\0\0\1" + b"\0" * 400), "gzip archive that holds no NIfTI"),
        "packed.dcm.gz": (gzip.compress(b"\0" * 128 + b"DICM" + b"\0" * 99), "DICOM file inside a gzip"),
        "bad.nii.gz": (b"\x1f\x8b\x08\0garbage" * 9, "damaged gzip"),
        "sky.fits": (b"SIMPLE  =                    T" + b" " * 99, "FITS"),
    }
    return [Case(name, save(data), refused=words) for name, (data, words) in rows.items()]


def name_cases() -> list[Case]:
    """File names that break programs, and things that are no regular files."""
    made: list[tuple[str, Callable[[Path], Any], str]] = [
        ("loop.png", lambda path: path.symlink_to(path.name), "leads back to itself"),
        ("nowhere.png", lambda path: path.symlink_to("gone.png"), "symlink to nothing"),
        ("missing.png", lambda path: None, "no such file"),
        ("pipe.png", lambda path: os.mkfifo(path), "not a regular file"),
        ("folder.png", lambda path: path.mkdir(), "folder with 0 images"),
    ]
    good = [
        "with space.png",
        "caf\u00e9.png",
        "cafe\u0301.png",
        "new\nline.png",
        "-leading-dash.png",
        "two..dots.png",
        os.fsdecode(b"not-utf8-\xff\xfe.png"),
        "x" * 251 + ".png",
        "\u202etxt.png",
        "100%s{}.png",
    ]
    return [Case(name, make, refused=words) for name, make, words in made] + [
        Case(name, save(PNG_RGB), planes(RGB)) for name in good
    ]


def npy(array: np.ndarray, **options: Any) -> bytes:
    """Get npy bytes."""
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    """Get compressed npz bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def numpy_cases() -> list[Case]:
    """npy files."""
    unit = np.random.default_rng(3).random((12, 17))
    deep = noise(12, 17, top=65535, dtype=np.uint16)
    volume = noise(5, 12, 17)
    holes = unit.copy()
    holes[0, 0] = np.nan
    filled = np.where(np.isnan(holes), np.nanmin(holes), holes)
    good = npy(GRAY)
    claim = good.replace(b"(12, 17)", b"(99, 17)")
    huge = good.replace(b"(12, 17), }", b"(99999, 99999), }")[: len(good)]
    return [
        Case("gray.npy", save(good), planes(GRAY), range=(0, 255)),
        Case("rgb.npy", save(npy(RGB)), planes(RGB)),
        Case("chw.npy", save(npy(np.moveaxis(RGB, -1, 0).copy())), planes(RGB)),
        Case("fortran.npy", save(npy(np.asfortranarray(GRAY))), planes(GRAY)),
        Case("big-endian.npy", save(npy(deep.astype(">u2"))), planes(deep), range=(0, 65535)),
        Case("hw1.npy", save(npy(GRAY[..., None])), planes(GRAY)),
        Case("bool.npy", save(npy(GRAY > 99)), planes((GRAY > 99) * 1), range=(0, 1)),
        Case("unit.npy", save(npy(unit)), planes(unit), within=1e-6, range=(0, 1)),
        Case("holes.npy", save(npy(holes)), planes(filled), within=1e-6, note="1 values were NaN"),
        Case(
            "far.npy",
            save(npy(np.array([[1.0, 2.0], [1e300, 3.0]]))),
            planes(np.array([[1.0, 2.0], [1.0, 3.0]])),
            note="1 values",
        ),
        Case("int64.npy", save(npy(GRAY.astype(np.int64) - 50)), planes(GRAY.astype(int) - 50)),
        Case("volume.npy", save(npy(volume)), volume[None].astype(np.float32)),
        Case("rows.npy", save(npy(volume)), planes(volume[3]), index=3),
        Case("rows.npy", save(npy(volume)), refused="row 9", index=9),
        Case("batch.npy", save(npy(noise(4, 12, 17, 3))), refused="is not one image"),
        Case("batch.npy", save(npy(noise(4, 12, 17, 3))), planes(noise(4, 12, 17, 3)[2]), index=2),
        Case("both-ends.npy", save(npy(noise(3, 9, 3))), refused="channels first or last"),
        Case("line.npy", save(npy(np.arange(9))), refused="is not one image"),
        Case("none.npy", save(npy(np.zeros((0, 5)))), refused="no pixels"),
        Case("objects.npy", save(npy(np.array([[{}, 1]], dtype=object), allow_pickle=True)), refused="never unpickled"),
        Case("complex.npy", save(npy(unit.astype(complex))), refused="not real numbers"),
        Case("text.npy", save(npy(np.array([["a", "b"]]))), refused="not real numbers"),
        Case("cut.npy", save(good[:-40]), refused="truncated"),
        Case("claim.npy", save(claim), refused="truncated"),
        Case("huge.npy", save(huge), refused="truncated"),
        Case("bad-header.npy", save(b"\x93NUMPY\1\0\x10\0{'descr': oh no}\n" + b"\0" * 99), refused="numpy header"),
    ]


def npz_cases() -> list[Case]:
    """npz archives."""
    rows = noise(6, 12, 17)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (60000, 60000)})
        member.write(b"\0" * 1000)
    good = npz(only=GRAY)
    return [
        Case("one.npz", save(good), planes(GRAY)),
        Case("one-row.npz", save(npz(only=rows)), planes(rows[4]), index=4),
        Case("two.npz", save(npz(a=GRAY, b=GRAY)), refused="holds 2 arrays (a, b)"),
        Case("cut.npz", save(good[:-30]), refused="damaged npz"),
        Case("bomb.npz", save(bomb.getvalue()), refused="contradict"),
    ]


def nifti(data: np.ndarray, affine: np.ndarray | None = AFFINE, *, second: bool = False, **fields: Any) -> bytes:
    """Get NIfTI bytes with header fields set after all."""
    kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    stream = io.BytesIO()
    image = kind(data, affine)
    image.to_stream(stream)
    out = stream.getvalue()
    header = np.frombuffer(out, dtype=image.header.template_dtype.newbyteorder("<"), count=1).copy()
    for name, value in fields.items():  # set here, for nibabel overwrites some of them while it saves
        header[name] = value
    return header.tobytes() + out[header.nbytes :]


def both_forms(qaffine: np.ndarray) -> bytes:
    """Get a file whose sform and qform are both set."""
    image = nibabel.Nifti1Image(VOLUME, AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(qaffine, 1)
    stream = io.BytesIO()
    image.to_stream(stream)
    return stream.getvalue()


def pair(path: Path, *, analyze: bool = False) -> None:
    """Write `path` (.hdr) and its .img."""
    kind = nibabel.AnalyzeImage if analyze else nibabel.Nifti1Pair
    nibabel.save(kind(VOLUME, AFFINE), path.with_suffix(".img"))


def nifti_cases() -> list[Case]:
    """NIfTI files that are read."""
    plain = nifti(VOLUME)
    turned = AFFINE.copy()
    turned[0, 0] = 2.0
    nudged = AFFINE.copy()
    nudged[0, 3] += 5
    holes = VOLUME.astype(np.float32)
    holes[0, 0, 0], holes[1, 1, 1] = np.nan, np.inf
    good = np.isfinite(holes)
    filled = np.where(good, holes, holes[good].min()).transpose(2, 1, 0)[None]
    colours = np.zeros((7, 6, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    raw = noise(7, 6, 5, 3, seed=30)
    for k, name in enumerate("RGB"):
        colours[name] = raw[..., k]
    swapped = io.BytesIO()
    nibabel.Nifti1Image(VOLUME.astype(">i2"), AFFINE, nibabel.Nifti1Header(endianness=">")).to_stream(swapped)
    no_space = nifti(VOLUME, None)
    return [
        Case("plain.nii", save(plain), ZYX),
        Case("packed.nii.gz", save(gzip.compress(plain)), ZYX),
        Case("plain.nii.gz", save(plain), ZYX),
        Case("packed.nii", save(gzip.compress(plain)), ZYX),
        Case("second.nii", save(nifti(VOLUME, second=True)), ZYX),
        Case("swapped.nii", save(swapped.getvalue()), ZYX),
        Case("no-name", save(plain), ZYX),
        Case("scaled.nii", save(nifti(VOLUME, scl_slope=2.0, scl_inter=-1024.0)), ZYX * 2 - 1024),
        Case("slope-zero.nii", save(nifti(VOLUME, scl_slope=0.0, scl_inter=5.0)), ZYX),
        Case("slope-nan.nii", save(nifti(VOLUME, scl_slope=np.nan, scl_inter=np.nan)), ZYX),
        Case("inter-nan.nii", save(nifti(VOLUME, scl_slope=2.0, scl_inter=np.nan)), ZYX * 2, note="intercept"),
        Case("holes.nii", save(nifti(holes)), filled.astype(np.float32), note="2 values were NaN"),
        Case("rgb.nii", save(nifti(colours)), raw.transpose(3, 2, 1, 0).astype(np.float32), range=(0, 255)),
        Case("four-d-one.nii", save(nifti(VOLUME[..., None])), ZYX),
        Case("five-d-one.nii", save(nifti(VOLUME[..., None, None])), ZYX),
        Case("four-d.nii", save(nifti(np.stack([VOLUME, VOLUME + 1], -1))), refused="holds 2 volumes"),
        Case("four-d.nii", save(nifti(np.stack([VOLUME, VOLUME + 1], -1))), ZYX + 1, index=1),
        Case("flat.nii", save(nifti(VOLUME[:, :, 0])), np.ascontiguousarray(ZYX[:, 0])),
        Case("one-slice.nii", save(nifti(VOLUME[:, :, :1])), np.ascontiguousarray(ZYX[:, 0])),
        Case("no-space.nii", save(no_space), ZYX, note="space is unknown"),
        Case("same-ways.nii", save(both_forms(AFFINE)), ZYX),
        Case("nudged.nii", save(both_forms(nudged)), ZYX, note="differ; the sform"),
        Case("mirrored.nii", save(both_forms(turned)), refused="point different ways"),
        Case("window.nii", save(nifti(VOLUME, cal_min=-10.0, cal_max=300.0)), ZYX, range=(-10, 300)),
        Case("given-window.nii", save(plain), ZYX, range=(0, 100), options={"window": (50, 100)}),
        Case("degenerate.nii", save(nifti(VOLUME, srow_x=[0, 0, 0, 0])), ZYX, note="degenerate"),
        Case("pair.hdr", pair, ZYX),
        Case("old.hdr", lambda path: pair(path, analyze=True), ZYX, note="left and right are unknown"),
    ]


def broken_nifti_cases() -> list[Case]:
    """NIfTI files that are refused."""
    plain = nifti(VOLUME)
    packed = gzip.compress(plain)
    claim = bytearray(plain)
    claim[42:48] = np.array([2048, 2048, 512], "<i2").tobytes()
    minus = bytearray(plain)
    minus[42:44] = np.array([-7], "<i2").tobytes()
    unknown = bytearray(plain)
    unknown[70:72] = np.array([4242], "<i2").tobytes()
    flipped = bytearray(packed)
    flipped[-8] ^= 0xFF
    return [
        Case("cut.nii", save(plain[:-50]), refused="truncated"),
        Case("header-only.nii", save(plain[:352]), refused="truncated"),
        Case("half-header.nii", save(plain[:200]), refused="no known kind"),
        Case("cut.nii.gz", save(packed[:-60]), refused="truncated"),
        Case("checksum.nii.gz", save(bytes(flipped)), refused="gzip"),
        Case("claim.nii", save(bytes(claim)), refused="too large"),
        Case("claim.nii.gz", save(gzip.compress(bytes(claim))), refused="too large"),
        Case("negative.nii", save(bytes(minus)), refused="no voxels"),
        Case("unknown-type.nii", save(bytes(unknown)), refused="damaged NIfTI header"),
        Case("complex.nii", save(nifti(VOLUME.astype(np.complex64))), refused="not real numbers"),
        Case("cifti.nii", save(nifti(VOLUME, second=True, intent_code=3001)), refused="CIFTI"),
        Case("lonely.hdr", save(plain[:348].replace(b"n+1", b"ni1")), refused=".img) are missing"),
        Case("lonely.img", save(b"\0" * 420), refused="zero bytes"),
    ]
