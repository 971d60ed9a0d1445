"""The audit trail: what is noted, and how a change to it is found."""
