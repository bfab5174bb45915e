#!/bin/sh
# Run Python with this project and all that its tests need, in the tree's own .venv; made at the first call.
#   tests/lab/trials/python.sh FILE ARGUMENTS…
# A venv that was made for another pyproject.toml is brought up to date.
set -eu
tree=$(cd "$(dirname "$0")/../../.." && pwd)
venv=$tree/.venv
stamp=$venv/made-for
if ! cmp -s "$tree/pyproject.toml" "$stamp"; then
    say() { printf '%s\n' "$*" >&2; }
    find_python() {
        for name in python3 python3.13 python3.12 python3.11; do
            if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
                echo "$name"
                return
            fi
        done
        return 1
    }
    if ! python=$(find_python); then
        say 'installing python3-venv'
        apt-get -qq update >&2 && apt-get -qq -y install python3-venv >&2
        python=$(find_python) || { say 'Python 3.11 or newer, with venv, is needed'; exit 1; }
    fi
    say "preparing $venv"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
    log=$venv/made.log  # what pip warns of is of interest only when it fails
    if ! (cd "$tree" && pip --upgrade pip && pip -e . --group dev) >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
    cp "$tree/pyproject.toml" "$stamp"
fi
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$tree/tests/lab${PYTHONPATH:+:$PYTHONPATH}"
exec "$venv/bin/python" "$@"
