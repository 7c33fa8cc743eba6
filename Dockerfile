# The product alone: measure, live and demo, without torch and without the laboratory.
#
#     docker build -t autohr .
#     docker run --rm -v "$PWD:/data:ro" autohr measure face.mp4
#
# A camera needs `--device /dev/video0`. Results on stdout (--json -), or in a folder that is mounted for writing.
FROM python:3.11-slim

COPY . /src
# constraints.txt holds the versions that the tests ran with.
RUN pip install --no-cache-dir --no-compile -c /src/constraints.txt /src && rm -rf /src \
    && useradd --create-home --uid 1000 autohr

USER autohr
WORKDIR /data
ENTRYPOINT ["autohr"]
CMD ["--help"]
