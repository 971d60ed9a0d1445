"""Reports of parties that are no events of a run: pre-flight checks, and the tables of party.toml."""

from __future__ import annotations

#: Kind of these reports in a party's stream.
PREFLIGHT = "preflight"
#: How long a request is wanted, in seconds, and for how much of that time a worker may take it. After that the control
#: plane has given up on this party, and its peers no longer wait.
WANTED_SECONDS, TAKE_WITHIN = 20, 10


#: Kind of these reports in a party's stream.
DATASETS = "datasets"
#: How much of an error's text the control plane stores, in characters.
PROBLEM_LENGTH = 500
#: How many datasets of a party the control plane keeps.
MOST_DATASETS = 1000
#: Verdicts of a coordinator on a table.
REGISTERED, AS_REGISTERED, DIFFERS, REFUSED = "registered", "as registered", "differs", "refused"

#: Kind of these reports in a party's stream: what people at the party decided about what would run there.
APPROVAL = "approval"
#: How long a person's name and reason may be, in characters.
NAME_LENGTH, REASON_LENGTH = 100, 500
#: Executions that a decision is told of at once.
MOST_EXECUTIONS = 1000
#: A coordinator's verdicts on a decision.
WENT_ON, NONE_WAITED = "noted", "nothing waits for it"

#: Kind of these reports in a party's stream: jobs that its worker refused to begin.
REFUSAL = "refusal"

#: Kind of these reports in a party's stream: names of outputs, of which a host asks which are still named.
OUTPUTS = "outputs"
#: A coordinator's verdicts on an output.
NAMED, UNNAMED = "named", "named by nothing"
