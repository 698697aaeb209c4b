"""The one table of operations: evaluator, type checker, grammar and reference documentation are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vp_model.program import appearance, effects, grids, measures, places, regions, relations
from vp_model.program.types import LISTS, Operation, Parameter, Type
from vp_model.program.vocabulary import (
    AXES,
    DIRECTIONS,
    ORIENTATIONS,
    PLANES,
    REFUSALS,
    TASKS,
    UNITS,
    assembled_names,
    reportable_names,
)

MAXIMUM_RADIUS = 100.0
"""mm: the largest margin or structuring radius."""

_ROI = Parameter("roi", (Type.ROI,))
_VOLUME = Parameter("volume", (Type.VOLUME,))
_MARKED = Parameter("volumes", (Type.VOLUME,), modulated=True, repeated=True)
_RADIUS = Parameter("mm", (Type.NUMBER,), minimum=0, maximum=MAXIMUM_RADIUS, pattern=r"(0|[1-9][0-9]?)(\.[0-9]{1,2})?")
_SIZE = Parameter("mm3", (Type.NUMBER,), minimum=0, maximum=1e7, pattern=r"(0|[1-9][0-9]{0,5})(\.[0-9])?")
_THRESHOLD = Parameter("threshold", (Type.QUANTITY, Type.NUMBER))
_OTHER = Parameter("other", (Type.ROI,))
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
        "union", (_ROI, _OTHER), Type.ROI, "", "What belongs to either region.", regions.union
    ),
    Operation(
        "assemble", (_choice("name", assembled_names()), Parameter("parts", (Type.ROI,), repeated=True)), Type.ROI, "",
        "The structure of that name from all its parts: the ventricular system from the ventricles.",
        regions.assemble,
    ),
    Operation(
        "intersection", (_ROI, _OTHER), Type.ROI, "",
        "The part of the first region that lies in the second.", regions.intersection,
    ),
    Operation(
        "difference", (_ROI, _OTHER), Type.ROI, "",
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
    Operation(
        "with_signal",
        (_ROI, _OTHER, _choice("signal", appearance.SIGNALS), Parameter("volumes", (Type.VOLUME,), repeated=True)),
        Type.ROI, "",
        "The connected parts with a signal, by their mean against the mean and standard deviation of another region, "
        "on one volume of each session. On CT, hyperintense is dense.", appearance.with_signal, cost=10,
    ),
    Operation(
        "in_lobe", (_ROI, _choice("lobe", places.lobes())), Type.ROI, "",
        "The part of a region that lies in a lobe, a deep structure or a part of the hindbrain, as lobe_of tells them "
        "apart.", places.in_lobe, cost=100,
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
    Operation(
        "boundary_of", (_ROI,), Type.ROI, "", "The outermost layer of voxels of a region.",
        relations.boundary_of, cost=5,
    ),
    Operation(
        "within_distance", (_ROI, _OTHER, _RADIUS), Type.ROI, "",
        "The part of a region that lies within a distance of another.", relations.within_distance, cost=20,
    ),
    Operation(
        "touching", (_ROI, _OTHER), Type.ROI, "", "The connected parts that overlap another region or lie beside it.",
        relations.touching, cost=20,
    ),
    Operation(
        "apart_from", (_ROI, _OTHER), Type.ROI, "",
        "The connected parts that neither overlap another region nor lie beside it.", relations.apart_from, cost=20,
    ),
    Operation(
        "nearest_part", (_ROI, _OTHER), Type.ROI, "", "The connected part that lies nearest to another region.",
        relations.nearest_part, cost=20,
    ),
    Operation(
        "outermost", (_ROI, _choice("direction", DIRECTIONS)), Type.ROI, "",
        "The connected part that lies farthest in a direction (of each side).", relations.outermost, cost=5,
    ),
    Operation(
        "on_side", (_ROI, _choice("direction", DIRECTIONS), _OTHER), Type.ROI, "",
        "The part of a region beyond the centre of mass of another: left of it, anterior to it.", relations.on_side,
        cost=10,
    ),
    Operation(
        "align_to", (_ROI, Parameter("visit", (Type.VISIT,))), Type.ROI, "",
        "A region of one session where it lies in another's frame, by rigid registration of the two heads. For "
        "comparison only: it is not shown.", grids.align_to, cost=300,
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
        "plane_diameter", (_ROI, _choice("plane", PLANES)), Type.QUANTITY, "mm",
        "The longest diameter within one slice of a plane (RECIST 1.1: axial).", measures.plane_diameter, cost=10,
    ),
    Operation(
        "perpendicular_diameter", (_ROI, _choice("plane", PLANES)), Type.QUANTITY, "mm",
        "The longest diameter at a right angle to plane_diameter, in the same slice.",
        measures.perpendicular_diameter, cost=10,
    ),
    Operation(
        "bidimensional_product", (_ROI, _choice("plane", PLANES)), Type.QUANTITY, "mm2",
        "plane_diameter times perpendicular_diameter (WHO, RANO).", measures.bidimensional_product, cost=10,
    ),
    Operation(
        "cross_section", (_ROI, _choice("plane", PLANES)), Type.QUANTITY, "mm2",
        "The largest area of a region in one slice of a plane.", measures.cross_section, cost=5,
    ),
    Operation(
        "oriented_box", (_ROI,), Type.QUANTITIES, "mm",
        "The three dimensions of the box along the region's own principal axes, longest first.",
        measures.oriented_box, cost=5,
    ),
    Operation(
        "sphericity", (_ROI,), Type.QUANTITY, "1", "Surface of the ball of the same volume over the region's own.",
        measures.sphericity, cost=20,
    ),
    Operation(
        "surface_area", (_ROI,), Type.QUANTITY, "mm2", "Area of the boundary.", measures.surface_area, cost=20
    ),
    Operation(
        "center_of_mass", (_ROI,), Type.POINT, "mm", "Mean position, in RAS mm of the scanner.",
        measures.center_of_mass, cost=2,
    ),
    Operation(
        "coordinate_of", (Parameter("point", (Type.POINT,)), _choice("axis", AXES)), Type.QUANTITY, "mm",
        "One coordinate of a point, growing towards right, front and head.", measures.coordinate_of,
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
    Operation(
        "min_intensity", (_ROI, _VOLUME), Type.QUANTITY, "", "Lowest of a volume's values in a region.",
        appearance.min_intensity, cost=2,
    ),
    Operation(
        "max_intensity", (_ROI, _VOLUME), Type.QUANTITY, "", "Highest of a volume's values in a region.",
        appearance.max_intensity, cost=2,
    ),
    Operation(
        "intensity_histogram",
        (_ROI, _VOLUME, Parameter("bins", (Type.NUMBER,), minimum=1, maximum=256, pattern=r"[1-9][0-9]?")),
        Type.QUANTITIES, "%", "Shares of equally wide bins from a region's lowest to its highest value in a volume.",
        appearance.intensity_histogram, cost=2,
    ),
    Operation(
        "contrast_with", (_ROI, _OTHER, _VOLUME), Type.QUANTITY, "%",
        "100 (mean - other mean) / other mean: positive where the region is brighter than the other.",
        appearance.contrast_with, cost=4,
    ),
    Operation(
        "contrast_to_surrounding", (_ROI, _VOLUME, _RADIUS), Type.QUANTITY, "%",
        "As contrast_with, against the ring of tissue around the region to a distance.",
        appearance.contrast_to_surrounding, cost=10,
    ),
    Operation(
        "standard_score", (_ROI, _OTHER, _VOLUME), Type.QUANTITY, "1",
        "(mean - other mean) / other standard deviation.", appearance.standard_score, cost=4,
    ),
    Operation(
        "percent_brighter", (_ROI, _VOLUME, _THRESHOLD), Type.QUANTITY, "%",
        "Share of a region whose intensity in a volume is above a threshold.", appearance.percent_brighter, cost=2,
    ),
    Operation(
        "percent_darker", (_ROI, _VOLUME, _THRESHOLD), Type.QUANTITY, "%",
        "Share of a region whose intensity in a volume is below a threshold.", appearance.percent_darker, cost=2,
    ),
    Operation(
        "signal_against", (_ROI, _OTHER, _VOLUME), Type.TEXT, "",
        "hyperintense, isointense or hypointense (CT: -dense) by the mean and standard deviation of another region.",
        appearance.signal_against, cost=4,
    ),
    Operation(
        "distance_to", (_ROI, _OTHER), Type.QUANTITY, "mm",
        "Smallest distance between voxel centres of two regions; 0 where they overlap.", relations.distance_to, cost=20,
    ),
    Operation(
        "center_distance", (_ROI, _OTHER), Type.QUANTITY, "mm", "Distance between the centres of mass of two regions.",
        relations.center_distance, cost=5,
    ),
    Operation(
        "dice_overlap", (_ROI, _OTHER), Type.QUANTITY, "1",
        "Twice the common volume over the sum of both: 1 where two regions are the same.", relations.dice_overlap,
        cost=10,
    ),
    Operation(
        "percent_inside", (_ROI, _OTHER), Type.QUANTITY, "%", "Share of a region's volume that lies in another.",
        relations.percent_inside, cost=10,
    ),
    Operation(
        "direction_from", (_ROI, _OTHER), Type.TEXT, "",
        "Where a region lies seen from another, by their centres of mass: left and superior.",
        relations.direction_from, cost=5,
    ),
    Operation(
        "located_in", (_ROI, Parameter("places", (Type.ROI,), repeated=True)), Type.TEXT, "",
        "Which of some regions hold a region, with the share in each, the largest first.", relations.located_in,
        cost=20,
    ),
    Operation(
        "lobe_of", (_ROI,), Type.TEXT, "",
        "The lobe, deep structure or part of the hindbrain in which most of a region lies, with its side: left frontal "
        "lobe. White matter belongs to the lobe of the nearest cortex.", places.lobe_of, cost=100,
    ),
    Operation(
        "territory_of", (_ROI,), Type.TEXT, "",
        "The arterial territory in which most of a region lies: middle cerebral artery territory.",
        places.territory_of, cost=100,
    ),
    Operation(
        "is_inside", (_ROI, _OTHER), Type.BOOLEAN, "", "Whether at least half of a region lies in another.",
        relations.is_inside, cost=10,
    ),
    Operation(
        "is_toward", (_ROI, _choice("direction", DIRECTIONS), _OTHER), Type.BOOLEAN, "",
        "Whether a region's centre of mass lies in a direction from another's.", relations.is_toward, cost=5,
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
        "in_unit", (Parameter("quantity", (Type.QUANTITY,)), _choice("unit", UNITS)), Type.QUANTITY, "",
        "The same quantity in another unit of its kind.", measures.in_unit,
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
        "crop_cavity", (_VOLUME, _RADIUS), Type.IMAGE, "",
        "The part of a volume around the cranial cavity, with a margin (paper: 20 mm).", grids.crop_cavity, cost=20,
    ),
    Operation(
        "pad", (_VOLUME, _RADIUS), Type.IMAGE, "", "A volume with a margin of air on every side.", grids.padded, cost=5
    ),
    Operation(
        "resample",
        (_VOLUME, Parameter("mm", (Type.NUMBER,), minimum=0.1, maximum=20, pattern=r"[1-9](\.[0-9]{1,2})?")),
        Type.IMAGE, "", "A volume with cubic voxels of a size, trilinear, its axes kept.", grids.resampled, cost=20,
    ),
    Operation(
        "reorient", (_VOLUME, _choice("axes", ORIENTATIONS)), Type.IMAGE, "",
        "A volume with its axes permuted and flipped, never interpolated: RAS grows to right, anterior, superior.",
        grids.reoriented, cost=5,
    ),
    Operation(
        "distance_map", (_VOLUME, _ROI), Type.IMAGE, "",
        "Millimetres from each voxel of a volume to a region, negative inside.", grids.distance_map, cost=50,
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
