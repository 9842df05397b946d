# What the scripts share; sourced by bash, defines functions and `root`, does nothing else.
# Whatever these functions say goes to stderr: stdout belongs to the command that was asked for.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
name=${0##*/}

say() { echo "$name: $*" >&2; }
die() { say "$*"; exit 125; }
have() { command -v "$1" >/dev/null 2>&1; }
is_debian() { have apt-get && have dpkg-query; }

is_installed() { # PACKAGE
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_packages() { # PACKAGE...: prints those that are not installed
    local package
    for package; do
        is_installed "$package" || echo "$package"
    done
}

apt_update_once() { # package lists of a fresh machine are empty, those of an old image name files that are gone
    [ -z "${apt_is_fresh:-}" ] || return 0
    apt-get update -qq >&2 || return 1
    apt_is_fresh=1
}

apt_install() { # [-t SUITE] PACKAGE...
    [ "$(id -u)" = 0 ] || { say "missing: $* — run as root once: apt-get install --no-install-recommends $*"; return 1; }
    say "installing $*"
    apt_update_once || { say "apt-get update failed: is the machine's package mirror reachable?"; return 1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

need() { # PACKAGE...: installs what is missing, asks nothing when all is there
    local missing
    is_debian || { say "not a Debian: these must be there already: $*"; return 0; }
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

need_each() { # PACKAGE...: one at a time, so that one that cannot be had does not cost the others
    local package failed=0
    for package; do
        need "$package" || failed=1
    done
    return $failed
}

add_backports() { # makes bookworm-backports an apt suite, on the mirror that the machine already uses
    local list=/etc/apt/sources.list.d
    ! apt-cache policy 2>/dev/null | grep -q bookworm-backports || return 0
    [ "$(id -u)" = 0 ] || { say "bookworm-backports is no apt suite here: add it as root"; return 1; }
    if [ -e $list/debian.sources ]; then
        awk 'BEGIN {RS = ""} NR == 1' $list/debian.sources |
            sed 's/^Suites:.*/Suites: bookworm-backports/' >$list/remand-backports.sources
    elif [ -e /etc/apt/sources.list ]; then
        sed -n 's/ bookworm / bookworm-backports /p' /etc/apt/sources.list | grep '^deb ' | head -n 1 \
            >$list/remand-backports.list
    else
        say "found neither debian.sources nor sources.list to take the mirror from"
        return 1
    fi
    apt-get update -qq >&2
}

need_cargo() { # builds want the compiler that Cargo.toml names
    local want have_version
    [ -e "${CARGO_HOME:-$HOME/.cargo}/env" ] && PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    have cargo || die "no cargo: install Rust from https://rustup.rs, then run this again"
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    have_version=$(rustc --version | awk '{print $2}')
    [ "$(printf '%s\n' "$want" "$have_version" | sort -V | head -n 1)" = "$want" ] ||
        die "rustc $have_version is too old, $want is needed: rustup update stable"
}

is_static() { # FILE: an ELF file without an interpreter
    local headers
    headers=$(LC_ALL=C readelf -lW "$1" 2>/dev/null) && [ -n "$headers" ] && ! grep -q INTERP <<<"$headers"
}
