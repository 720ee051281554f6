"""The zoo: tricky and malformed files with the exact pixels, or the words of the refusal, that reading them must give.

Run `python tests/files/zoo.py FOLDER` to write them all and look at them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import zoo_dicom
import zoo_other
import zoo_raster
import zoo_tiff

CASES = [*zoo_raster.cases(), *zoo_tiff.cases(), *zoo_other.cases(), *zoo_dicom.cases()]

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        case.make(folder / case.name)
    print(f"{len(CASES)} cases in {folder}")
