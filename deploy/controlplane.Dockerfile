# The web server or, with another command, the coordinator. From the project's root:
# docker build -f deploy/controlplane.Dockerfile -t controlplane .
FROM python:3.12-slim
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /usr/local/bin/uv
WORKDIR /opt/controlplane
COPY pyproject.toml uv.lock ./
# The lock file names it, though nothing here installs it
COPY client/pyproject.toml client/
RUN uv sync --locked --no-dev --compile-bytecode --python /usr/local/bin/python
COPY . .
RUN useradd --system --uid 10001 controlplane && mkdir -p /var/lib/controlplane && chown controlplane /var/lib/controlplane
USER 10001
ENV PATH=/opt/controlplane/.venv/bin:$PATH CONTROLPLANE_STATE_DIR=/var/lib/controlplane CONTROLPLANE_LOG_FORMAT=json
EXPOSE 8000
CMD ["gunicorn", "controlplane.asgi:application", "--worker-class", "asgi", "--no-control-socket", "--bind", "0.0.0.0:8000"]
