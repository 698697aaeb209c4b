"""The reference of the language, made from the table of operations: `docs/PROGRAM_LANGUAGE.md`.

`python -m vp_model.program.documentation docs/PROGRAM_LANGUAGE.md` writes it again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vp_model.program.checker import signature
from vp_model.program.operations import OPERATIONS
from vp_model.program.state import Limits
from vp_model.program.types import Operation, Parameter
from vp_model.program.vocabulary import FORMATS, REFUSALS, TASKS, measurement_names

_GROUPS = (
    ("The task", ("task", "refuse")),
    ("The vision network", ("segment", "encode")),
    ("Sessions", ("visits", "earliest", "latest", "visit", "at")),
    (
        "Regions",
        (
            "union", "assemble", "intersection", "difference", "largest", "components", "larger_than", "smaller_than",
            "dilate", "erode", "opening", "closing", "fill", "surrounding", "brighter_than", "darker_than",
            "boundary_of", "with_signal",
        ),
    ),
    (
        "Regions and other regions",
        (
            "within_distance", "touching", "apart_from", "nearest_part", "outermost", "on_side", "align_to",
            "distance_to", "center_distance", "dice_overlap", "percent_inside", "direction_from", "located_in",
            "in_lobe", "lobe_of", "territory_of", "is_inside", "is_toward",
        ),
    ),
    (
        "Size and place",
        (
            "volume", "extent", "bounding_box", "oriented_box", "longest_diameter", "plane_diameter",
            "perpendicular_diameter", "bidimensional_product", "cross_section", "surface_area", "sphericity",
            "center_of_mass", "coordinate_of", "count",
        ),
    ),
    (
        "Intensity",
        (
            "mean_intensity", "sd_intensity", "median_intensity", "percentile_intensity", "min_intensity",
            "max_intensity", "intensity_histogram", "percent_brighter", "percent_darker", "contrast_with",
            "contrast_to_surrounding", "standard_score", "signal_against",
        ),
    ),
    ("Comparison", ("asymmetry", "percent_change", "percent_of", "ratio", "per_year", "in_unit")),
    ("Images", ("crop", "crop_cavity", "remove", "isolate", "pad", "resample", "reorient", "distance_map")),
    ("What is given out", ("show", "report", "answer", "save", "print")),
)  # fmt: skip

_INTRODUCTION = """\
# The program language

*Made from `vp_model/program/operations.py` by `python -m vp_model.program.documentation docs/PROGRAM_LANGUAGE.md`;
a test fails when it is not current.*

The language model answers a prompt with a program in a small subset of Python. It is read by `ast`, checked against
a whitelist and against the types below, and evaluated from its syntax tree: nothing of it is ever executed by Python.

```python
task("volume change")
roi = segment("left hippocampus", v1<MOD>, v2<MOD>)
show(roi)
before = volume(at(roi, earliest(roi)))
after = volume(at(roi, latest(roi)))
report("volume change", after - before)
report("relative volume change", percent_change(before, after))
```

- The input volumes are `v1`, `v2`, … in order of session and preference.
- `<MOD>` after a volume is the place at which the language model gives φ, the 32 numbers that steer the vision
  network for that volume.
- Statements: assignment, call, `if`/`else`, `for name in list:`. Expressions: names, quoted texts, numbers, `True`,
  `False`, calls, `+ - * /`, comparisons, `and or not`, a list with a constant index, f-strings.
- Not in the language: attributes, imports, functions, classes, comprehensions, `while`, `**`, `%`, `//`, shifts,
  keyword or starred arguments, backslashes, characters beyond ASCII outside of quoted texts.
- Names persist across the steps of a prompt; those defined inside a block end with it, except where both branches of
  an `if` define them with one type.
- A Quantity carries its unit (UCUM), structure, side, sessions, masks and points. `+` and `-` need one unit; `*` and
  `/` work with numbers; two quantities of one unit divide to a plain ratio. What could not be measured (an empty
  region) stays a Quantity, whose `report` says so in words.
"""


def documentation() -> str:
    """The whole page, in Markdown."""
    parts = [_INTRODUCTION, *_operations(), *_measurements(), *_words(), *_limits()]
    return "\n".join(parts).rstrip() + "\n"


def _operations() -> list[str]:
    listed = {name for _, names in _GROUPS for name in names}
    if listed != set(OPERATIONS):
        raise ValueError(f"Operations without a place in the documentation: {sorted(listed ^ set(OPERATIONS))}.")
    lines = ["## Operations", ""]
    for title, names in _GROUPS:
        lines += [f"### {title}", "", "| Call | Gives | Meaning |", "|---|---|---|"]
        lines += [_row(OPERATIONS[name]) for name in names]
        lines.append("")
    return lines


def _row(operation: Operation) -> str:
    unit = f" ({operation.unit})" if operation.unit else ""
    details = [text for text in map(_parameter, operation.parameters) if text]
    meaning = " ".join([operation.documentation, *details])
    return f"| `{signature(operation)}` | {operation.result}{unit} | {meaning} |"


def _parameter(parameter: Parameter) -> str:
    if parameter.regions:
        return f"`{parameter.name}`: a region that the loaded weights can find."
    if parameter.dates:
        return ""
    if parameter.choices:
        if len(parameter.choices) > 5:
            return f"`{parameter.name}`: see below."
        return f"`{parameter.name}`: " + ", ".join(f'`"{choice}"`' for choice in parameter.choices) + "."
    if parameter.minimum is not None and parameter.maximum is not None:
        return f"`{parameter.name}`: {parameter.minimum:g} to {parameter.maximum:g}."
    return ""


def _measurements() -> list[str]:
    lines = ["## Measurements", "", "| Name | Units | Meaning |", "|---|---|---|"]
    for entry in measurement_names().values():
        units = ", ".join(f"`{unit}`" for unit in entry.units) or "any"
        written = f" Written as: {', '.join(entry.parts)}." if entry.parts else ""
        given = "(written by the box or point) " if entry.kind == "part" else ""
        lines.append(f"| {entry.name} | {units} | {given}{entry.meaning}.{written} |")
    return [*lines, ""]


def _words() -> list[str]:
    lines = ["## Tasks", "", "The categories of Table 1 of the paper: " + ", ".join(TASKS) + ".", ""]
    lines += ["## Reasons to refuse", "", "| Reason | What the person reads |", "|---|---|"]
    lines += [f"| {reason} | {words} |" for reason, words in REFUSALS.items()]
    return [*lines, "", "## Formats", "", "In f-strings: " + ", ".join(f"`{text}`" for text in FORMATS) + ".", ""]


def _limits() -> list[str]:
    limits = Limits()
    rows = {
        "characters in a step": limits.code_length,
        "nesting of expressions and of blocks": limits.depth,
        "units of work in a prompt": limits.fuel,
        "magnitude of a number": limits.integer,
        "characters in a text": limits.text,
        "characters printed in a step": limits.output,
        "elements of a list": limits.items,
        "names": limits.names,
        "bytes that one operation may hold": limits.result_bytes,
        "bytes that the results of all may keep": limits.total_bytes,
        "bytes of masks and images given out": limits.given_bytes,
        "results given out": limits.results,
    }
    lines = ["## Limits", "", "Checked before the work is done.", "", "| What | At most |", "|---|---|"]
    return lines + [f"| {what} | {value:,} |" for what, value in rows.items()]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(documentation(), encoding="utf-8")
