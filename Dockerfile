# docker build -t action-clip .
# docker run --rm --network none -v "$PWD:/videos:ro" action-clip --model nano --video clip.mp4 --text eating --text running
FROM python:3.13-slim AS build
COPY . /source
RUN python -m venv /opt/action-clip && /opt/action-clip/bin/pip install --no-cache-dir /source

FROM python:3.13-slim
# What OpenCV needs to draw the picture of --save.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 libxcb1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home user \
    && install --directory --owner=user /models /videos
COPY --from=build /opt/action-clip /opt/action-clip
# A volume that is mounted here keeps the models that are downloaded, and what is known of labels.
ENV ACTION_CLIP_HOME=/models PATH=/opt/action-clip/bin:$PATH
USER user
WORKDIR /videos
ENTRYPOINT ["action-clip"]
# Without arguments: the sample, with the model that needs no network.
CMD ["--model", "nano"]
