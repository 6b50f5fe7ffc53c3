#!/usr/bin/env bash
# Installs what the tests talk to (Samba, Azurite; with --bench also the peers azcopy and rclone), only where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

AZURITE=3.37.0
AZCOPY=10.32.2
TOOLS=.tools

if [ "$(uname -s)" != Linux ]; then
    echo "The servers of the tests are set up on Linux only; elsewhere those tests are skipped." >&2
    exit 0
fi

debian() {
    local missing=()
    for pair in "$@"; do
        local program=${pair%%:*} package=${pair#*:}
        PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    echo "Installing ${missing[*]}" >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# For a package that has no program: the file tells whether it is there.
debian_file() {
    compgen -G "$1" >/dev/null || debian "no-such-program-of-$2:$2"
}

npm_package() {
    local package=$1 version=$2
    local manifest="$TOOLS/node_modules/$package/package.json"
    [ -f "$manifest" ] && grep -q "\"version\": \"$version\"" "$manifest" && return 0
    echo "Installing $package $version" >&2
    mkdir -p "$TOOLS"
    npm install --prefix "$TOOLS" --no-audit --no-fund --loglevel=error "$package@$version" >&2
}

# gssapi and gss-ntlmssp are the second client of the simulated endpoint, sshd starts its stdio form, chromium opens the report;
# zsh and fish complete, mandoc reads the manual pages.
debian smbd:samba smbclient:smbclient pdbedit:samba node:nodejs npm:npm \
    gcc:gcc krb5-config:libkrb5-dev curl:curl sshd:openssh-server chromium:chromium zsh:zsh fish:fish mandoc:mandoc
debian_file "/usr/lib/*/gssntlmssp/gssntlmssp.so" gss-ntlmssp
npm_package azurite "$AZURITE"

if [ "${1:-}" = --bench ]; then
    debian rclone:rclone gcc:gcc
    debian_file /usr/include/openssl/evp.h libssl-dev
    debian_file "/usr/lib/*/libsecret-1.so.0" libsecret-1-0
    npm_package @azure-tools/azcopy-linux "$AZCOPY"
fi
