#!/usr/bin/env bash
# Builds the Dockerfile and runs its image where there is no Docker engine and no
# image registry: buildah and podman of Debian, with stand-ins for the two base
# images made of what this machine has. It checks the Dockerfile, not the bases:
# the real golang:1.26 is a Debian with a shell of its own. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

image=localhost/millstream:check
store=${IMAGE_CHECK_STORE:-/var/tmp/millstream-image-check} # apart from the user's images, kept for its caches
work=$(mktemp -d)
started=()

cleanup() {
  for name in "${started[@]}"; do podman_ rm -f "$name" >/dev/null 2>&1 || true; done
  podman_ volume rm -f millstream-check >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'image-check: %s\n' "$*" >&2; exit 1; }
podman_() { podman --root "$store/root" --runroot "$store/run" --runtime "$(command -v runc)" "$@"; }
buildah_() { buildah --root "$store/root" --runroot "$store/run" "$@"; }

# expect NAME WANT GOT
expect() {
  [[ $2 == "$3" ]] || fail "$1 is '$3', not '$2'"
  printf 'ok: %s is %s\n' "$1" "$3"
}

install_tools() {
  local package missing=()
  for package in buildah podman runc busybox-static ca-certificates curl; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

# The Go toolchain is static: with a shell beside it, it builds.
import_golang() {
  local root=$work/golang
  mkdir -p "$root"/{bin,etc/ssl/certs,tmp,usr/local,root,go}
  cp /bin/busybox "$root/bin/busybox"
  "$root/bin/busybox" --install -s "$root/bin"
  for link in "$root"/bin/*; do [[ -L $link ]] && ln -sfn /bin/busybox "$link"; done
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp -a "$(go env GOROOT)" "$root/usr/local/go"
  tar -C "$root" -cf - . | podman_ import -q \
    -c 'ENV PATH=/usr/local/go/bin:/go/bin:/bin' -c 'ENV GOTOOLCHAIN=local' -c 'ENV GOPATH=/go' -c 'WORKDIR /go' \
    -c "ENV GOPROXY=$(go env GOPROXY)" -c "ENV GOSUMDB=$(go env GOSUMDB)" \
    - docker.io/library/golang:1.26
}

# What distroless has: certificates, a user, and nothing to run.
import_distroless() {
  local root=$work/distroless
  mkdir -p "$root"/{etc/ssl/certs,tmp,home/nonroot}
  chmod 1777 "$root/tmp"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >"$root/etc/passwd"
  tar -C "$root" -cf - . | podman_ import -q \
    -c 'USER 65532' -c 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
    - gcr.io/distroless/static:nonroot
}

field() { buildah_ inspect --type image --format "$1" "$image"; }

# No health checks by podman: they need systemd. serves asks for itself.
run() { podman_ run --no-healthcheck --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --log-driver none "$@"; }

# serves runs the image as a user would, and asks it from inside and outside.
serves() {
  local port=$1
  started+=(millstream-check)
  run -d --name millstream-check --network host -e "MILLSTREAM_LISTEN=127.0.0.1:$port" -v millstream-check:/data "$image" >/dev/null
  for _ in $(seq 100); do
    curl -fsS "http://127.0.0.1:$port/readyz" >/dev/null 2>&1 && break
    sleep 0.1
  done
  curl -fsS "http://127.0.0.1:$port/readyz" >/dev/null || fail "it is never ready"
  podman_ exec millstream-check /millstream health || fail "its health check fails"
  expect "its user" 65532 "$(podman_ top millstream-check huser | tail -n 1)"
  podman_ stop -t 40 millstream-check >/dev/null
  expect "its exit code" 0 "$(podman_ inspect --format '{{.State.ExitCode}}' millstream-check)"
}

say "tools"
install_tools
mkdir -p "$store"
say "stand-ins for the base images"
podman_ image exists docker.io/library/golang:1.26 || import_golang
podman_ image exists gcr.io/distroless/static:nonroot || import_distroless
say "build"
buildah_ bud --format docker --isolation chroot --pull-never --network host --build-arg VERSION=check -t "$image" .
say "configuration"
expect "the user" 65532:65532 "$(field '{{.Docker.Config.User}}')"
expect "the entry point" '[/millstream]' "$(field '{{.Docker.Config.Entrypoint}}')"
expect "the command" '[serve]' "$(field '{{.Docker.Config.Cmd}}')"
expect "the health check" '[CMD /millstream health]' "$(field '{{.Docker.Config.Healthcheck.Test}}')"
expect "the volume" 'map[/data:{}]' "$(field '{{.Docker.Config.Volumes}}')"
expect "the port" 'map[8080/tcp:{}]' "$(field '{{.Docker.Config.ExposedPorts}}')"
say "run"
run --rm --network none "$image" version | grep '^millstream check ' || fail "it does not know its version"
serves $((20000 + RANDOM % 10000))
say "the image builds and runs"
