"""Alembic revisions of the tables in `vp_node.database.models`."""
