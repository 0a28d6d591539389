#!/bin/sh
# Installs the official SDKs into DIR, unless they are there already, and runs both scripts.
# Prints one line of JSON for each, Python's first.
# Environment: INFISICAL_URL, INFISICAL_CLIENT_ID, INFISICAL_CLIENT_SECRET, INFISICAL_PROJECT_ID,
# and INFISICAL_CLOSED_PROJECT_ID, a project that the identity is no member of.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
dir=${1:?usage: run.sh DIR}
mkdir -p "$dir"
dir=$(CDPATH='' cd -- "$dir" && pwd)

# Installed means that this very list was installed to the end.
installed() {
    cmp -s "$1" "$2" 2>/dev/null
}

if ! installed "$here/requirements.txt" "$dir/requirements.installed"; then
    python3 -m venv --clear "$dir/venv" >&2
    "$dir/venv/bin/pip" install --quiet --no-deps --requirement "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$dir/requirements.installed"
fi
if ! installed "$here/package-lock.json" "$dir/package-lock.installed"; then
    cp "$here/package.json" "$here/package-lock.json" "$dir/"
    npm ci --prefix "$dir" --no-audit --no-fund --loglevel=error >&2
    cp "$here/package-lock.json" "$dir/package-lock.installed"
fi

"$dir/venv/bin/python" "$here/python_sdk.py"
# Node looks for packages beside the script, so the script goes where they are.
cp "$here/node_sdk.mjs" "$dir/node_sdk.mjs"
node "$dir/node_sdk.mjs"
