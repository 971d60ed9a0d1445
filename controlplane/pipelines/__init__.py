"""Pipelines and schedules: what waits for what, the drawing, and the next times."""
