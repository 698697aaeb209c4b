"""The images that a program reads intensities of: of the sequence type that its prompt names, of the session or pair of
sessions that its task needs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vp_model.language.asked import segmented_in
from vp_model.language.needs import HOUNSFIELD, of_same_kind, of_session
from vp_model.language.reading import asked_for, words_of
from vp_model.language.saved import LOOKED_AT
from vp_model.outcome import InputVolume

INTENSITY_OF = re.compile(
    r"(?P<call>\b(?:mean|sd|median|min|max)_intensity\((?:[^()]|\([^()]*(?:\([^()]*\))?\))*, )(?P<volume>v\d+)(?=\))"
)
OF_ONE_IMAGE = frozenset({'task("intensity analysis")', 'task("intensity comparison")', 'task("signal intensity")'})
"""Tasks that read intensities of one image."""
MEASURED_ON = {
    'task("enhancement")': {"before": "T1", "after": "T1+C"},
    'task("diffusion restriction")': {"bright": "DWI", "one": "DWI", "dark": "ADC", "two": "ADC"},
}
"""Task → variable → sequence type of the image that it is measured on."""
PAIR = {'task("intensity change")': ("before", "after")}
"""Task → variables that are measured on two images of one sequence type."""


@dataclass(frozen=True)
class ImagesRead:
    """
    Attributes:
        volumes: of the study.
        named: sequence types that the prompt names; CT where it speaks of Hounsfield units.
        there: the study has one of them.
        meant: the first volume of the last session that is of one, if there is one.
    """

    volumes: tuple[InputVolume, ...]
    named: tuple[str, ...]
    there: bool
    meant: str

    def of_named_kind(self, statement: str, before: Sequence[str]) -> bool:
        """Whether intensities of a session are read from an image of the sequence type that the prompt names."""
        if not self.there or not before or before[0] not in OF_ONE_IMAGE:
            return True
        return {found["volume"] for found in INTENSITY_OF.finditer(statement)} <= {self.meant}

    def right(self, statement: str, before: Sequence[str]) -> bool:
        """Whether a line reads the image that its task needs."""
        image = self._needed(statement, before)
        return image == "" or all(found["volume"] == image for found in INTENSITY_OF.finditer(statement))

    def mended(self, line: str, before: Sequence[str]) -> list[str]:
        """A line that reads another image than it must, put right."""
        found, statement = [], line.strip()
        if not self.right(statement, before) and (image := self._needed(statement, before)):
            found.append(INTENSITY_OF.sub(rf"\g<call>{image}", line))
        if not self.of_named_kind(statement, before) and self.meant:
            found.append(INTENSITY_OF.sub(rf"\g<call>{self.meant}", line))
        return found

    def missing(self, statement: str, before: Sequence[str]) -> bool:
        """Whether the study lacks the image that a line must read."""
        unread = not self.of_named_kind(statement, before) and not self.meant
        return unread or self._needed(statement, before) is None

    def _needed(self, statement: str, before: Sequence[str]) -> str | None:
        """The image that a line must read: enhancement is measured from an image without contrast agent to one with it,
        diffusion on DWI and ADC, change of intensity between images of one sequence type. Empty where any will do, None
        where there is none.
        """
        if not before or INTENSITY_OF.search(statement) is None:
            return ""
        variable = statement.partition(" = ")[0]
        looked_at = {name for line in before if segmented_in([line]) for name in LOOKED_AT.findall(line)}
        volumes = [volume for volume in self.volumes if volume.name in looked_at]
        wanted = MEASURED_ON.get(before[0], {}).get(variable)
        if wanted is not None:
            return next((volume.name for volume in of_session(volumes, -1) if volume.kind == wanted), None)
        if variable in (pair := PAIR.get(before[0], ())):
            images = of_same_kind(of_session(volumes, 0), of_session(volumes, -1))
            return None if images is None else images[pair.index(variable)].name
        return ""


def images_read(prompt: str, kinds: Collection[str], volumes: Sequence[InputVolume]) -> ImagesRead:
    """
    Args:
        kinds: sequence types that the prompt names.
    """
    named = ("CT",) if not HOUNSFIELD.isdisjoint(words_of(prompt)) else tuple(kinds)
    last = of_session(volumes, -1)
    given, recent = (frozenset(volume.kind for volume in some) for some in (volumes, last))
    there = any(asked_for(volume.kind, named, given) for volume in volumes)
    meant = next((volume.name for volume in last if asked_for(volume.kind, named, recent)), "")
    return ImagesRead(tuple(volumes), named, there, meant)
