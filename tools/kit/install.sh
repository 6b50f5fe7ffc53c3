#!/bin/sh
# Installs pep-bridge for the user who runs this, from this folder alone: no network, no administrator rights.
#   ./install.sh [FOLDER]      FOLDER: where to (default ~/.local/share/pep-bridge); PYTHON=... names the Python to use
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-${XDG_DATA_HOME:-$HOME/.local/share}/pep-bridge}

fail() {
    printf 'error: %s\n  fix: %s\n' "$1" "$2" >&2
    exit 1
}

# "3.11" where the wheels of this kit fit that interpreter, nothing otherwise.
fitting_version() {
    "$1" - 2>/dev/null <<'PYTHON'
import platform, sys
if sys.version_info >= (3, 11) and sys.implementation.name == "cpython" and platform.machine() == "x86_64":
    print("%d.%d" % sys.version_info[:2])
PYTHON
}

python=
for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    version=$(fitting_version "$candidate") || version=
    if [ -n "$version" ]; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "there is no Python 3.11 or later for x86-64 here" "Name one: PYTHON=/path/to/python3 ./install.sh"

(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) ||
    fail "this kit is not what was packed" "Copy it again from its source."

# Out of its wheel: a Python without its venv package (Debian) has no pip of its own.
set -- "$here"/pip/pip-*.whl
pip=$1/pip

printf 'Installing into %s with %s (Python %s)\n' "$folder" "$python" "$version" >&2
"$python" -m venv --clear --without-pip "$folder" ||
    fail "no virtual environment could be made in $folder" "Give a folder of yours: ./install.sh FOLDER"
"$folder/bin/python" "$pip" install --isolated --quiet --disable-pip-version-check --no-cache-dir --no-index \
    --find-links "$here/wheels" --only-binary :all: --require-hashes --requirement "$here/requirements.txt" ||
    fail "the packages could not be installed" "Is this Python one of those in INSTALL.md, and is there space in $folder?"

if [ -d "$here/man" ]; then
    mkdir -p "$folder/share/man/man1"
    cp "$here"/man/*.1 "$folder/share/man/man1/"
fi
if [ -z "${NO_LINK:-}" ] && mkdir -p "$HOME/.local/bin" 2>/dev/null; then
    ln -sf "$folder/bin/pep-bridge" "$HOME/.local/bin/pep-bridge"
fi

"$folder/bin/pep-bridge" --version
printf 'next: %s/bin/pep-bridge demo\n' "$folder" >&2
