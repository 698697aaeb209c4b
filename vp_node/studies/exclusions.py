"""Which instances can be no volume by themselves, and why. Set aside is not failed: the reason is shown as it is."""

from __future__ import annotations

import re

from pydicom.uid import UID

from vp_node.studies.frames import FrameHeader
from vp_node.studies.headers import VOLUME_SOP_CLASSES, InstanceHeader

_LOCALIZER_WORDS = re.compile(
    r"localiz|localis|scout|survey|surview|topogram|scanogram|3[ -]?plane|three[ -]?plane|tri[ -]?plane|\bloc\b", re.I
)
_LOCALIZER_TYPES = frozenset({"LOCALIZER", "SCOUT", "SURVEY", "REF_SURVIEW", "TOPOGRAM", "CT_SOM5 TOP"})
_LOCALIZER_OPTIONS = frozenset({"SURVIEW", "SCOUT MODE", "SCOUT", "TOPOGRAM"})
_SCREEN_TYPES = frozenset({"SCREEN SAVE", "SCREENSAVE", "SCREENSHOT", "DISPLAY", "CSAPARALLEL"})


def why_no_volume(header: InstanceHeader) -> str | None:
    """Why this instance can be part of no volume, or None."""
    name = UID(header.sop_class_uid).name
    if not header.frames:
        return f"no image: {name} is kept, and not read as a volume"
    if header.samples_per_pixel != 1 or not header.photometric_interpretation.startswith("MONOCHROME"):
        colour = header.photometric_interpretation or f"{header.samples_per_pixel} samples per pixel"
        return f"colour image ({colour}): a derived colour map or a picture, without one intensity per voxel"
    if "Secondary Capture" in name:
        return "secondary capture: a picture of a screen or a summary, no acquired slices"
    if header.sop_class_uid not in VOLUME_SOP_CLASSES or header.modality not in ("MR", "CT"):
        return f"{name} of modality {header.modality or 'unknown'}: only MR and CT images become volumes"
    if _SCREEN_TYPES.intersection(header.image_type):
        return "picture of a screen by its Image Type"
    localizer = _why_localizer(header)
    if localizer:
        return localizer
    if header.tiles is not None:
        return None
    if "MOSAIC" in header.image_type or header.mosaic_tiles is not None:
        return "Siemens mosaic: all slices tiled in one frame, and its header does not say how they lie"
    if "VFRAME" in header.image_type or header.frame_grid:
        return "UIH VFRAME: all slices tiled in one frame, and its header does not say how they lie"
    return None


def why_no_geometry(frame: FrameHeader) -> str | None:
    """Why a frame has no place in space, or None."""
    missing = [
        keyword
        for keyword, value in (
            ("Image Position (Patient)", frame.position),
            ("Image Orientation (Patient)", frame.orientation),
            ("Pixel Spacing", frame.pixel_spacing),
        )
        if value is None
    ]
    if missing:
        return f"no geometry: {', '.join(missing)} missing"
    if frame.pixel_spacing is not None and min(frame.pixel_spacing) <= 0:
        return "no geometry: Pixel Spacing is not positive"
    return None


def is_localizer_description(series_description: str) -> bool:
    """Whether a Series Description names a localizer."""
    return _LOCALIZER_WORDS.search(series_description) is not None


def _why_localizer(header: InstanceHeader) -> str | None:
    frame_types = {value for frame in header.frames for value in frame.image_type}
    types = _LOCALIZER_TYPES.intersection({*header.image_type, *frame_types})
    if types:
        return f"localizer by its Image Type ({sorted(types)[0]})"
    options = _LOCALIZER_OPTIONS.intersection(header.scan_options)
    if options:
        return f"localizer by its Scan Options ({sorted(options)[0]})"
    if is_localizer_description(header.series_description):
        return "localizer by its series description"
    return None
