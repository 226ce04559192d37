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

# Marks and overrides of the writing direction, U+061C to U+2069, in UTF-8.
steering=$'(\xd8\x9c|\xe2\x80\x8e|\xe2\x80\x8f|\xe2\x80\xaa|\xe2\x80\xab|\xe2\x80\xac|\xe2\x80\xad|\xe2\x80\xae'
steering+=$'|\xe2\x81\xa6|\xe2\x81\xa7|\xe2\x81\xa8|\xe2\x81\xa9)'

# shown NAME: as it is, or quoted for a shell where something in it would steer a terminal.
shown() {
    if [[ $1 == *[![:print:]]* || $1 =~ $steering ]]; then
        LC_ALL=C printf '%q' "$1"
    else
        printf '%s' "$1"
    fi
}

# classify_videos OUT.csv [OPTION...]: one row in OUT.csv for each of the array `videos`, in order.
# OPTIONs go to action_clip.py. A video that fails gets a row with only its name, and never stops the others.
# The rows gather in OUT.csv.part, which becomes OUT.csv when the last video is done.
# Returns 0 if every video was classified, 1 otherwise.
classify_videos() {
    local out=$1 part=$1.part failed=0 quote='"' video table option problem target
    shift
    for option in "$@"; do
        if [[ $option == --output || $option == --output=* ]]; then
            echo "--output is not for action_clip.py here: the answers go to $(shown "$out")." >&2
            return 2
        fi
    done
    # shellcheck disable=SC2154 # The sourcing script fills the array.
    for option in "$@" "${videos[@]}"; do
        for target in "$out" "$part"; do
            if [[ $option -ef $target || ${option#*=} -ef $target ]]; then
                echo "$(shown "$target") would be overwritten, and is one of the files to read: name another OUT.csv." >&2
                return 2
            fi
        done
    done
    if ! problem=$("$PYTHON" "$program" --version 2>&1 >/dev/null); then
        echo "$(shown "$PYTHON") cannot run action_clip.py (${problem##*$'\n'}): run 'make sample' once, or name one that can with PYTHON=…" >&2
        return 1
    fi
    if [[ -e $out && ! -f $out ]] || ! { echo "video,rank,index,label,probability" >"$part"; } 2>/dev/null; then
        echo "Cannot write $(shown "$out"): name a file in a folder that exists." >&2
        return 1
    fi
    # Without this, Ctrl-C would stop one video and the loop would go on to the next.
    trap 'echo "Stopped; the finished rows are in $(shown "$part")" >&2; exit 130' INT TERM

    for video in "${videos[@]}"; do
        if table=$("$PYTHON" "$program" "$@" --format csv --top-k 1 --video="$video" </dev/null) &&
            [[ $table == *$'\n'* ]]; then
            # Everything after the header line.
            printf '%s\n' "${table#*$'\n'}" >>"$part"
        else
            echo "Failed: $(shown "$video")" >&2
            printf '"%s",,,,\n' "${video//$quote/$quote$quote}" >>"$part"
            failed=$((failed + 1))
        fi
    done

    mv -f -- "$part" "$out" || return 1
    echo "${#videos[@]} videos, $failed failed: $(shown "$out")" >&2
    ((failed == 0))
}
