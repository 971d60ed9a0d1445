"""An environment in one YAML file."""
