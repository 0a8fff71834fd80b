#!/bin/sh
# Makes the Debian package of a program that is built already: package.sh release|debug OUTPUT
set -eu
profile=$1 output=$2
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
tree=$target/$profile/package
rm -rf "$tree"
scripts/place.sh install "$target/$profile/synhold" "$(realpath "$(dirname "$tree")")/package" /usr

find "$tree/usr/share/man" -type f -exec gzip -9n {} +
gzip -9nc CHANGELOG.md >"$tree/changelog.gz"

# The changelog in Debian's own form only points to the one that people write.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
maintainer=$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)
date=$(date -R -u ${SOURCE_DATE_EPOCH:+-d "@$SOURCE_DATE_EPOCH"})
printf 'synhold (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$date" | gzip -9n >"$tree/changelog.Debian.gz"

# Cargo's own name for the profile that builds into `debug`.
if [ "$profile" = debug ]; then set -- --profile dev --no-strip --fast; else set --; fi
PATH="$(realpath "$target")/tools/bin:$PATH" cargo-deb --no-build "$@" --output "$output"
