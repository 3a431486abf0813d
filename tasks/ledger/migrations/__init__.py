"""The schema's history, run in-process on either database: no alembic.ini, no shell."""
