"""Alembic's entry point for every service; `shared.db.migrations` says which one and hands the connection in."""

from alembic import context

config = context.config
schema = config.attributes["schema"]

context.configure(
    connection=config.attributes["connection"],
    target_metadata=config.attributes["metadata"],
    version_table_schema=schema,
    include_schemas=True,
    include_name=lambda name, kind, _: kind != "schema" or name == schema,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
