"""Earlier studies as priors, and corrections of volumes."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from vp_node.database.models import UtcDateTime

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "volume_rules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_volume_rules")),
        sa.UniqueConstraint("name", name=op.f("uq_volume_rules_name")),
    )
    op.create_table(
        "prior_fetches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("requested_as", sa.String(length=16), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prior_fetches")),
        sa.UniqueConstraint("run_id", "study_instance_uid", name=op.f("uq_prior_fetches_run_id_study_instance_uid")),
    )
    with op.batch_alter_table("prior_fetches", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_prior_fetches_study_instance_uid"), ["study_instance_uid"], unique=False)
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("priors", sa.JSON(), server_default="{}", nullable=False))
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("understood_revision", sa.Integer(), server_default="0", nullable=False))
    # What was closed and understood before stays so.
    op.execute(
        "UPDATE studies SET understood_revision = revision WHERE EXISTS (SELECT 1 FROM volumes WHERE "
        "volumes.study_id = studies.id AND volumes.revision = studies.revision) OR EXISTS (SELECT 1 FROM set_aside "
        "WHERE set_aside.study_id = studies.id AND set_aside.revision = studies.revision)"
    )


def downgrade() -> None:
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.drop_column("understood_revision")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("priors")
    op.drop_table("prior_fetches")
    op.drop_table("volume_rules")
