"""What is said of a Redis that cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.contract.connection import connect, trouble


@pytest.mark.parametrize("how", ["missing", "no socket"])
def test_a_socket_that_is_not_there_is_no_matter_of_tls(tmp_path: Path, how: str) -> None:
    path = tmp_path / "redis.sock"
    if how == "no socket":
        path.write_text("")
    with pytest.raises(RedisConnectionError) as caught:
        connect(f"unix://{path}?db=0").ping()
    said = trouble(caught.value)
    assert "TLS" not in said
    assert "check REDIS_URL" in said
