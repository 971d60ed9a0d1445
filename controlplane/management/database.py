"""What is wrong with the database, for whoever starts a command."""

from __future__ import annotations

#: Words of libpq's, and what they mean here.
_REMEDIES = {
    "certificate verify failed": "the server's certificate is not of a CA that sslrootcert in DATABASE_URL holds",
    "does not match host name": "the server's certificate is for another host name; write into DATABASE_URL the name "
    "that the certificate has",
    "does not support SSL": "the server has no TLS, which sslmode in DATABASE_URL asks for; switch it on there",
    "certificate required": "the server wants a certificate of this host; add its files to DATABASE_URL: "
    "&sslcert=/path/to/host.pem&sslkey=/path/to/host.key",
}


def database_trouble(error: BaseException) -> str:
    """Return what is wrong with the database, in words, and what to do if it cannot be reached."""
    if not is_unreachable(error):
        return f"database: {type(error).__name__}"
    # libpq tells host, port, database and user, and no password
    told = " ".join(str(error).split())
    for words, remedy in _REMEDIES.items():
        if words in told:
            return f"The database cannot be reached: {remedy} ({told})"
    return f"The database cannot be reached; check DATABASE_URL and that the server runs ({told})"


def is_unreachable(error: BaseException) -> bool:
    """Return whether no connection was made: psycopg then has no answer of the server's."""
    cause = error.__cause__
    return type(cause).__module__.startswith("psycopg") and getattr(cause, "sqlstate", "") is None
