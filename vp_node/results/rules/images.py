"""Derived MR and CT images, pictures (Secondary Capture) and documents (Encapsulated PDF)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID

from vp_node.results.rules.problems import Problem
from vp_node.results.rules.segmentation import is_orthonormal


def image(dataset: Dataset) -> Iterator[Problem]:
    yield from _pixels(dataset)
    if not is_orthonormal(dataset.get("ImageOrientationPatient")):
        yield "plane", "the orientation"


def house_image(dataset: Dataset) -> Iterator[Problem]:
    """A derived image says that it is one, and of what."""
    if list(dataset.get("ImageType") or [])[:2] != ["DERIVED", "SECONDARY"]:
        yield "house-derivation", "Image Type does not say DERIVED\\SECONDARY"
    if not dataset.get("DerivationCodeSequence"):
        yield "house-derivation", "there is no Derivation Code"


def page(dataset: Dataset) -> Iterator[Problem]:
    yield from _pixels(dataset)


def document(dataset: Dataset) -> Iterator[Problem]:
    data = dataset.get("EncapsulatedDocument") or b""
    length = int(dataset.get("EncapsulatedDocumentLength") or len(data))
    if not data.startswith(b"%PDF-") or length not in (len(data), len(data) - 1):
        yield "document", f"{len(data)} bytes"


def house_page(dataset: Dataset) -> Iterator[Problem]:
    if dataset.get("BurnedInAnnotation") != "NO":
        yield "burned-in", "Burned In Annotation"


def _pixels(dataset: Dataset) -> Iterator[Problem]:
    if UID(dataset.file_meta.TransferSyntaxUID).is_compressed:
        return
    frames = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    expected = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8 * frames * samples
    if len(dataset.get("PixelData") or b"") not in (expected, expected + expected % 2):
        yield "pixels", f"expected {expected} bytes"
