# mkmed as a container: the program alone, no data. compose.yaml puts a PostgreSQL beside it.
FROM python:3.11-slim-bookworm AS build
COPY pyproject.toml constraints.txt README.md LICENSE cli.py /source/
COPY kb /source/kb
COPY embed /source/embed
COPY recsys /source/recsys
COPY migrations /source/migrations
COPY mkmed /source/mkmed
# the CPU build of torch: a GPU does not pay for answers, and the CUDA build is three times as large
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/mkmed \
    && /opt/mkmed/bin/pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c /source/constraints.txt \
       "/source[pretrained,serve]"

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/mkmed --create-home mkmed
COPY --from=build /opt/mkmed /opt/mkmed
ENV PATH=/opt/mkmed/bin:$PATH MKMED_HOME=/var/lib/mkmed PYTHONUNBUFFERED=1
USER mkmed
VOLUME /var/lib/mkmed
EXPOSE 8099
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8099/healthz', timeout=4)"]
ENTRYPOINT ["mkmed"]
CMD ["serve", "--host", "0.0.0.0"]
