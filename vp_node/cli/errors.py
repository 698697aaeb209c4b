"""How commands end that cannot do what was asked: one sentence on standard error, and an exit code for scripts."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

OK = 0
FAILURE = 1
"""It was tried and did not succeed, or what was looked at is not well."""
USAGE = 2
"""The command line, the configuration or a file is not written as it must be."""
REFUSED = 3
"""What is named is not there, or is in a state that forbids what was asked."""

TRACEBACK_VARIABLE = "VP_NODE_TRACEBACK"
"""Set to anything: an error of the program itself shows its trace, which may quote data."""

EXPECTED = {
    "vp_node.config.ConfigError": USAGE,
    "vp_node.prompts.errors.PromptError": USAGE,
    "vp_node.prompts.errors.PromptConflict": REFUSED,
    "vp_node.prompts.errors.UnknownPrompt": REFUSED,
    "vp_node.runs.planning.PlanningError": REFUSED,
    "vp_node.runs.control.RunControlError": REFUSED,
    "vp_node.service.ServiceError": FAILURE,
    "vp_node.compute.failure.ComputeFailure": FAILURE,
    "vp_node.results.drawing.DrawingError": FAILURE,
    "vp_node.runs.states.RunFailure": FAILURE,
    "vp_model.checkpoint.CheckpointError": FAILURE,
}
"""By qualified name, so that showing help imports none of them. Their messages are written for people."""


class CommandError(Exception):
    """The command cannot do what was asked; the message says why and what to do."""

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code


class NodeGroup(TyperGroup):
    """The group of all commands: the one place where errors become words."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            # The reader (`| head`) has seen enough; nothing more must be written, at the interpreter's end neither.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(OK) from None
        except Exception as error:
            # Wrong use is told by click itself, which typer brings along under a name of its own.
            if hasattr(error, "format_message") or os.environ.get(TRACEBACK_VARIABLE):
                raise
            message, code = explain(error)
            typer.echo(message, err=True)
            raise typer.Exit(code) from None


def explain(error: Exception) -> tuple[str, int]:
    """What to tell a person of an error, and the exit code.

    The text of an unexpected error is withheld: it may quote a row or a data set.
    """
    if isinstance(error, CommandError):
        return str(error), error.code
    for kind in type(error).__mro__:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in EXPECTED:
            return str(error), EXPECTED[name]
        if name == "sqlalchemy.exc.OperationalError":
            return f"The database cannot be used: {getattr(error, 'orig', None)}. See database.url.", FAILURE
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}.", FAILURE
    from vp_node.compute.failure import place_of

    return (
        f"An error of the program itself: {type(error).__name__} in {place_of(error)}. "
        f"Set {TRACEBACK_VARIABLE}=1 to see its trace.",
        FAILURE,
    )
