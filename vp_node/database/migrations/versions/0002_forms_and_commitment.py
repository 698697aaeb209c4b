"""Forms of segmentations, and storage commitment of deliveries."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from vp_node.database.models import UtcDateTime

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    with op.batch_alter_table("results", schema=None) as batch_op:
        batch_op.add_column(sa.Column("form", sa.String(length=16), nullable=False, server_default=""))
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("transaction_uid", sa.String(length=64), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("commitment_due_at", UtcDateTime(), nullable=True))
        batch_op.add_column(sa.Column("commitment_attempts", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("committed_at", UtcDateTime(), nullable=True))
        batch_op.create_index(batch_op.f("ix_deliveries_transaction_uid"), ["transaction_uid"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_deliveries_transaction_uid"))
        batch_op.drop_column("committed_at")
        batch_op.drop_column("commitment_attempts")
        batch_op.drop_column("commitment_due_at")
        batch_op.drop_column("transaction_uid")
    with op.batch_alter_table("results", schema=None) as batch_op:
        batch_op.drop_column("form")
