# The offline AI of Compose's profile "offline": an OpenAI-compatible server with PocketSphinx, of demo quality. The context is the root of
# the repository:
#
#   docker build -f deploy/docker/offline.Dockerfile -t convoflow/offline-ai .

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
ARG TARGETOS=linux TARGETARCH=amd64
ENV GOWORK=off CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH}
WORKDIR /src
COPY api api
COPY libs libs
COPY gateway gateway
COPY services services
COPY platform platform
ARG VERSION=0.0.0-dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -C platform -trimpath \
    -ldflags "-s -w -X github.com/convoflow/convoflow/libs/run.version=${VERSION}" \
    -o "$PWD/app" ./cmd/offline-ai

FROM debian:12.12-slim AS service
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
