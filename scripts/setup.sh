#!/bin/sh
# Installs the Debian packages that building, running and testing synhold needs; does nothing if all are there.
set -eu

# To build: libclang-dev and linux-libc-dev (rustables reads the kernel's headers), gcc as the linker.
# To run: dnsmasq-base (without its service), util-linux for setpriv. To look and to test: nftables, iproute2.
packages="gcc libc6-dev libclang-dev linux-libc-dev dnsmasq-base util-linux nftables iproute2"

missing=""
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=""
if [ "$(id -u)" -ne 0 ]; then
    sudo="sudo"
fi
echo "installing:$missing"
# The names are split on purpose.
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $missing ||
    { $sudo apt-get update && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $missing; }
