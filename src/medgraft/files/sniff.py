"""What a file is: by content first, then by name."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from medgraft.errors import BadImage

HEAD_BYTES = 1024
JUNK_NAMES = frozenset({"thumbs.db", "desktop.ini", ".ds_store"})

_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png", "raster"),
    (b"GIF87a", "gif", "raster"),
    (b"GIF89a", "gif", "raster"),
    (b"II*\x00", "tiff", "raster"),
    (b"MM\x00*", "tiff", "raster"),
    (b"II+\x00", "tiff", "raster"),
    (b"MM\x00+", "tiff", "raster"),
    (b"\x93NUMPY", "npy", "array"),
)

_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff\xf7", "a JPEG-LS stream"),
    (b"%PDF", "a PDF document"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 file"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 stream"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL file"),
    (b"\xff\x0a", "a JPEG XL stream"),
    (b"8BPS", "a Photoshop file"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf", "a 7-zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"SIMPLE  =", "a FITS file"),
    (b"NRRD000", "an NRRD file"),
    (b"ObjectType", "a MetaImage file"),
    (b"NDims", "a MetaImage file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\x00\x00\x01\x00", "an icon or a video"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"v/1\x01", "an OpenEXR file"),
    (b"MATLAB 5", "a MATLAB file"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"P1\n", "a netpbm file"),
    (b"P2\n", "a netpbm file"),
    (b"P3\n", "a netpbm file"),
    (b"P4\n", "a netpbm file"),
    (b"P5\n", "a netpbm file"),
    (b"P6\n", "a netpbm file"),
)

KNOWN_SUFFIXES = {
    "png": ["png", "jpg", "jpeg", "jpe", "tif", "tiff", "bmp", "gif", "webp", "svs"],
    "dicom": ["dcm", "dicom", "ima"],
    "nifti": ["nii", "hdr", "img"],
    "array": ["npy", "npz"],
}


class Kind(NamedTuple):
    """What a file is: its word ("png", "dicom") and the row of `FORMATS` that reads it."""

    word: str
    format: str


def read_head(path: Path, count: int = HEAD_BYTES) -> bytes:
    """Get the first bytes of a regular file.

    Raises:
        BadImage: no such file, a folder, a symlink loop, a device, empty, or no permission.
    """
    with open_regular(path) as file:
        return file.read(count)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file that is not empty.

    Raises:
        BadImage: as `read_head`.
    """
    try:
        info = Path(path).stat()
        if stat.S_ISDIR(info.st_mode):
            raise BadImage("is a folder, not an image", where=show(path))
        if not stat.S_ISREG(info.st_mode):
            raise BadImage("is not a regular file", where=show(path))
        if info.st_size == 0:
            raise BadImage("the file is empty (0 bytes)", where=show(path))
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise BadImage(_why_not(path, error), where=show(path)) from error


