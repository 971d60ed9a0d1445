"""Who lined up the rows of tables, and whether those of several parties go together."""

from __future__ import annotations

from collections.abc import Mapping

#: Prefix of an alignment that party.toml declares, as distinct from one that a run made.
DECLARED = "declared:"
#: Prefix of the alignment of an output whose file has changed since it was made: its order is not known.
CHANGED = "changed:"
#: Remedy for tables that do not line up.
LINE_UP = (
    "run a PSI on the tables first and use its outputs, or, where you know that the tables have the same rows in the "
    'same order, give each the same alignment = "NAME" in its party.toml'
)


def misaligned(alignments: Mapping[str, str | None], rows: Mapping[str, int] | None = None) -> str:
    """Return why the parties' tables do not line up, going by their alignments; empty if they do. ``rows``: the number
    of rows of each party, if known.
    """
    changed = {p: found.removeprefix(CHANGED) for p, found in alignments.items() if found and found.startswith(CHANGED)}
    unlike = rows if rows and len(set(rows.values())) > 1 else {}
    if unlike and not changed:
        said = ", ".join(f"{party} has {count}" for party, count in unlike.items())
        found = set(alignments.values())
        declared = found.pop() if len(found) == 1 else None
        if declared and declared.startswith(DECLARED):
            name = declared.removeprefix(DECLARED)
            remedy = f"each declares the alignment {name!r} in its party.toml: correct a table, or the declaration"
        else:
            remedy = LINE_UP
        return f"the parties' rows do not line up: {said}; {remedy}"
    unknown = [party for party, found in alignments.items() if found is None]
    if len(alignments) < 2 or (len(set(alignments.values())) == 1 and not unknown and not changed):
        return ""
    if unknown or changed:
        why = [
            f"the file of {party}'s table was changed since execution {execution} made it"
            for party, execution in changed.items()
        ]
        if unknown:
            why.append(f"the order of {' and '.join(unknown)}'s table{'s' if len(unknown) > 1 else ''} is unknown")
        remedy = "put the file back as it was, or run what made it again, or " if changed else ""
        return (
            f"nothing says that the rows of {' and '.join(alignments)} line up: {', and '.join(why)}; {remedy}{LINE_UP}"
        )
    said = ", ".join(
        f"{party}'s is declared in its party.toml ({found.removeprefix(DECLARED)})"
        if found.startswith(DECLARED)
        else f"{party}'s is that of execution {found}"
        for party, found in alignments.items()
        if found
    )
    return f"the parties' rows do not line up, as their tables have unlike orders: {said}; {LINE_UP}"
