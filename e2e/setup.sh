#!/usr/bin/env bash
# Installs what the end-to-end tests drive, where it is missing: Debian's
# Chromium, nginx, curl and strace, and the npm clients of package-lock.json.
set -euo pipefail
cd "$(dirname "$0")"

installed() { dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

missing=()
for package in chromium fonts-dejavu-core nginx curl strace; do
  installed "$package" || missing+=("$package")
done
if ((${#missing[@]})); then
  command -v apt-get >/dev/null || { echo "These are missing, and there is no apt-get: ${missing[*]}" >&2; exit 1; }
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
fi

# npm writes this file last: it is newer than the lock file once all is there.
if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
  npm ci --no-audit --no-fund
fi
