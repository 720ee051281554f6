"""The zoo: tricky and malformed files with the exact pixels, or the words of the refusal, that reading them must give.

Run `python tests/files/zoo.py FOLDER` to write them all and look at them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import zoo_dicom
import zoo_dicom_code
import zoo_dicom_look
import zoo_other
import zoo_raster
import zoo_series
import zoo_tiff

MODULES = (zoo_raster, zoo_tiff, zoo_other, zoo_dicom, zoo_dicom_look, zoo_dicom_code, zoo_series)
CASES = [case for module in MODULES for case in module.cases()]

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        case.make(folder / case.name)
    print(f"{len(CASES)} cases in {folder}")
