"""Who lined up the rows of tables, and whether those of several parties go together."""

from __future__ import annotations

from collections.abc import Mapping

#: Before an alignment that party.toml declares, as distinct from one that a run made.
DECLARED = "declared:"
#: Before the execution that made a table which somebody changed since: nobody knows its order now.
ALTERED = "altered:"
#: What to do about tables that do not line up.
LINE_UP = (
    "run a PSI on the tables first and use its outputs, or, where you know that the tables have the same rows in the "
    'same order, give each the same alignment = "NAME" in its party.toml'
)


def misaligned(alignments: Mapping[str, str | None], rows: Mapping[str, int]) -> str:
    """Return why these parties' tables do not line up, by their alignments; empty where they do.

    ``rows``: how many there are, as far as that is known.
    """
    unsaid = f"nothing says that the rows of {' and '.join(alignments)} line up: "
    altered = {p: found.removeprefix(ALTERED) for p, found in alignments.items() if found and found.startswith(ALTERED)}
    if altered and len(alignments) > 1:
        said = ", and ".join(
            f"{p}'s table was changed since execution {made_by} made it" for p, made_by in altered.items()
        )
        return f"{unsaid}{said}; restore the file as it was, or run that execution again; otherwise {LINE_UP}"
    if len(set(rows.values())) > 1:
        said = ", ".join(f"{party} has {count}" for party, count in rows.items())
        return f"the parties' rows do not line up: {said}; {LINE_UP}"
    if len(alignments) < 2 or (len(set(alignments.values())) == 1 and None not in alignments.values()):
        return ""
    if unknown := [party for party, found in alignments.items() if found is None]:
        whose = f"{' and '.join(unknown)}'s table{'s' if len(unknown) > 1 else ''}"
        return f"{unsaid}the order of {whose} is unknown; {LINE_UP}"
    said = ", ".join(
        f"{party}'s is declared in its party.toml ({found.removeprefix(DECLARED)})"
        if found.startswith(DECLARED)
        else f"{party}'s is that of execution {found}"
        for party, found in alignments.items()
        if found
    )
    return f"the parties' rows do not line up, as their tables have unlike orders: {said}; {LINE_UP}"
