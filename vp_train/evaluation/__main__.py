"""`python -m vp_train.evaluation`: judge a trained vision network and write its part of a checkpoint folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from vp_train.evaluation.run import evaluate_vision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trained", type=Path, required=True, help="output folder of the training")
    parser.add_argument("--validation", type=Path, required=True, help="real scans with references")
    parser.add_argument("--data", type=Path, required=True, help="label maps, of which held-out subjects are used")
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder to write to")
    parser.add_argument("--working-spacing", type=float, help="mm; the preset's where absent")
    parser.add_argument("--run", type=json.loads, default={}, help="JSON about the run, kept in the card")
    parser.add_argument("--samples", type=int, default=16, help="synthetic heads")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    evaluate_vision(
        options.trained,
        options.validation,
        options.data,
        options.checkpoint,
        options.run,
        options.working_spacing,
        samples=options.samples,
    )


if __name__ == "__main__":
    main()
