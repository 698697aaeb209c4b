"""Studies, prompts and runs in the index as the listener and the scheduler leave them, without a wire."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydicom import dcmread
from sqlalchemy import select

from vp_node.compute.process import ComputeProcess
from vp_node.config import CompletenessSection, ComputeSection, Config, NodeSection
from vp_node.database.engine import create_database_engine, session_factory, upgrade
from vp_node.database.models import Study
from vp_node.intake.completeness import complete_by_hand
from vp_node.intake.digest import dataset_digest
from vp_node.intake.store import Arrival, patient_identity, store
from vp_node.runs.context import ComputePool, RunContext
from vp_node.runs.locks import FileLocks
from vp_node.runs.understanding import read_revision, store_understanding, understand_revision
from vp_node.studies.headers import read_header

PACS = "TESTPACS"
AGENT = "tests.vp_node.runs_support.agents:load"


def make_context(folder: Path, **sections: Any) -> RunContext:
    """A context on an empty node in `folder`, with the tests' agent for a model."""
    folder.mkdir(parents=True, exist_ok=True)
    config = Config(node=NodeSection(data_folder=folder), **{"compute": ComputeSection(threads=1), **sections})
    engine = create_database_engine(config.database_url)
    upgrade(engine)
    pool = ComputePool(lambda: ComputeProcess(config.compute, AGENT), 1)
    return RunContext(config, session_factory(engine), pool, FileLocks(folder / "locks"))


def receive(context: RunContext, paths: Sequence[Path], calling: str = PACS) -> int:
    """Stores files as if a peer had sent them; returns the id of their study."""
    incoming = context.data_folder / "incoming"
    incoming.mkdir(exist_ok=True)
    for path in paths:
        copy = Path(shutil.copy(path, incoming / uuid4().hex))
        patient_id, issuer = patient_identity(dcmread(copy, stop_before_pixels=True))
        header = read_header(copy)
        digest = dataset_digest(copy)
        arrival = Arrival(copy, header, digest, patient_id, issuer, calling, "VOXELPROMPT", "127.0.0.1")
        store(context.sessions, context.data_folder, arrival)
    with context.sessions() as session:
        return session.scalars(select(Study.id).where(Study.study_instance_uid == header.study_instance_uid)).one()


def close(context: RunContext, study_id: int) -> None:
    """Closes a study as it is now, and understands it; plans nothing."""
    with context.sessions.begin() as session:
        complete_by_hand(session, session.get_one(Study, study_id), CompletenessSection(), datetime.now(UTC), "test")
    with context.sessions() as session:
        read = read_revision(session, study_id, context.data_folder)
    understanding = understand_revision(read)
    with context.sessions.begin() as session:
        store_understanding(session, session.get_one(Study, study_id), understanding, context.data_folder)


def closed_study(context: RunContext, paths: Sequence[Path], calling: str = PACS) -> int:
    study_id = receive(context, paths, calling)
    close(context, study_id)
    return study_id
