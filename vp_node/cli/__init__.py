"""`vp-node`: the command line of the node.

Exit codes: 0 done; 1 it was tried and failed, or what was looked at is not well; 2 the command line, the configuration
or a file is wrong; 3 what is named is not there, or its state forbids it.

Modules of commands import what they work with inside the commands, so that help is there at once.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Annotated

import typer

from vp_node.cli import asking, network, operations, prompts, results, rules, runs, service, setup, studies
from vp_node.cli.errors import NodeGroup

QUOTING_LIBRARIES = ("pydicom", "highdicom", "pynetdicom")
"""Their messages may hold values of a data set, also a patient's."""

app = typer.Typer(
    cls=NodeGroup,
    help="A clinical imaging AI node: DICOM studies in, language-prompted measurements out. For research use only.",
    epilog="Exit codes: 0 done, 1 failed or not well, 2 wrong use or configuration, 3 not there or not allowed now.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def begin(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            envvar="VP_NODE_CONFIG",
            metavar="FILE",
            help="The configuration; by default ./config.toml.",
            show_default=False,
        ),
    ] = None,
) -> None:
    ctx.obj = config
    for name in QUOTING_LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")


for _module in (setup, service, network, studies, rules, prompts, asking, runs, results, operations):
    _module.register(app)


def main() -> None:
    app(prog_name="vp-node")
