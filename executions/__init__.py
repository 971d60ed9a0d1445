"""What was run: executions, their coordinator, admin and API."""
