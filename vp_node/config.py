"""The node's configuration: one validated value, read once from a TOML file and passed in.

`config.example.toml` shows every setting with its default. A wrong key or value is an error that names the line.
"""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""PS3.5 6.2: at most 16 characters of the default repertoire, no backslash."""

CONFIG_VARIABLE = "VP_NODE_CONFIG"


class ConfigError(ValueError):
    """The configuration cannot be used; the message says where and why."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_SectionT = TypeVar("_SectionT", bound=_Section)


class NodeSection(_Section):
    name: str = "VoxelPrompt Node"
    data_folder: Path = Path("var")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"


class DicomSection(_Section):
    host: str = "0.0.0.0"  # noqa: S104 (a Storage SCP is there to be reached)
    port: int = Field(default=11112, ge=0, le=65535)
    ae_titles: tuple[AETitle, ...] = ("VOXELPROMPT",)
    accept_unknown_peers: bool = False
    maximum_associations: int = Field(default=25, ge=1)
    maximum_associations_per_address: int = Field(default=10, ge=1)
    maximum_pdu_bytes: int = Field(default=1 << 20, ge=4096, le=16 << 20)
    network_timeout_seconds: float = Field(default=60, gt=0)
    minimum_free_disk_gb: float = Field(default=5, ge=0)
    maximum_instance_gb: float = Field(default=4, gt=0)


class _Destination(_Section):
    """What an application that results are sent to takes of them."""

    name: str = Field(min_length=1, max_length=64)
    takes: tuple[Literal["seg", "sr", "derived", "capture", "pdf"], ...] = ("seg", "sr", "derived")
    """Kinds of objects; pictures (`capture`) and the PDF report are made only where a destination takes them."""
    segmentations: tuple[Literal["binary", "labelmap", "fractional"], ...] = Field(default=("binary",), min_length=1)
    """Forms of segmentations in order of preference: the first that the destination accepts is sent, one alone."""


class TlsSection(_Section):
    """Certificates for DICOM over TLS (PS3.15 B.12), used where a peer has `tls = true`."""

    ca_file: Path | None = None
    """Certificates of the authorities that peers are trusted by; None: the system's."""
    certificate_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> TlsSection:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("tls.certificate_file and tls.key_file belong together: give both or none")
        return self


class WebDestination(_Destination):
    """A DICOMweb server that takes results by STOW-RS (PS3.18 10.5)."""

    url: str = Field(pattern=r"^https?://")
    """Where its services begin: `https://pacs.example/dicom-web`."""
    username: str = ""
    password_file: Path | None = None
    token_file: Path | None = None
    """Holds a bearer token; read anew for each sending."""
    ca_file: Path | None = None
    timeout_seconds: float = Field(default=60, gt=0)


class FolderDestination(_Destination):
    """A folder into which results are written as files."""

    path: Path


class DeliveryRule(_Section):
    """Further destinations for results of some runs. Every condition must hold; one that is not given always does."""

    prompts: tuple[str, ...] = ("*",)
    """Names of prompts, with `*` and `?`."""
    senders: tuple[str, ...] = ("*",)
    """AE titles that the study came from, with `*` and `?`."""
    statuses: tuple[Literal["answered", "refused"], ...] = ("answered", "refused")
    destinations: tuple[str, ...] = Field(min_length=1)
    instead: bool = False
    """True: only these, and none of the prompt's or the default ones."""


class Peer(_Destination):
    """A DICOM application that the node talks to."""

    ae_title: AETitle
    host: str
    port: int = Field(default=104, ge=1, le=65535)
    may_send: bool = True
    receives_results: bool = True
    calls_as: AETitle | None = None
    """The AE title that the node uses when it calls this peer; by default the first of `dicom.ae_titles`."""
    tls: bool = False
    """Results are sent to it over TLS, with the certificates of `[tls]`."""
    storage_commitment: bool = False
    """After sending it is asked to promise that it keeps the results (PS3.4 J)."""


class CompletenessSection(_Section):
    series_quiet_seconds: float = Field(default=60, ge=0)
    study_quiet_seconds: float = Field(default=300, ge=0)
    force_seconds: float = Field(default=5400, gt=0)
    force_action: Literal["proceed", "hold", "discard"] = "proceed"
    check_interval_seconds: float = Field(default=5, gt=0)


class DatabaseSection(_Section):
    url: str = ""
    """SQLAlchemy URL; empty: SQLite in the data folder."""
    workflow_url: str = ""
    """Where DBOS keeps the steps of runs; empty: SQLite in the data folder, or the same PostgreSQL server as `url`."""


class ComputeSection(_Section):
    checkpoint: Path | None = None
    """A checkpoint folder; None: the bundled one."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of the compute process; 0: all cores."""
    device: str = "cpu"
    """Where the vision network computes: `cpu`, `cuda`, `cuda:0` or `auto`."""
    time_limit_seconds: float = Field(default=1800, gt=0)
    memory_limit_gb: float = Field(default=12, gt=0)
    output_limit_gb: float = Field(default=8, gt=0)


