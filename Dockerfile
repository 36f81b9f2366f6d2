# One image per service: `docker build --build-arg SERVICE=skymap_parser .`
# The argument picks the extra of that name in pyproject.toml, so that an image carries what its service needs and no more.

FROM python:3.11-slim-bookworm AS build
ARG SERVICE
# The version that requirements.lock names; tests/k8s keeps the two equal.
ARG UV_VERSION=0.13.8
WORKDIR /src
RUN pip install --no-cache-dir "uv==${UV_VERSION}" && uv venv /opt/tocsin
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY cli cli
COPY schemas schemas
COPY services services
COPY shared shared
# As constraints the lock fixes versions and verifies hashes of just those packages that the service needs.
RUN : "${SERVICE:?name a service, such as --build-arg SERVICE=gw_listener}" \
    && VIRTUAL_ENV=/opt/tocsin uv pip install --no-cache --constraint requirements.lock ".[${SERVICE},s3]"

FROM python:3.11-slim-bookworm
ARG SERVICE
RUN useradd --uid 10001 --create-home tocsin \
    && install --directory --owner=tocsin /var/lib/tocsin/blobs
COPY --from=build /opt/tocsin /opt/tocsin
# The root file system may be read-only: what libraries want to cache goes to /tmp.
ENV PATH=/opt/tocsin/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    SERVICE=${SERVICE} \
    TOCSIN_HTTP__HOST=0.0.0.0 \
    TOCSIN_HTTP__PORT=8080 \
    TOCSIN_BLOBS__URL=/var/lib/tocsin/blobs
USER 10001
WORKDIR /home/tocsin
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"TOCSIN_HTTP__PORT\"]}/healthz', timeout=2)"]
CMD ["sh", "-c", "exec python -m services.${SERVICE}"]
