"""The one table of operations: evaluator, type checker, grammar and reference documentation are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vp_model.program import effects, measures, regions
from vp_model.program.types import LISTS, Operation, Parameter, Type
from vp_model.program.vocabulary import AXES, REFUSALS, TASKS, reportable_names

MAXIMUM_RADIUS = 100.0
"""mm: the largest margin or structuring radius."""

_ROI = Parameter("roi", (Type.ROI,))
_VOLUME = Parameter("volume", (Type.VOLUME,))
_MARKED = Parameter("volumes", (Type.VOLUME,), modulated=True, repeated=True)
_RADIUS = Parameter("mm", (Type.NUMBER,), minimum=0, maximum=MAXIMUM_RADIUS, pattern=r"(0|[1-9][0-9]?)(\.[0-9]{1,2})?")
_SIZE = Parameter("mm3", (Type.NUMBER,), minimum=0, maximum=1e7, pattern=r"(0|[1-9][0-9]{0,5})(\.[0-9])?")
_THRESHOLD = Parameter("threshold", (Type.QUANTITY, Type.NUMBER))
_BEFORE = Parameter("before", (Type.QUANTITY,))
_AFTER = Parameter("after", (Type.QUANTITY,))

_KINDS = {"quantity": Type.QUANTITY, "point": Type.POINT, "box": Type.QUANTITIES}
_REPORTED = MappingProxyType({name: _KINDS[kind] for name, kind in reportable_names().items()})


def _choice(name: str, choices: tuple[str, ...]) -> Parameter:
    return Parameter(name, (Type.TEXT,), choices=choices)


_ROWS = (
    Operation(
        "task", (_choice("name", TASKS),), Type.NOTHING, "",
        "Says which category of task the program does (paper, Table 1). The first statement of a program.",
        effects.task,
    ),
    Operation(
        "segment", (Parameter("name", (Type.TEXT,), regions=True), _MARKED), Type.ROI, "",
        "The named region on the volumes, found by the vision network in one pass over all of them. Volumes of one "
        "session share one region (maximum over them); a name without a side finds left and right.",
        regions.segment, cost=100,
    ),
    Operation(
        "encode", (_MARKED,), Type.ENCODING, "",
        "An embedding of each volume by the vision network's encoder. It goes back to the language model.",
        regions.encode, cost=100,
    ),
    Operation("visits", (_ROI,), Type.VISITS, "", "The sessions of a region, earliest first.", regions.visits),
    Operation("earliest", (_ROI,), Type.VISIT, "", "The first session of a region.", regions.earliest),
    Operation("latest", (_ROI,), Type.VISIT, "", "The last session of a region.", regions.latest),
    Operation(
        "visit", (Parameter("date", (Type.TEXT,), dates=True),), Type.VISIT, "",
        "The session of a date (YYYY-MM-DD) on which one of the volumes was acquired.", regions.visit,
    ),
    Operation(
        "at", (_ROI, Parameter("visit", (Type.VISIT,))), Type.ROI, "", "The region in one session.", regions.at
    ),
    Operation(
        "union", (_ROI, Parameter("other", (Type.ROI,))), Type.ROI, "", "What belongs to either region.", regions.union
    ),
    Operation(
        "intersection", (_ROI, Parameter("other", (Type.ROI,))), Type.ROI, "",
        "The part of the first region that lies in the second.", regions.intersection,
    ),
    Operation(
        "difference", (_ROI, Parameter("other", (Type.ROI,))), Type.ROI, "",
        "The part of the first region that lies outside the second.", regions.difference,
    ),
    Operation("largest", (_ROI,), Type.ROI, "", "The largest connected part (of each side).", regions.largest, cost=5),
    Operation(
        "components", (_ROI,), Type.ROIS, "", "The connected parts, largest first, of one session.",
        regions.components, cost=5,
    ),
    Operation(
        "larger_than", (_ROI, _SIZE), Type.ROI, "", "The connected parts above a volume.", regions.larger_than, cost=5
    ),
    Operation(
        "smaller_than", (_ROI, _SIZE), Type.ROI, "", "The connected parts below a volume.",
        regions.smaller_than, cost=5,
    ),
    Operation("dilate", (_ROI, _RADIUS), Type.ROI, "", "The region grown by a distance.", regions.dilate, cost=10),
    Operation("erode", (_ROI, _RADIUS), Type.ROI, "", "The region shrunk by a distance.", regions.erode, cost=10),
    Operation(
        "opening", (_ROI, _RADIUS), Type.ROI, "", "Erosion, then dilation: thin parts go.", regions.opening, cost=20
    ),
    Operation(
        "closing", (_ROI, _RADIUS), Type.ROI, "", "Dilation, then erosion: narrow gaps close.",
        regions.closing, cost=20,
    ),
    Operation("fill", (_ROI,), Type.ROI, "", "The region with its enclosed holes filled.", regions.fill, cost=5),
    Operation(
        "surrounding", (_ROI, _RADIUS), Type.ROI, "", "The ring of tissue around a region, to a distance.",
        regions.surrounding, cost=10,
    ),
    Operation(
        "brighter_than", (_ROI, _VOLUME, _THRESHOLD), Type.ROI, "",
        "The part of a region whose intensity in a volume is above a threshold.", regions.brighter_than, cost=5,
    ),
    Operation(
        "darker_than", (_ROI, _VOLUME, _THRESHOLD), Type.ROI, "",
        "The part of a region whose intensity in a volume is below a threshold.", regions.darker_than, cost=5,
    ),
    Operation("volume", (_ROI,), Type.QUANTITY, "ml", "Volume of a region; 0 ml when empty.", measures.volume),
    Operation(
        "extent", (_ROI, _choice("axis", AXES)), Type.QUANTITY, "mm",
        "Extent along an anatomical axis, between the outer corners of the voxels.", measures.extent, cost=5,
    ),
    Operation(
        "bounding_box", (_ROI,), Type.QUANTITIES, "mm",
        "The three dimensions of the anatomical box: left-right, anterior-posterior, superior-inferior.",
        measures.bounding_box, cost=5,
    ),
    Operation(
        "longest_diameter", (_ROI,), Type.QUANTITY, "mm", "The greatest distance between two points of a region.",
        measures.longest_diameter, cost=20,
    ),
    Operation(
        "surface_area", (_ROI,), Type.QUANTITY, "mm2", "Area of the boundary.", measures.surface_area, cost=20
    ),
    Operation(
        "center_of_mass", (_ROI,), Type.POINT, "mm", "Mean position, in RAS mm of the scanner.",
        measures.center_of_mass, cost=2,
    ),
    Operation(
        "mean_intensity", (_ROI, _VOLUME), Type.QUANTITY, "", "Mean of a volume's values in a region.",
        measures.mean_intensity, cost=2,
    ),
    Operation(
        "sd_intensity", (_ROI, _VOLUME), Type.QUANTITY, "", "Standard deviation of a volume's values in a region.",
        measures.sd_intensity, cost=2,
    ),
    Operation(
        "median_intensity", (_ROI, _VOLUME), Type.QUANTITY, "", "Median of a volume's values in a region.",
        measures.median_intensity, cost=2,
    ),
    Operation(
        "percentile_intensity",
        (
            _ROI,
            _VOLUME,
            Parameter("percent", (Type.NUMBER,), minimum=0, maximum=100, pattern=r"(0|[1-9][0-9]?)(\.[0-9])?"),
        ),
        Type.QUANTITY, "", "A percentile of a volume's values in a region.", measures.percentile_intensity, cost=2,
    ),
    Operation("count", (Parameter("items", LISTS),), Type.QUANTITY, "1", "Number of elements.", measures.count),
    Operation(
        "asymmetry", (Parameter("left", (Type.QUANTITY,)), Parameter("right", (Type.QUANTITY,))), Type.QUANTITY, "%",
        "100 (left - right) / mean of both: positive where the left is larger.", measures.asymmetry,
    ),
    Operation(
        "percent_change", (_BEFORE, _AFTER), Type.QUANTITY, "%", "100 (after - before) / before.",
        measures.percent_change,
    ),
    Operation(
        "percent_of", (Parameter("part", (Type.QUANTITY,)), Parameter("whole", (Type.QUANTITY,))), Type.QUANTITY, "%",
        "100 part / whole.", measures.percent_of,
    ),
    Operation(
        "per_year", (Parameter("change", (Type.QUANTITY,)),), Type.QUANTITY, "",
        "A change between two sessions divided by the years between them.", measures.per_year,
    ),
    Operation(
        "ratio", (Parameter("first", (Type.QUANTITY,)), Parameter("second", (Type.QUANTITY,))), Type.QUANTITY, "1",
        "first / second.", measures.ratio,
    ),
    Operation(
        "crop", (_VOLUME, _ROI, _RADIUS), Type.IMAGE, "", "The part of a volume around a region, with a margin.",
        effects.crop, cost=5,
    ),
    Operation(
        "remove", (_VOLUME, _ROI), Type.IMAGE, "", "A volume without a region: its voxels become air.",
        effects.remove, cost=5,
    ),
    Operation(
        "isolate", (_VOLUME, _ROI), Type.IMAGE, "", "Only a region of a volume: all else becomes air.",
        effects.isolate, cost=5,
    ),
    Operation(
        "show", (_ROI,), Type.NOTHING, "", "Gives the region out, as a mask on each of its volumes.",
        effects.show, cost=5,
    ),
    Operation(
        "report",
        (
            Parameter("name", (Type.TEXT,), choices=tuple(reportable_names()), selects=_REPORTED),
            Parameter("value", (Type.QUANTITY, Type.POINT, Type.QUANTITIES)),
        ),
        Type.NOTHING, "", "Gives a measurement out, under one of the known names.", effects.report,
    ),
    Operation(
        "save", (Parameter("image", (Type.IMAGE,)),), Type.NOTHING, "", "Gives an image out.", effects.save
    ),
    Operation(
        "answer", (Parameter("text", (Type.TEXT,)), Parameter("roi", (Type.ROI,), optional=True)), Type.NOTHING, "",
        "Gives an answer in words out, about a region where one is named.", effects.answer,
    ),
    Operation(
        "print",
        (
            Parameter(
                "value",
                (
                    Type.QUANTITY, Type.POINT, Type.TEXT, Type.NUMBER, Type.BOOLEAN, Type.ROI, Type.VISIT,
                    Type.IMAGE, Type.ENCODING, *LISTS,
                ),
            ),
        ),
        Type.NOTHING, "", "Writes a value into the feedback that the language model reads before its next step.",
        effects.print_value,
    ),
    Operation(
        "refuse", (_choice("reason", tuple(REFUSALS)),), Type.NOTHING, "", "Ends the program without an answer.",
        effects.refuse,
    ),
)  # fmt: skip

OPERATIONS: Mapping[str, Operation] = MappingProxyType({row.name: row for row in _ROWS})
"""The table, by name, in the order of its documentation."""
