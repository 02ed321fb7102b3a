#!/bin/sh
# Makes or refreshes the Python environment in .venv, with the versions of constraints.txt.
# Run by `make setup`. PYTHON=/path/to/python chooses the interpreter of a new environment.
set -eu
cd "$(dirname "$0")/.."

suitable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
        if suitable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python 3.11 or newer found: install one, or say PYTHON=/path/to/python make setup" >&2
    exit 1
}

if ! suitable .venv/bin/python; then
    python=$(find_python)
    echo "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || {
        echo "error: '$python -m venv' failed: on Debian and Ubuntu install python3-venv" >&2
        exit 1
    }
fi

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
torch=$(grep '^torch==' constraints.txt)

# The registry's plain Linux build of torch brings several GB of CUDA libraries, so a machine
# without a GPU first tries the two ways to a CPU build. An installed build that fits is kept.
installed=$(.venv/bin/python -c '
from importlib import metadata
try:
    print("torch==" + metadata.version("torch").split("+")[0])
except metadata.PackageNotFoundError:
    print("none")')
if [ "$installed" != "$torch" ]; then
    echo "installing $torch"
    if [ "$(uname -s)" = Linux ] && ! nvidia-smi >/dev/null 2>&1; then
        pip install -qq "$torch+cpu" -c constraints.txt 2>/dev/null ||
            { pip install -qq uv &&
                .venv/bin/uv pip install -qq --python .venv/bin/python --torch-backend=cpu "$torch"; } ||
            { echo "no CPU build of torch to be had: taking the plain one" &&
                pip install -qq "$torch" -c constraints.txt; }
    else
        pip install -qq "$torch" -c constraints.txt
    fi
fi

echo "installing clnet and what it needs (some minutes the first time)"
pip install -qq --editable '.[dev]' -c constraints.txt
