#!/bin/sh
# Installs the Debian packages that building and running synhold needs, with `tests` those of its tests too; does nothing if
# all are there. With `package` the tools that make its own package, with `check` what looks at its dependencies.
set -eu

# tool NAME VERSION: a program of Cargo's, beside what is built, at a version that is tried.
tool() {
    tools=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/tools
    [ -x "$tools/bin/$1" ] && return
    echo "building $1, which takes some minutes once"
    "${CARGO:-cargo}" install --locked --quiet --root "$tools" --version "$2" "$1"
}

# To build: libclang-dev and linux-libc-dev (rustables reads the kernel's headers), gcc as the linker.
# To run: dnsmasq-base (without its service), util-linux for setpriv. To look and to test: nftables, iproute2.
packages="gcc libc6-dev libclang-dev linux-libc-dev dnsmasq-base util-linux nftables iproute2"

# To test: a container engine that is only ever started inside namespaces of the tests, and what its containers run.
# Whoever's engine and busybox are here already will do: Debian's packages would push others off the machine.
engine=""
if [ "${1:-}" = tests ]; then
    command -v busybox >/dev/null || packages="$packages busybox-static"
    PATH="$PATH:/usr/sbin:/sbin" command -v dockerd >/dev/null || engine="docker.io"
    packages="$packages $engine"
    # The terminal that `synhold top` is driven in.
    packages="$packages tmux"
    # A report's page is opened in a real browser.
    command -v chromium >/dev/null || packages="$packages chromium"
    # The reference parser of OpenMetrics.
    packages="$packages python3-prometheus-client"
    # For journald, and for a systemd in namespaces of the tests, on which our package is installed; D-Bus for what asks it.
    command -v journalctl >/dev/null || packages="$packages systemd"
    packages="$packages dbus mandoc"
fi
if [ "${1:-}" = package ]; then packages="$packages dpkg-dev"; fi

missing=""
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done

if [ -n "$missing" ]; then
    sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        sudo="sudo"
    fi
    echo "installing:$missing"
    # Debian starts what it installs, now and at every boot: an engine would put its rules and its bridge on this machine.
    # `systemctl unmask docker.service docker.socket containerd.service` if you want one.
    if [ -n "$engine" ] && [ -d /run/systemd/system ]; then
        echo "docker is for tests only and is not to run here: systemctl unmask docker.service docker.socket containerd.service"
        $sudo systemctl mask docker.service docker.socket containerd.service
    elif [ -n "$engine" ] && [ ! -e /usr/sbin/policy-rc.d ]; then
        trap '$sudo rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' | $sudo tee /usr/sbin/policy-rc.d >/dev/null
        $sudo chmod 0755 /usr/sbin/policy-rc.d
    fi
    # The names are split on purpose.
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $missing ||
        { $sudo apt-get update && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $missing; }
fi

# After what they are built with.
case "${1:-}" in
    package) tool cargo-deb 3.8.0 ;;
    check) tool cargo-deny 0.20.2 ;;
esac
