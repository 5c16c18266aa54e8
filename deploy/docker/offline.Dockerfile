# The offline AI of Compose's profile "offline": an OpenAI-compatible server with PocketSphinx, of demo quality. The context is the root of
# the repository:
#
#   docker build -f deploy/docker/offline.Dockerfile -t convoflow/offline-ai .

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm@sha256:a688600ca24f8a4d3ca77f95b0dd40704a9fc787c826660eb7ba0b641b8b175d AS build
ARG TARGETOS=linux TARGETARCH=amd64
ENV GOWORK=off CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH}
WORKDIR /src
COPY api api
COPY libs libs
COPY console console
COPY gateway gateway
COPY services services
COPY platform platform
ARG VERSION=0.0.0-dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -C platform -trimpath -tags nogcs,noazure,grpcnotrace \
    -ldflags "-s -w -X github.com/convoflow/convoflow/libs/run.version=${VERSION}" \
    -o "$PWD/app" ./cmd/offline-ai

FROM debian:12.12-slim@sha256:d5d3f9c23164ea16f31852f95bd5959aad1c5e854332fe00f7b3a20fcc9f635c AS service
ARG VERSION=0.0.0-dev REVISION=unknown
RUN apt-get update \
    && apt-get install -y --no-install-recommends ffmpeg pocketsphinx pocketsphinx-en-us \
    && rm -rf /var/lib/apt/lists/*
LABEL org.opencontainers.image.title="convoflow/offline-ai" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/convoflow/convoflow" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/app /app
USER 65532:65532
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["/app", "health"]
ENTRYPOINT ["/app"]