class WorkflowSection(_Section):
    concurrent_runs: int = Field(default=1, ge=1)
    step_attempts: int = Field(default=3, ge=1)
    recovery_attempts: int = Field(default=5, ge=1)


class DeliverySection(_Section):
    attempts: int = Field(default=12, ge=1)
    first_delay_seconds: float = Field(default=30, gt=0)
    longest_delay_seconds: float = Field(default=3600, gt=0)
    default_destinations: tuple[str, ...] = ("sender",)
    """Names of peers, or `sender`: back to whom the study came from."""
    commitment_wait_seconds: float = Field(default=600, gt=0)
    """How long the answer to a request for storage commitment is waited for before it is asked again."""
    commitment_attempts: int = Field(default=6, ge=1)
    rules: tuple[DeliveryRule, ...] = ()


class PriorSource(_Section):
    """An archive that is asked for a patient's earlier studies."""

    name: str = Field(min_length=1, max_length=64)
    method: Literal["c-get", "c-move", "dicomweb"] = "c-get"
    peer: str = ""
    """For C-GET and C-MOVE: a name under `[[peers]]`, or `sender`: who sent the study that is asked about."""
    url: str = ""
    """For DICOMweb: where QIDO-RS and WADO-RS begin."""
    headers: dict[str, str] = {}
    """For DICOMweb: of every request, such as an authorization."""

    @model_validator(mode="after")
    def _reachable(self) -> PriorSource:
        if self.method == "dicomweb" and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"the prior source {self.name!r} needs a url that begins with http:// or https://")
        if self.method != "dicomweb" and not self.peer:
            raise ValueError(f"the prior source {self.name!r} needs a peer: {self.method} asks a DICOM application")
        return self


class PriorsSection(_Section):
    """Earlier studies of the patient, for prompts that ask about change."""

    source: str = ""
    """Name of the `[[prior_sources]]` that is asked where a prompt names none; empty: only studies that are here."""
    studies: int = Field(default=1, ge=0, le=16)
    """How many, where a prompt does not say; 0: none is ever asked for."""
    maximum_age_days: int = Field(default=3650, ge=1)
    maximum_instances: int = Field(default=4000, ge=1)
    """Of all that one run fetches."""
    time_limit_seconds: float = Field(default=180, gt=0)
    """Then the run goes on with what has come, and says so."""


class AlignmentSection(_Section):
    """Rigid co-registration of the volumes of a run, before the model sees them."""

    within_sessions: bool = True
    across_sessions: bool = True
    finest_mm: float = Field(default=1.5, ge=0.5, le=6.0)
    """Grid spacing of the last level of registration."""


class ResultsSection(_Section):
    manufacturer: str = "VoxelPrompt Node project"
    device_serial_number: str = "0"
    institution: str = ""
    segmentation_series_number: int = 9001
    report_series_number: int = 9002
    derived_series_number: int = 9100
    page_series_number: int = 9200
    """Of pictures and PDF, where a destination takes them."""
    report_without_volume: Literal["asked", "always", "never"] = "asked"
    """Whether a run that found no volume leaves a report: `asked` only where a person asked for it."""


