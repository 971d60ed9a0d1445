"""The commands of a party's host, which has no database and no pages: only its party.toml and Redis."""

#: manage.py runs them with the settings of this package.
COMMANDS = ("rqworker", "party", "publish_datasets")
