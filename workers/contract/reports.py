"""What a party reports that is no event of a run: pre-flight checks, and the tables of its party.toml."""

from __future__ import annotations

#: Kind of these reports in a party's stream.
PREFLIGHT = "preflight"
#: How long a request is wanted, in seconds; and for how much of that a worker may take it: then the control plane has
#: given up on this party, and its peers have gone home.
WANTED_SECONDS, TAKE_WITHIN = 20, 10


#: Kind of these reports in a party's stream.
DATASETS = "datasets"
#: What the control plane takes of an error's text, in characters.
PROBLEM_LENGTH = 500
#: How many datasets of a party the control plane keeps.
MOST_DATASETS = 1000
#: What a coordinator answers for a table.
REGISTERED, AS_REGISTERED, DIFFERS, REFUSED = "registered", "as registered", "differs", "refused"
