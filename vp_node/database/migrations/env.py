"""Alembic's entry: runs the revisions on the connection that `vp_node.database.engine.upgrade` passes in."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from vp_node.database.models import Base, UtcDateTime


def render_item(kind: str, item: Any, autogenerate: AutogenContext) -> str | Literal[False]:
    """Writes the project's own column type with its import into a new revision."""
    if kind == "type" and isinstance(item, UtcDateTime):
        autogenerate.imports.add("from vp_node.database.models import UtcDateTime")
        return "UtcDateTime()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()
