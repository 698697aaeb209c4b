"""Results for viewers that show neither SEG nor SR: pictures as Secondary Capture, and a report as encapsulated PDF.

Both are opt-in, and both say what the SR says. Pictures are those of `vp_model.rendering`; no patient data is drawn.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, SecondaryCaptureImageStorage

from vp_model.outcome import Measurement, Outcome
from vp_model.program.narration import readable
from vp_node.results.alignments import alignment_words
from vp_node.results.codes import private
from vp_node.results.equipment import Equipment, add_contributing_equipment
from vp_node.results.groups import DISCLAIMER
from vp_node.results.model import Picture, PromptProvenance, ResultObject, RunIdentity
from vp_node.results.patient import copy_patient_and_study
from vp_node.results.stamping import stamp
from vp_node.results.uids import object_uid
from vp_node.results.wording import line

A4_INCHES = (8.27, 11.69)
COLUMNS = 95
"""Characters in a line of the PDF."""
LINES = 58
PICTURES_ON_A_PAGE = 3


@dataclass(frozen=True)
class PageSettings:
    """What page and PDF share with the other objects of their run."""

    header: Dataset
    """Of an image of the study."""
    identity: RunIdentity
    provenance: PromptProvenance
    equipment: Equipment
    moment: datetime
    charset: str | list[str]


def capture(
    outcome: Outcome, settings: PageSettings, pictures: Sequence[Picture], series_number: int
) -> list[ResultObject]:
    """A Secondary Capture series (PS3.3 A.8.1) with one image for each picture."""
    objects = []
    for number, picture in enumerate(pictures, 1):
        pixels = _rgb(picture)
        image = _begin(settings, "capture", number, series_number)
        image.SOPClassUID = SecondaryCaptureImageStorage
        image.Modality = "OT"
        image.SeriesDescription = line(f"{settings.equipment.model_name} pictures")
        image.ConversionType = "WSD"
        image.ImageType = ["DERIVED", "SECONDARY"]
        image.PatientOrientation = ""
        image.ImageComments = line(f"{picture.caption}. {DISCLAIMER}", 10240)
        image.BurnedInAnnotation = "NO"
        image.LossyImageCompression = "00"
        image.DateOfSecondaryCapture = settings.moment.strftime("%Y%m%d")
        image.TimeOfSecondaryCapture = settings.moment.strftime("%H%M%S")
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
        image.Rows, image.Columns = pixels.shape[:2]
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
        data = pixels.tobytes()
        image.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
        stamp(image, settings.moment)
        objects.append(ResultObject("capture", image))
    return objects


def document(outcome: Outcome, settings: PageSettings, pictures: Sequence[Picture], series_number: int) -> ResultObject:
    """The report as Encapsulated PDF (PS3.3 A.45.1)."""
    pdf = pdf_report(outcome, settings.provenance, settings.equipment, settings.identity, pictures)
    item = _begin(settings, "pdf", 1, series_number)
    item.SOPClassUID = EncapsulatedPDFStorage
    item.Modality = "DOC"
    item.SeriesDescription = line(f"{settings.equipment.model_name} report (PDF)")
    item.ConversionType = "WSD"
    item.AcquisitionDateTime = None
    item.BurnedInAnnotation = "NO"
    item.VerificationFlag = "UNVERIFIED"
    item.DocumentTitle = line(f"{settings.equipment.model_name}: {settings.provenance.name}", 1024)
    item.ConceptNameCodeSequence = [private("Report of an automatic image analysis")]
    item.MIMETypeOfEncapsulatedDocument = "application/pdf"
    item.EncapsulatedDocumentLength = len(pdf)
    item.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    stamp(item, settings.moment)
    return ResultObject("pdf", item)


def pdf_report(
    outcome: Outcome,
    provenance: PromptProvenance,
    equipment: Equipment,
    identity: RunIdentity,
    pictures: Sequence[Picture],
) -> bytes:
    """Pages with the answer, what it was made from, and the pictures; the same bytes for the same arguments."""
    file = io.BytesIO()
    metadata = {"Title": provenance.name, "Creator": "voxelprompt-node", "Producer": "voxelprompt-node"}
    with PdfPages(file, metadata={**metadata, "CreationDate": None}) as pages:
        lines = [part for text in _paragraphs(outcome, provenance, equipment, identity) for part in _wrapped(text)]
        for start in range(0, len(lines), LINES):
            _text_page(pages, lines[start : start + LINES])
        for start in range(0, len(pictures), PICTURES_ON_A_PAGE):
            _picture_page(pages, pictures[start : start + PICTURES_ON_A_PAGE])
    return file.getvalue()


def _paragraphs(
    outcome: Outcome, provenance: PromptProvenance, equipment: Equipment, identity: RunIdentity
) -> list[str]:
    answer = [f"Result: {outcome.status}. {outcome.reason}".strip()]
    answer += [measurement_words(item) for item in outcome.measurements]
    answer += [text.text for text in outcome.texts]
    answer += [f"Warning: {warning}" for warning in outcome.warnings]
    answer += [f"Alignment: {words}" for words in alignment_words(outcome)]
    return [
        f"{equipment.model_name}: {provenance.name}",
        "",
        DISCLAIMER,
        "",
        f"Prompt: {provenance.text}",
        f"Version {provenance.version}, owner {provenance.owner}; requested by {provenance.requested_by}",
        "",
        *answer,
        "",
        "Program:",
        *(f"    {line}" for line in outcome.transcript.program.splitlines()),
        "",
        "In words:",
        *(f"    {line}" for line in readable(outcome.transcript).splitlines()),
        "",
        f"Model {equipment.model_name} {equipment.software_version}, SHA-256 {equipment.content_hash}",
        f"Node {equipment.node_name}, voxelprompt-node {equipment.node_version}",
        f"Run {identity.run_id}",
    ]


def measurement_words(item: Measurement) -> str:
    """`left hippocampus: volume 3.25 ml (2024-03-01)`."""
    dates = " to ".join(item.visits) or item.visit
    value = f"{item.value:.6g} {item.unit}" if item.unit != "1" else f"{item.value:.6g}"
    remark = " (experimental)" if item.experimental else ""
    return f"{item.label or item.structure}: {item.name} {value}" + (f" ({dates})" if dates else "") + remark


def _wrapped(text: str) -> list[str]:
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(text, COLUMNS, subsequent_indent=indent, drop_whitespace=False) or [""]


def _text_page(pages: PdfPages, lines: Sequence[str]) -> None:
    figure = Figure(figsize=A4_INCHES)
    FigureCanvasPdf(figure)
    for number, words in enumerate(lines):
        # parse_math: a dollar in a prompt is a dollar.
        figure.text(0.08, 0.94 - number * 0.0155, words, fontsize=8, family="monospace", va="top", parse_math=False)
    pages.savefig(figure)  # type: ignore[no-untyped-call]


def _picture_page(pages: PdfPages, pictures: Sequence[Picture]) -> None:
    figure = Figure(figsize=A4_INCHES)
    FigureCanvasPdf(figure)
    for axes, picture in zip(
        figure.subplots(PICTURES_ON_A_PAGE, 1, squeeze=False)[:, 0], [*pictures, None, None], strict=False
    ):
        axes.set_axis_off()
        if picture is not None:
            axes.imshow(_rgb(picture), interpolation="none")
            axes.set_title(picture.caption, fontsize=9, parse_math=False)
    figure.text(0.5, 0.02, DISCLAIMER, ha="center", fontsize=8)
    figure.subplots_adjust(left=0.04, right=0.96, top=0.95, bottom=0.05, hspace=0.12)
    pages.savefig(figure, dpi=150)  # type: ignore[no-untyped-call]


def _rgb(picture: Picture) -> NDArray[np.uint8]:
    with Image.open(picture.path) as image:
        return np.asarray(image.convert("RGB"), np.uint8)


def _begin(settings: PageSettings, role: str, number: int, series_number: int) -> Dataset:
    """Patient, study, series, equipment and identity."""
    equipment, run_id = settings.equipment, settings.identity.run_id
    item = Dataset()
    copy_patient_and_study(settings.header, item)
    item.SpecificCharacterSet = settings.charset
    item.SeriesInstanceUID = object_uid(run_id, f"{role}/series")
    item.SOPInstanceUID = object_uid(run_id, f"{role}/{number}")
    item.SeriesNumber, item.InstanceNumber = series_number, number
    item.BodyPartExamined = "HEAD"
    item.Manufacturer = equipment.manufacturer
    item.ManufacturerModelName = equipment.model_name
    item.SoftwareVersions = equipment.software_version
    item.DeviceSerialNumber = equipment.device_serial_number
    if equipment.institution:
        item.InstitutionName = equipment.institution
    add_contributing_equipment(item, equipment)
    return item
