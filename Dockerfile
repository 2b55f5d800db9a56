# Workers, sink and tools in one image; docker-compose.yml gives each its command.
FROM python:3.12-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /venv
COPY locks/runtime.lock locks/runtime.lock
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r locks/runtime.lock

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --create-home sluicegate
WORKDIR /app
COPY --from=build /venv /venv
COPY sluicegate sluicegate
COPY schemas/sluicegate_schemas sluicegate_schemas
COPY streams streams
COPY clickhouse clickhouse
COPY webhooks webhooks
COPY api api
COPY catalogue catalogue
COPY deploy/kafka/acls.tsv deploy/kafka/acls.tsv
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1
USER sluicegate
CMD ["faust", "-A", "streams.app", "worker", "--loglevel", "info"]