class Config(_Section):
    node: NodeSection = NodeSection()
    dicom: DicomSection = DicomSection()
    peers: tuple[Peer, ...] = ()
    web_destinations: tuple[WebDestination, ...] = ()
    folder_destinations: tuple[FolderDestination, ...] = ()
    tls: TlsSection = TlsSection()
    completeness: CompletenessSection = CompletenessSection()
    database: DatabaseSection = DatabaseSection()
    compute: ComputeSection = ComputeSection()
    workflow: WorkflowSection = WorkflowSection()
    delivery: DeliverySection = DeliverySection()
    priors: PriorsSection = PriorsSection()
    prior_sources: tuple[PriorSource, ...] = ()
    alignment: AlignmentSection = AlignmentSection()
    results: ResultsSection = ResultsSection()

    @model_validator(mode="after")
    def _names_are_consistent(self) -> Config:
        names = [peer.name for peer in self.peers]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"two peers have the name {repeated[0]!r}: give each its own")
        if "sender" in names:
            raise ValueError("a peer must not be named 'sender': that word means whoever sent the study")
        others = [item.name for item in (*self.web_destinations, *self.folder_destinations)]
        if len({*names, *others, "sender"}) < len(names) + len(others) + 1:
            raise ValueError("two destinations have the same name: give each its own, and none 'sender'")
        for destination in self.delivery.default_destinations:
            if destination != "sender" and destination not in (*names, *others):
                raise ValueError(f"delivery.default_destinations names {destination!r}, which is no peer or folder")
        for rule in self.delivery.rules:
            for destination in rule.destinations:
                if destination != "sender" and destination not in (*names, *others):
                    raise ValueError(f"a rule under [[delivery.rules]] names {destination!r}, which is no destination")
        sources = [source.name for source in self.prior_sources]
        if len(set(sources)) < len(sources):
            raise ValueError("two prior sources have the same name: give each its own")
        if self.priors.source and self.priors.source not in sources:
            raise ValueError(f"priors.source names {self.priors.source!r}, which is none of the [[prior_sources]]")
        for source in self.prior_sources:
            if source.peer and source.peer != "sender" and source.peer not in names:
                raise ValueError(f"the prior source {source.name!r} names the peer {source.peer!r}, which is none")
        if self.completeness.force_seconds < self.completeness.study_quiet_seconds:
            raise ValueError("completeness.force_seconds is shorter than completeness.study_quiet_seconds")
        return self

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{(self.node.data_folder / 'node.sqlite').resolve()}"

    @property
    def workflow_database_url(self) -> str:
        if self.database.workflow_url:
            return self.database.workflow_url
        if self.database.url and not self.database.url.startswith("sqlite"):
            return self.database.url
        return f"sqlite:///{(self.node.data_folder / 'workflows.sqlite').resolve()}"

    def prior_source(self, name: str) -> PriorSource:
        """Raises KeyError when no source has the name."""
        for source in self.prior_sources:
            if source.name == name:
                return source
        names = [source.name for source in self.prior_sources]
        raise KeyError(f"No prior source is named {name!r}; the configuration has {names}.")

    def peer(self, name: str) -> Peer:
        """Raises KeyError when no peer has the name."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        raise KeyError(f"No peer is named {name!r}; the configuration has {[peer.name for peer in self.peers]}.")


_LISTED: dict[str | int, type[_Section]] = {
    "peers": Peer,
    "prior_sources": PriorSource,
    "web_destinations": WebDestination,
    "folder_destinations": FolderDestination,
    "rules": DeliveryRule,
}


def load_config(path: Path) -> Config:
    """Reads and validates a configuration file.

    Relative paths in it are taken relative to the file.

    Raises:
        ConfigError: the file is missing, is no TOML, or a key or value is wrong; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). `vp-node init` writes one.") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(path, text, item) for item in error.errors())) from error
    return _with_absolute_paths(config, path.resolve().parent)


def _with_absolute_paths(config: Config, base: Path) -> Config:
    node = config.node.model_copy(update={"data_folder": base / config.node.data_folder})
    compute = config.compute
    if compute.checkpoint is not None:
        compute = compute.model_copy(update={"checkpoint": base / compute.checkpoint})
    return config.model_copy(
        update={
            "node": node,
            "compute": compute,
            "tls": _absolute(config.tls, base),
            "web_destinations": tuple(_absolute(item, base) for item in config.web_destinations),
            "folder_destinations": tuple(_absolute(item, base) for item in config.folder_destinations),
        }
    )


def _absolute(section: _SectionT, base: Path) -> _SectionT:
    """The section with its relative paths taken relative to `base`."""
    return section.model_copy(update={name: base / value for name, value in section if isinstance(value, Path)})


def _describe(path: Path, text: str, error: Any) -> str:
    location = tuple(error["loc"])
    key = ".".join(str(part) for part in location)
    place = f"{path}:{_line_of(text, location)}" if location else str(path)
    if error["type"] == "extra_forbidden":
        return f"{place}: {key} is no setting.{_suggestion(location)}"
    if error["type"] == "missing":
        return f"{place}: {key} is missing."
    message = error["msg"].removeprefix("Value error, ")
    return f"{place}: {key}: {message} (it is {error['input']!r})." if location else f"{place}: {message}."


def _suggestion(location: tuple[str | int, ...]) -> str:
    model: Any = Config
    for part in location[:-1]:
        if isinstance(part, str):
            model = _LISTED.get(part) or model.model_fields[part].annotation
    close = get_close_matches(str(location[-1]), list(model.model_fields), n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known here: {', '.join(model.model_fields)}."


def _line_of(text: str, location: tuple[str | int, ...]) -> int:
    """1-based line of the key at `location`, or of its table where the key itself is not written."""
    names = [part for part in location if isinstance(part, str)]
    item = next((part for part in location if isinstance(part, int)), 0)
    table: list[str] = []
    seen: dict[str, int] = {}
    best = 1
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?\s*([\w.\-]+)\s*\]\]?", line)
        if header:
            name = header.group(1)
            table = name.split(".")
            if line.lstrip().startswith("[["):
                seen[name] = seen.get(name, -1) + 1
            if table == names[: len(table)] and seen.get(name, item) == item:
                best = number
            continue
        key = re.match(r"\s*([\w\-]+)\s*=", line)
        if key and [*table, key.group(1)] == names[: len(table) + 1] and seen.get(".".join(table), item) == item:
            return number
    return best
