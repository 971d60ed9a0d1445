"""The Django project, and the configuration that an operator writes."""
