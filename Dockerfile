# The product, without torch and without the laboratory: measure, live and demo.
#
#     docker build -t autohr .
#     docker run --rm -v "$PWD:/data:ro" autohr measure face.mp4
#
# A camera needs `--device /dev/video0`. Results on stdout (--json -), or in a folder that is mounted for writing.
#
# The target `serve` is the local page and its interface; compose.yaml runs it.
#
#     docker build -t autohr-serve --target serve .
FROM python:3.11-slim AS base

COPY . /src
RUN useradd --create-home --uid 1000 autohr
WORKDIR /data

FROM base AS serve

# constraints.txt holds the versions that the tests ran with.
RUN pip install --no-cache-dir --no-compile -c /src/constraints.txt "/src[serve]"
USER autohr
EXPOSE 8000
# 401 is an answer too, where AUTOHR_TOKEN is not set and a token was made.
HEALTHCHECK --start-period=20s CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=5); c.request('GET', '/health'); assert c.getresponse().status in (200, 401)"]
ENTRYPOINT ["autohr"]
CMD ["serve", "--host", "0.0.0.0"]

FROM base AS measure

RUN pip install --no-cache-dir --no-compile -c /src/constraints.txt /src
USER autohr
ENTRYPOINT ["autohr"]
CMD ["--help"]
