#!/bin/sh
# What init and join ask of systemctl, for machines on which no systemd runs. Its state is a file a unit, below the
# directory that SETUP_UNITS names: known/UNIT, enabled/UNIT, active/UNIT.
set -eu
verb=$1; shift
case $verb in
show)
    for unit; do
        case $unit in --*) continue ;; esac
        loaded=not-found enabled='' active=inactive
        [ ! -e "$SETUP_UNITS/known/$unit" ] || loaded=loaded enabled=disabled
        [ ! -e "$SETUP_UNITS/enabled/$unit" ] || enabled=enabled
        [ ! -e "$SETUP_UNITS/active/$unit" ] || active=active
        printf 'Id=%s\nLoadState=%s\nActiveState=%s\nUnitFileState=%s\n\n' "$unit" "$loaded" "$active" "$enabled"
    done ;;
enable) for unit; do touch "$SETUP_UNITS/enabled/$unit"; done ;;
start)
    for unit; do
        [ ! -e "$SETUP_UNITS/fails/$unit" ] || { echo "Job for $unit failed." >&2; exit 1; }
        touch "$SETUP_UNITS/active/$unit"
    done ;;
*) echo "unknown: $verb" >&2; exit 2 ;;
esac
