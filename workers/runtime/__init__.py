"""The processes of a worker, and what each does for a job (docs/architecture.md)."""
