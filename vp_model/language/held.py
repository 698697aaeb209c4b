"""What a line of a program must agree with in its prompt and study, beyond the grammar.

α is small and copies badly: numbers, dates, the order and the sides of structures in a list, which image is the one
after contrast agent. All of these can be read off the prompt and the study without learning. A line that contradicts
them is written anew (`decoding.py`); where the prompt leaves it open, so do these rules.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from vp_model.language.asked import (
    NUMBERED_NAME,
    SEGMENTED,
    SIDES,
    asked_structures,
    fits,
    readings_of,
    regions_of,
    says_where,
    segmented_in,
    wholly,
)
from vp_model.language.assembling import assembly_mended
from vp_model.language.contrasts import contrast_mended
from vp_model.language.counting import counted_first
from vp_model.language.extremes import extreme_of, fits_extreme, made_extreme
from vp_model.language.images import images_read
from vp_model.language.matching import BOUND, EXTENT, OTHER_BOUND, SECOND, line_fits, measurable, task_fits
from vp_model.language.moments import VISIT, asked_moment
from vp_model.language.needs import may_miss_image, may_miss_session, of_one_session, of_session, without_history
from vp_model.language.placing import lobes_mended, lobes_of_lesions, placed
from vp_model.language.prompted import prompted_by
from vp_model.language.quantities import margins_of, percentiles_of, sizes_of
from vp_model.language.reading import FOREIGN, STRANGE, UNLEARNED, read_all, reading_of
from vp_model.language.relating import relation_mended, seen_from
from vp_model.language.saved import consistent, unsaved_volumes
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume

MARKS = frozenset({UNLEARNED, FOREIGN, STRANGE})
LONGEST_SLIP = 4
"""Letters of the longest unknown word that is no name of a structure with a slip in it."""
SINGLE = {
    "roi": "roi_1",
    "roi_left": "roi_1_left",
    "roi_right": "roi_1_right",
    "left": "roi_1_left",
    "right": "roi_1_right",
}
"""Names in programs about one structure, and about the first of several."""
BEGINNING = 'task("'
"""The first line of a program, and no other."""
ONCE = ("show(", "save(")
"""Calls whose repetition with the same arguments does nothing."""
SIZE = re.compile(r"(?P<call>\b(?:larger_than|smaller_than)\(\w+, )(?P<size>[0-9.]+)(?=\))")
PERCENTILE_OF = re.compile(r"(?P<call>\bpercentile_intensity\(.*, )(?P<number>\d+)(?=\))")
MISSING_IMAGE, UNKNOWN_STRUCTURE = 'refuse("missing image")', 'refuse("unknown structure")'
MISSING_SESSION, NOT_UNDERSTOOD = 'refuse("missing session")', 'refuse("not understood")'
CHANGES = frozenset({'task("volume change")', 'task("extent change")', 'task("intensity change")'})
"""Tasks that need images of several sessions."""


class Held:
    """A prompt and a study, asked of each line whether it agrees with them."""

    def __init__(self, prompt: str, volumes: Sequence[InputVolume], known: Collection[str]) -> None:
        """
        Args:
            known: names of the structures that can be asked for, without sides.
        """
        structures, mentions = load_ontology().structures, read_all(prompt)
        places = lobes_of_lesions(prompt, mentions)  # they tell of what is asked for, and are not asked for themselves
        asked = tuple(item for item in asked_structures(prompt, known) if item.name not in places)
        self._readings = readings_of(asked)
        self._diseases = tuple(dict.fromkeys(item.name for item in asked if structures[item.name].kind == "pathology"))
        # A longer word that nobody knows may be a structure's name with slips in it, which α may have understood.
        self._complete = not any(
            mention.sort == "strange" and len(mention.words[0]) > LONGEST_SLIP for mention in mentions
        )
        kinds = frozenset(volume.kind for volume in volumes)
        reading = reading_of(prompt, known, kinds)
        self._images = images_read(prompt, reading.kinds, volumes)
        self._of_one_session = of_one_session(self._images.named, volumes)
        self._unknown = any(mark in reading.outline for mark in MARKS) or not self._readings[-1]
        self._may_miss = may_miss_image(prompt, volumes)
        self._kinds = {volume.name: volume.kind for volume in volumes}
        self._last = tuple(volume.name for volume in of_session(volumes, -1))
        self._sizes = sizes_of(prompt)
        self._margins = margins_of(prompt)
        self._percentiles = percentiles_of(prompt)
        told = {mention.name for mention in mentions if mention.sort == "concept"}
        self._extreme = extreme_of(told, bool(self._diseases))
        self._may_miss_session = may_miss_session(read_all(without_history(prompt)), len(asked))
        self._only_history = not self._may_miss_session and may_miss_session(mentions, len(asked))
        visits = {volume.visit for volume in volumes if volume.visit}
        several = len(visits) > 1
        self._prompted = prompted_by(prompt, known, mentions, self._readings[0], reading.kinds, several, places)
        self._seen_from = seen_from(prompt, known)
        self._moment = asked_moment(prompt, mentions, self._prompted.words, visits)

    def agrees(self, line: str, before: Sequence[str]) -> bool:
        """Whether a line may follow the lines before it."""
        statement = line.strip()
        return (
            self._right_region([*before, line])
            and not self._single_of_several(statement, before)
            and not self._half_of_both(statement)
            and self._right_pathology(statement)
            and not self.twice(statement, before)
            and self._images.of_named_kind(statement, before)
            and self._right_size(statement)
            and self._right_percentile(statement)
            and counted_first(statement, before, self._prompted) == statement
            and self._moment.right_date(statement)
            and not self._moment.of_all_sessions(statement, before)
            and self._images.right(statement, before)
            and self._right_refusal(statement)
            and not (statement in CHANGES and (self._of_one_session or self._only_history))
            and (not self._complete or task_fits(statement, self._prompted))
            and self._contrast(statement, before) == statement
            and self._relation(statement, before) == statement
            and fits_extreme(statement, before, self._extreme, self._last)
            and (not self._complete or line_fits(statement, before, self._prompted))
            and (not (saved := consistent(statement, before, self._margins)) or statement in saved)
            and not (statement.startswith(ONCE) and line in before)
            and not (before and statement.startswith(BEGINNING))
        )

    def may_end(self, lines: Sequence[str]) -> bool:
        """Whether a program may end: it has come to the last structure that the prompt names (but for places where a
        lesion may lie), and to the last volume of which it saves an image.
        """
        segmented = segmented_in(lines)
        if unsaved_volumes(lines):
            return False
        if not segmented or not self._complete or says_where(lines):
            return True
        regions = {region for _, region in segmented}
        fitting = [reading for reading in self._readings if fits(reading, segmented)] or self._readings
        return any(all(wholly(item, regions) for item in reading) for reading in fitting)

    def mended(self, line: str, before: Sequence[str]) -> tuple[str, ...]:
        """A line that does not agree, with what it copied wrongly put right; the most plausible first."""
        found: list[str] = []
        if not self._right_size(line):
            found += [SIZE.sub(rf"\g<call>{size:g}", line) for size in self._sizes]
        if (bound := BOUND.search(line)) is not None:
            found.append(line.replace(bound["call"], next(call for call in OTHER_BOUND if call != bound["call"])))
        if not self._right_percentile(line):
            found += [PERCENTILE_OF.sub(rf"\g<call>{number}", line) for number in self._percentiles]
        if not self._moment.right_date(line):
            found += self._moment.dated(line)
        statement = line.strip()
        if (counted := counted_first(statement, before, self._prompted)) != statement:
            found.append(line.replace(statement, counted))
        if (contrast := self._contrast(statement, before)) != statement:
            found.append(line.replace(statement, contrast))
        if (relation := self._relation(statement, before)) != statement:
            found.append(line.replace(statement, relation))
        found += made_extreme(statement, before, self._extreme, self._last)
        found += lobes_mended(statement, self._prompted.lobes, self._prompted.told)
        names, said = [item.name for item in self._readings[0]], self._prompted
        found += placed(statement, before, said.places, said.told, names, said.signalled)
        if self._prompted.axis:
            found.append(EXTENT.sub(rf"\g<call>{self._prompted.axis}", line))
        if self._moment.of_all_sessions(statement, before):
            found.append(self._moment.choice)
        found += self._images.mended(line, before)
        if not self._right_pathology(statement):
            found += [SEGMENTED.sub(rf'\g<name> = segment("{name}"', line) for name in self._diseases]
        if not self._right_region([*before, line]):
            found += [SEGMENTED.sub(rf'\g<name> = segment("{name}"', line) for name in self._meant(statement, before)]
        if self._half_of_both(statement):
            found.append(SEGMENTED.sub(lambda match: _sided(match, len(self._readings[0])), line))
        if self._single_of_several(statement, before):
            name, _, rest = line.partition(" = ")
            found += [f"{SINGLE[name]} = {rest}"]
        found += consistent(statement, before, self._margins)
        return tuple(text for text in found if self.agrees(text, before))

    def impossible(self, line: str, before: Sequence[str]) -> str:
        """What is lacking for what a line sets out to do, as a reason of `refuse`; empty if nothing is: an image or a
        session of the study, or a second structure in the prompt.
        """
        if self._complete and SECOND.match(line.strip()) is not None and not task_fits(line.strip(), self._prompted):
            return "not understood"
        if self._moment.missed and VISIT.search(line) is not None:
            return "missing session"
        statement = line.strip()
        if statement in CHANGES and self._of_one_session:
            return "missing image"
        return "missing image" if self._images.missing(statement, before) else ""

    def twice(self, line: str, before: Sequence[str]) -> bool:
        """Whether a disease is segmented more often than it is named: something else was meant that is not known."""
        segmented = segmented_in([line.strip()])
        if not segmented or segmented[0][1] not in self._diseases:
            return False
        region = segmented[0][1]
        named = sum(item.name == region for item in self._readings[0])
        return sum(other == region for _, other in segmented_in(before)) >= named

    def _right_region(self, lines: Sequence[str]) -> bool:
        """Numbered structures are those of the prompt, in order, each on its side."""
        segmented = segmented_in(lines[-1:])
        if not segmented or not self._complete or NUMBERED_NAME.match(segmented[0][0]) is None:
            return True
        return any(fits(reading, segmented_in(lines)) for reading in self._readings)

    def _meant(self, statement: str, before: Sequence[str]) -> list[str]:
        """Regions that the numbered structure of a line may be, where it is another: those not segmented yet, of the
        line's side first.
        """
        name, region = segmented_in([statement])[0]
        numbered = NUMBERED_NAME.match(name)
        number = int(numbered["number"]) if numbered is not None else 0
        done = {other for _, other in segmented_in(before)}
        found = {
            other
            for reading in self._readings
            if 0 < number <= len(reading)
            for other in regions_of(reading[number - 1])
            if other not in done
        }
        sides = {*name.split("_"), *region.split(" ")} & {*SIDES}
        return sorted(found, key=lambda other: (not sides & {*other.split(" ")}, other))

    def _single_of_several(self, statement: str, before: Sequence[str]) -> bool:
        """Whether a program about several structures begins as one about a single one."""
        segmented = segmented_in([statement])
        if not segmented or not self._complete or len(self._readings) != 1 or segmented_in(before):
            return False
        return len({item.name for item in self._readings[0]}) > 1 and segmented[0][0] in SINGLE

    def _half_of_both(self, statement: str) -> bool:
        """Whether one side is segmented under the name of a structure that is asked for on both."""
        segmented = segmented_in([statement])
        if not segmented or not self._complete or self._diseases:
            return False
        name, region = segmented[0]
        asked = [item for item in self._readings[0] if region in regions_of(item)]
        if len(asked) != 1 or not asked[0].clear:
            return False
        paired = load_ontology().structures[asked[0].name].paired
        return paired and asked[0].sides == {*SIDES} and not {*SIDES} & {*name.split("_")}

    def _right_pathology(self, statement: str) -> bool:
        """Where a known disease is named, no other is segmented."""
        segmented = segmented_in([statement])
        if not segmented or not self._complete or not self._diseases:
            return True
        region = load_ontology().structures.get(segmented[0][1])
        return region is None or region.kind != "pathology" or region.name in self._diseases

    def _contrast(self, statement: str, before: Sequence[str]) -> str:
        return contrast_mended(statement, before, self._prompted.told, self._kinds, self._prompted.words)

    def _relation(self, statement: str, before: Sequence[str]) -> str:
        if not self._complete:
            return statement
        whole = assembly_mended(statement, before, self._readings[0])
        return whole if whole != statement else relation_mended(statement, before, self._readings[0], self._seen_from)

    def _right_size(self, statement: str) -> bool:
        found = SIZE.search(statement)
        return found is None or not self._sizes or float(found["size"]) in self._sizes

    def _right_percentile(self, statement: str) -> bool:
        found = PERCENTILE_OF.search(statement)
        return found is None or not self._percentiles or int(found["number"]) in self._percentiles

    def _right_refusal(self, statement: str) -> bool:
        """Nothing unknown is refused where all is known, and no plain question for a size; no image, no session is
        missed where all are there or none is asked for.
        """
        if statement == UNKNOWN_STRUCTURE:
            return self._unknown
        if statement == MISSING_SESSION:
            return self._may_miss_session
        if statement == NOT_UNDERSTOOD:
            return self._unknown or not measurable(self._prompted)
        return statement != MISSING_IMAGE or self._may_miss


def _sided(match: re.Match[str], structures: int) -> str:
    """The beginning of a line that segments, its name with the side of its region.

    Args:
        structures: how many the program is about.
    """
    first, *others = match["name"].split("_")
    side = match["region"].split(" ", 1)[0]
    if first == "roi":
        words = [side, *others] if structures == 1 else [first, *others[:1], side, *others[1:]]
    else:
        words = [first, side, *others]
    return f'{"_".join(words)} = segment("{match["region"]}"'
