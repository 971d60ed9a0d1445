"""The REST API of what is run."""
