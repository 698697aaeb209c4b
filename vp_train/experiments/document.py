"""The results of experiments in a document: everything below its results heading is written anew from the reports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

HEADING = "# Results at the small scale"
PICTURES = Path("pictures") / "experiments"
"""Below the document's folder."""


def document(results: Path, names: Sequence[str], path: Path) -> list[str]:
    """Replaces the results of a document by the reports of a folder, with their plots.

    Args:
        results: folder of `<name>.md`, `<name>.json` and `<name>.png`, as experiments write them.
        names: in the order in which they are shown.

    Returns:
        Names of experiments that have no report.

    Raises:
        FileNotFoundError: the folder holds no report, or there is no document.
        ValueError: the document has no results heading.
    """
    there = [name for name in names if (results / f"{name}.md").is_file()]
    if not there:
        raise FileNotFoundError(f"{results} holds no report of an experiment.")
    before, heading, _ = path.read_text(encoding="utf-8").partition(f"\n{HEADING}\n")
    if not heading:
        raise ValueError(f"{path} has no heading {HEADING!r} below which results could stand.")
    missing = [name for name in names if name not in there]
    reports = [json.loads((results / f"{name}.json").read_text(encoding="utf-8")) for name in there]
    minutes = sum(float(report.get("cpu_seconds") or report["seconds"]) for report in reports) / 60
    about = (
        f"Written by `vp-train experiment report` from the experiments' reports; {minutes:.0f} minutes of CPU in all."
    )
    if missing:
        about += f" Without a report: {', '.join(missing)}."
    parts = [before, HEADING, "", about, ""]
    for name in there:
        parts.append((results / f"{name}.md").read_text(encoding="utf-8").rstrip() + "\n")
        if (results / f"{name}.png").is_file():
            folder = path.parent / PICTURES
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(results / f"{name}.png", folder / f"{name}.png")
            parts.append(f"![{name}]({(PICTURES / name).as_posix()}.png)\n")
    path.write_text("\n".join(parts), encoding="utf-8")
    return missing
