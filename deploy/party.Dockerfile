# A party's worker. From the project's root: docker build -f deploy/party.Dockerfile -t party .
# Mount party.toml and the tables, set REDIS_URL and PARTY_TOML, and give the party as the command's last word.
FROM python:3.10-slim
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /usr/local/bin/uv
WORKDIR /opt/controlplane
COPY pyproject.toml uv.lock ./
# The lock file names it, though nothing here installs it
COPY client/pyproject.toml client/
RUN uv sync --locked --no-dev --compile-bytecode --extra party --python /usr/local/bin/python
COPY . .
RUN useradd --system --uid 10001 --create-home secretflow
USER 10001
ENV PATH=/opt/controlplane/.venv/bin:$PATH
ENTRYPOINT ["python", "manage.py", "rqworker"]
