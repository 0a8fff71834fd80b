#!/bin/sh
# Puts everything in its place, or takes it away: place.sh install|uninstall BINARY DESTDIR PREFIX
# What an administrator may have changed (/etc/synhold) and what the daemon keeps (/var/lib/synhold) is left alone.
set -eu
action=$1 binary=$2 dest=$3 prefix=$4
cd "$(dirname "$0")/.."

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

# place MODE FILE TARGET
place() {
    case $action in
        install) install -D -m "$1" "$2" "$dest$3" ;;
        uninstall) rm -f "$dest$3" ;;
    esac
}

# Anything about the running system is for a real installation, not for one that is being packed.
live() { [ -z "$dest" ] && [ -d /run/systemd/system ]; }

if [ "$action" = uninstall ] && [ -z "$dest" ]; then
    if live; then systemctl --quiet disable --now synhold.service || true; fi
    "$binary" rules remove
fi

"$binary" generate man "$made/man"
for shell in bash zsh fish; do "$binary" generate completions "$shell" >"$made/$shell"; done
sed "s#/usr/local/#$prefix/#" data/synhold.service >"$made/synhold.service"

place 0755 "$binary" "$prefix/sbin/synhold"
place 0644 "$made/synhold.service" "$prefix/lib/systemd/system/synhold.service"
place 0644 data/synhold.sysusers "$prefix/lib/sysusers.d/synhold.conf"
place 0644 data/synhold.tmpfiles "$prefix/lib/tmpfiles.d/synhold.conf"
for page in "$made"/man/*; do
    place 0644 "$page" "$prefix/share/man/man${page##*.}/${page##*/}"
done
place 0644 "$made/bash" "$prefix/share/bash-completion/completions/synhold"
zsh=site-functions
if [ "$prefix" = /usr ]; then zsh=vendor-completions; fi
place 0644 "$made/zsh" "$prefix/share/zsh/$zsh/_synhold"
place 0644 "$made/fish" "$prefix/share/fish/vendor_completions.d/synhold.fish"
for example in data/dnsmasq-synhold.conf data/grafana-*.json data/prometheus-*.yml; do
    if [ -e "$example" ]; then place 0644 "$example" "$prefix/share/doc/synhold/examples/${example##*/}"; fi
done
for text in README.md CHANGELOG.md; do place 0644 "$text" "$prefix/share/doc/synhold/$text"; done

if [ "$action" = install ]; then
    # URLs of webhooks are secrets.
    [ -e "$dest/etc/synhold/synhold.toml" ] || place 0640 data/synhold.toml /etc/synhold/synhold.toml
    if live; then
        systemd-sysusers "$prefix/lib/sysusers.d/synhold.conf"
        systemd-tmpfiles --create "$prefix/lib/tmpfiles.d/synhold.conf"
    fi
else
    rmdir -p --ignore-fail-on-non-empty "$dest$prefix/share/doc/synhold/examples" 2>/dev/null || true
fi
if live; then systemctl daemon-reload; fi
