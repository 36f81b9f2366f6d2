"""Sessions of people beside the tokens of programs"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "tokens",
        sa.Column(
            "is_session",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Of a person who logged in; forgotten after its end.",
        ),
        schema="frb_intake",
    )
    op.add_column(
        "tokens",
        sa.Column(
            "nonce_digest",
            sa.LargeBinary(),
            nullable=True,
            comment="sha256 of what the identity token was for: it opens one.",
        ),
        schema="frb_intake",
    )
    op.create_unique_constraint(op.f("uq_tokens_nonce_digest"), "tokens", ["nonce_digest"], schema="frb_intake")
    op.create_table_comment(
        "tokens",
        "Tokens for programs, shown once, when made; and of people who logged in.",
        existing_comment="Tokens for programs; shown once, when made.",
        schema="frb_intake",
    )
    op.alter_column(
        "users",
        "password_hash",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment="argon2id; empty: no password opens the account.",
        existing_comment="argon2id.",
        schema="frb_intake",
    )
