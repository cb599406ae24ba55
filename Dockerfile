# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download
COPY . .
ARG VERSION=dev TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/millstream ./cmd/millstream
# An empty volume takes the owner of the directory it is mounted over.
RUN mkdir /out/data

FROM gcr.io/distroless/static:nonroot
COPY --from=build /out/millstream /millstream
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# By variables, so that arguments and a health check need not repeat them.
ENV MILLSTREAM_LISTEN=0.0.0.0:8080 MILLSTREAM_DATA=/data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/millstream", "health"]
ENTRYPOINT ["/millstream"]
CMD ["serve"]