def _why_not(path: Path, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ELOOP:
        return "a symlink that leads back to itself"
    if number == errno.ENAMETOOLONG:
        return "the file name is too long for this system"
    if number == errno.ENOENT:
        return "a symlink to nothing" if os.path.islink(path) else "there is no such file"  # noqa: PTH114
    if number in (errno.EACCES, errno.EPERM):
        return "no permission to read it"
    return f"cannot be opened ({error})"


def show(path: object) -> str:
    """Get a path as one line of printable text, whatever bytes its name holds."""
    text = os.fsencode(str(path)).decode("utf-8", "replace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def sniff(path: Path, head: bytes | None = None) -> Kind:
    """Tell what a file is.

    Raises:
        BadImage: it is not an image that can be read here; the sentence says what it is.

    Example:
        >>> import tempfile, pathlib
        >>> page = pathlib.Path(tempfile.mkdtemp()) / "scan.dcm"
        >>> _ = page.write_text("<html>404</html>")
        >>> try:
        ...     sniff(page)
        ... except BadImage as error:
        ...     print(error.what)
        is a web page (HTML) with the name of a DICOM file
    """
    head = read_head(path) if head is None else head
    kind = _by_signature(head, path) or _compressed(head, path) or _weak(head, path)
    if kind is not None:
        return kind
    kind = _plugin(head, path)
    if kind is not None:
        return kind
    raise BadImage(_what_else(head, path), where=show(path))


def _by_signature(head: bytes, path: Path) -> Kind | None:
    if head[128:132] == b"DICM":
        return Kind("dicom", "dicom")
    for start, word, row in _SIGNATURES:
        if head.startswith(start):
            return Kind(word, row)
    if head[:3] == b"\xff\xd8\xff" and head[3:4] != b"\xf7":
        return Kind("jpeg", "raster")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind("webp", "raster")
    if (
        head[:2] == b"BM"
        and len(head) >= 26
        and int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124)
    ):
        return Kind("bmp", "raster")
    if is_nifti(head) or (is_analyze(head) and _suffix(path) in ("hdr", "img")):
        return Kind("nifti", "nifti")
    if head[:4] == b"PK\x03\x04" and _suffix(path) == "npz":
        return Kind("npz", "array")
    return None


def is_nifti(head: bytes) -> bool:
    """Tell whether the first 348 bytes are a NIfTI-1 or NIfTI-2 header."""
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def is_analyze(head: bytes) -> bool:
    """Tell whether the first bytes could be an Analyze 7.5 header (it has no signature, only its own length)."""
    return len(head) >= 348 and 348 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return name.removesuffix(".gz").rpartition(".")[2]


def peek_gzip(head: bytes, count: int = HEAD_BYTES) -> bytes:
    """Get the first inflated bytes of a gzip stream, never more than `count`; empty when it is damaged."""
    try:
        return zlib.decompressobj(31).decompress(head, count)
    except zlib.error:
        return b""


def _compressed(head: bytes, path: Path) -> Kind | None:
    if head[:2] != b"\x1f\x8b":
        return None
    inner = peek_gzip(head)
    if is_nifti(inner) or (is_analyze(inner) and _suffix(path) in ("hdr", "img")):
        return Kind("nifti", "nifti")
    if _suffix(path) == "img" and _header_beside(path):
        return Kind("nifti", "nifti")
    if inner[128:132] == b"DICM":
        raise BadImage("a DICOM file inside a gzip archive", where=show(path), do="Unpack it first.")
    if not inner:
        raise BadImage("a damaged gzip archive", where=show(path))
    raise BadImage("a gzip archive that holds no NIfTI image", where=show(path), do="Unpack it first.")


def _header_beside(path: Path) -> bool:
    name = path.name
    stem = name[: name.lower().rfind(".img")]
    return any((path.parent / (stem + end)).exists() for end in (".hdr", ".hdr.gz", ".HDR"))


def _weak(head: bytes, path: Path) -> Kind | None:
    """Formats with no signature: half an Analyze pair, DICOM without its preamble."""
    if _suffix(path) == "img" and _header_beside(path):
        return Kind("nifti", "nifti")
    if is_bare_dicom(head):
        return Kind("dicom", "dicom")
    return None


def is_bare_dicom(head: bytes) -> bool:
    """Tell whether the first tag parses as DICOM without preamble: group 0002 or 0008 and a plausible length or VR."""
    if len(head) < 8:
        return False
    for order in ("little", "big"):
        group, element = int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order)
        if group not in (0x0002, 0x0008) or element > 0x2000:
            continue
        if head[4:6] in _VRS:
            return True
        length = int.from_bytes(head[4:8], order)
        if order == "little" and length <= 256 and length % 2 == 0 and 8 + length + 4 <= max(len(head), 12):
            following = int.from_bytes(head[8 + length : 10 + length], "little")
            if following == group or (group == 0x0002 and following == 0x0008):
                return True
    return False


def _plugin(head: bytes, path: Path) -> Kind | None:
    from medgraft.files import FORMATS

    for name in FORMATS:
        if name in ("raster", "dicom", "nifti", "array"):
            continue
        format_ = FORMATS[name]
        if format_.claims is not None and format_.claims(head, path):
            return Kind(name, name)
    return None


def _what_else(head: bytes, path: Path) -> str:
    meant = next((word for word, ends in KNOWN_SUFFIXES.items() if _suffix(path) in ends), None)
    named = {None: "", "png": "an image", "dicom": "a DICOM file", "nifti": "a NIfTI file", "array": "a numpy file"}[
        meant
    ]
    tail = f" with the name of {named}" if named else ""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return f"is a web page (HTML){tail}"
    if text.startswith((b"<?xml", b"<svg")):
        return f"is an XML or SVG file{tail}"
    if head[4:8] == b"ftyp":
        return f"is a HEIC, AVIF or video file{tail}"
    if head[:4] == b"PK\x03\x04":
        return f"is a ZIP archive{tail}"
    if head[257:262] == b"ustar":
        return f"is a tar archive{tail}"
    for start, words in _FOREIGN:
        if head.startswith(start):
            return f"is {words}{tail}, which is not read here"
    if not any(head):
        return f"begins with {len(head)} zero bytes{tail}: the file was never written fully"
    if _is_text(head):
        return f"is a text file{tail}"
    return f"is no known kind of image{tail}"


def _is_text(head: bytes) -> bool:
    """Tell whether bytes are UTF-8 text; the last character may be cut."""
    if any(byte < 32 and byte not in b"\t\r\n\f" for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and len(head) >= HEAD_BYTES
    return True
