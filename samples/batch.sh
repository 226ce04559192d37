# shellcheck shell=bash
# What classify_folder.sh and label_file.sh share; sourced by them, with bash from 3.2 (macOS) on.

root=$(CDPATH="" cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$root/action_clip.py

# Without $PYTHON: the active environment's, the one that `make sample` has made, or whatever there is.
for environment in "${VIRTUAL_ENV-}" "$root/.venv"; do
    for python in "$environment/bin/python" "$environment/Scripts/python.exe"; do
        [[ -z ${PYTHON-} && -n $environment && -x $python ]] && PYTHON=$python
    done
done
PYTHON=${PYTHON:-python3}

# classify_videos OUT.csv [OPTION...]: one row in OUT.csv for each of the array `videos`, in order.
# OPTIONs go to action_clip.py. A video that fails gets a row with only its name, and never stops the others.
# The rows gather in OUT.csv.part, which becomes OUT.csv when the last video is done.
# Returns 0 if every video was classified, 1 otherwise.
classify_videos() {
    local out=$1 part=$1.part failed=0 quote='"' video table option problem
    shift
    for option in "$@"; do
        if [[ $option == --output || $option == --output=* ]]; then
            echo "--output is not for action_clip.py here: the answers go to $out." >&2
            return 2
        fi
    done
    if ! problem=$("$PYTHON" "$program" --version 2>&1 >/dev/null); then
        echo "$PYTHON cannot run action_clip.py (${problem##*$'\n'}): run 'make sample' once, or name one that can with PYTHON=…" >&2
        return 1
    fi
    if [[ -e $out && ! -f $out ]] || ! { echo "video,rank,index,label,probability" >"$part"; } 2>/dev/null; then
        echo "Cannot write $out: name a file in a folder that exists." >&2
        return 1
    fi
    # Without this, Ctrl-C would stop one video and the loop would go on to the next.
    trap 'echo "Stopped; the finished rows are in $part" >&2; exit 130' INT TERM

    # shellcheck disable=SC2154 # The sourcing script fills the array.
    for video in "${videos[@]}"; do
        if table=$("$PYTHON" "$program" "$@" --format csv --top-k 1 --video="$video" </dev/null) &&
            [[ $table == *$'\n'* ]]; then
            # Everything after the header line.
            printf '%s\n' "${table#*$'\n'}" >>"$part"
        else
            echo "Failed: $video" >&2
            printf '"%s",,,,\n' "${video//$quote/$quote$quote}" >>"$part"
            failed=$((failed + 1))
        fi
    done

    mv -f -- "$part" "$out" || return 1
    echo "${#videos[@]} videos, $failed failed: $out" >&2
    ((failed == 0))
}
