"""From an outcome to DICOM files and their rows: the same UIDs however often it is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_model.outcome import Outcome
from vp_node.database.models import Instance, Result, Run, Series
from vp_node.intake.digest import dataset_digest
from vp_node.results import PromptProvenance, ResultObject, RunIdentity, check_objects, encode
from vp_node.results.drawing import DrawingError, draw
from vp_node.results.model import Picture, Predecessor
from vp_node.runs.choosing import gathered_volumes
from vp_node.runs.context import RunContext
from vp_node.runs.destinations import destinations_of, wanted_of
from vp_node.runs.earlier_regions import regions_of_earlier_studies
from vp_node.runs.predecessor import predecessor_of
from vp_node.runs.states import RunFailure
from vp_node.studies.model import ChosenVolume


def encode_results(context: RunContext, run_id: str, attempt: int) -> None:
    """Writes the objects of a run into its folder and their rows into the database.

    Files are on the disk before their rows are committed. A row whose UID is known already gets the new file: a crash
    between the two leaves nothing behind that is not written again.
    """
    with context.sessions() as session:
        run = session.get_one(Run, run_id)
        volumes = gathered_volumes(session, run, context.data_folder)
        folder = context.data_folder / run.outcome_folder
        identity = _identity(run, predecessor_of(session, run, context.data_folder))
        provenance = _provenance(run)
        header = None if volumes else _study_header(session, run, context.data_folder)
        outcome = Outcome.load(folder)
        earlier = regions_of_earlier_studies(session, run, volumes, outcome, context.data_folder)
        identity = replace(identity, earlier_regions=earlier)
        wanted = wanted_of(context.config, run, destinations_of(context.config, run, outcome.status))
    if wanted.capture or wanted.pdf:
        pictures = _pictures(context, run_id, attempt, folder, volumes)
        wanted = replace(wanted, pictures=pictures)
    objects = encode(outcome, volumes, identity, provenance, context.config, wanted, header)
    folder = context.run_folder(run_id, attempt) / "objects"
    folder.mkdir(parents=True, exist_ok=True)
    written = [(item, _write(item, folder / f"{number:02}-{item.role}.dcm")) for number, item in enumerate(objects)]
    _sync(folder)
    with context.sessions.begin() as session:
        for item, path in written:
            uid = str(item.dataset.SOPInstanceUID)
            row = session.scalars(select(Result).where(Result.sop_instance_uid == uid)).one_or_none()
            if row is None:
                row = Result(run_id=run_id, role=item.role, sop_instance_uid=uid)
                session.add(row)
            row.form = item.form or ""
            row.sop_class_uid = str(item.dataset.SOPClassUID)
            row.series_instance_uid = str(item.dataset.SeriesInstanceUID)
            row.path = str(path.relative_to(context.data_folder))
            row.digest = dataset_digest(path)


def _pictures(
    context: RunContext, run_id: str, attempt: int, outcome: Path, volumes: Sequence[ChosenVolume]
) -> tuple[Picture, ...]:
    """Overlays for the page and the PDF, drawn by a confined process: what a peer sent is decoded nowhere else.

    Raises:
        RunFailure: they could not be drawn.
    """
    folder = context.run_folder(run_id, attempt) / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return draw(outcome, volumes, folder, "overlay", context.config.compute)
    except DrawingError as error:
        raise RunFailure(str(error)) from error


def _study_header(session: Session, run: Run, data_folder: Path) -> Dataset | None:
    """Of the first instance that came of a study in which no volume was found."""
    path = session.scalars(
        select(Instance.path).join(Series).where(Series.study_id == run.study_id).order_by(Instance.id).limit(1)
    ).first()
    return dcmread(data_folder / path, stop_before_pixels=True) if path is not None else None


def check_results(context: RunContext, run_id: str) -> None:
    """Holds every object of a run against the rules, alone, beside its sources and beside the others, and keeps what
    the check said with it.

    Raises:
        RunFailure: an object breaks a rule. Nothing of the run is sent then: the report refers to all of it.
    """
    with context.sessions() as session:
        run = session.get_one(Run, run_id)
        results = [(row.id, row.role, context.data_folder / row.path) for row in run.results]
        volumes = gathered_volumes(session, run, context.data_folder)
    sources = {
        frame.sop_instance_uid: frame.path for item in volumes for frame in item.volume.frames if not frame.is_missing
    }
    found = check_objects([path for _, _, path in results], sources)
    with context.sessions.begin() as session:
        for identifier, _, path in results:
            session.get_one(Result, identifier).findings = [asdict(finding) for finding in found[path]]
    errors = [
        f"{role}: {finding.message}"
        for _, role, path in results
        for finding in found[path]
        if finding.severity == "error"
    ]
    if errors:
        raise RunFailure(
            f"{len(errors)} rule(s) for results are broken, so nothing is sent. The first: {errors[0]} "
            f"See `vp-node results --run {run_id[:8]}`."
        )


def _identity(run: Run, predecessor: Predecessor | None) -> RunIdentity:
    return RunIdentity(
        run_id=run.id,
        study_instance_uid=run.study.study_instance_uid,
        prompt_version_id=run.prompt_version_id,
        model_hash=run.model_hash,
        input_digest=run.input_digest,
        predecessor=predecessor,
    )


def _provenance(run: Run) -> PromptProvenance:
    version = run.prompt_version
    return PromptProvenance(
        name=version.prompt.name,
        version=version.number,
        text=version.text,
        owner=version.prompt.owner,
        requested_by=run.requested_by,
        requested_at=run.created_at,
    )


def _write(item: ResultObject, path: Path) -> Path:
    """Writes a data set in one step: under a name of its own first, synced, then renamed."""
    unfinished = path.with_suffix(".part")
    item.dataset.save_as(unfinished, enforce_file_format=True)
    _sync(unfinished)
    unfinished.replace(path)
    return path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
