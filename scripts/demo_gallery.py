"""Write the list of the images that the demo's gallery holds: the people held out, as three of the cameras saw them.

Usage: python scripts/demo_gallery.py DATA LIST.csv

The model has never seen these people. A search for one by the infrared camera should find the visible ones. As the
people are invented, so are the times at which they pass: once by each camera, frames a second apart, by day before the
visible cameras and in the evening before the infrared one.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from pclhd.files import write_durably

#: Camera → modality and name, of the layout SYSU-MM01 that the drawn people have.
CAMERAS = {"cam1": ("visible", "camera 1"), "cam2": ("visible", "camera 2"), "cam3": ("infrared", "camera 3")}
_DAY = datetime(2026, 3, 1)
_FIRST_HOUR = {"visible": 9, "infrared": 17}


def listed(data: Path, beside: Path) -> list[list[str]]:
    """The rows of the list: heading, then paths from the list's folder with modality, camera and time."""
    # `make demo` draws validation people (`pclhd synth` without --held-out), so they are the list's. The demo may show
    # them, as it chooses nothing. The benchmark's test people are kept for final figures; do not show those here.
    people = (data / "exp" / "test_id.txt").read_text("utf-8").strip().split(",")
    random = np.random.default_rng(0)
    rows = [["path", "modality", "camera", "time"]]
    for folder, (modality, camera) in CAMERAS.items():
        for person in people:
            passes = _DAY + timedelta(hours=_FIRST_HOUR[modality], seconds=int(random.integers(0, 6 * 3600)))
            for frame, image in enumerate(sorted((data / folder / f"{int(person):04d}").glob("*.jpg"))):
                taken = passes + timedelta(seconds=frame)
                rows.append([Path(os.path.relpath(image, beside)).as_posix(), modality, camera, str(taken)])
    return rows


def main(words: list[str]) -> int:
    """Write the list; the exit status."""
    if len(words) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    data, target = map(Path, words)
    rows = listed(data, target.parent)
    write_durably(target, "".join(",".join(row) + "\n" for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
