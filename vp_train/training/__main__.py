"""`python -m vp_train.training`: train the vision network on synthetic images, watch it on real ones, export it."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from vp_train.training.run import find_recipe, train_vision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="compact", help="a bundled recipe's name or a JSON file")
    parser.add_argument("--data", type=Path, required=True, help="folder of label maps (synthseg_*_seg.nii.gz)")
    parser.add_argument("--validation", type=Path, help="folder of real scans with references; never trained on")
    parser.add_argument(
        "--out", type=Path, required=True, help="state, curves and export; an existing state is resumed"
    )
    parser.add_argument("--from", dest="begin", type=Path, help="folder of weights to begin from, of any width")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--watch-minutes", type=float, default=6.0)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    train_vision(
        find_recipe(options.recipe),
        options.data,
        options.out,
        options.validation,
        options.minutes,
        options.watch_minutes,
        options.threads,
        partial(print, flush=True),
        options.begin,
    )


if __name__ == "__main__":
    main()
