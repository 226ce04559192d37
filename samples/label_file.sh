#!/usr/bin/env bash
# Classify videos against the labels of a file: one line a video in a CSV file. See --help.
set -u

usage() {
    cat <<'HELP'
Usage: label_file.sh LABELS.txt OUT.csv VIDEO... [-- OPTION...]

Classifies each VIDEO (a file or a URL) against the labels in LABELS.txt (in any form that --desc_file takes)
and writes OUT.csv: the header video,rank,index,label,probability, then one row a video, in
the order given, with its most probable label. What follows -- is passed to action_clip.py (all but --output and
--format, which are taken):

    label_file.sh samples/labels.txt out.csv holiday/*.mp4
    label_file.sh samples/labels.txt out.csv first.mp4 second.webm -- --model nano

With --model nano, --quiet leaves out the note that it is a stand-in.

A video that fails is named on stderr and gets a row with empty fields; the others go on.
Exit status: 0 all classified, 1 any failed, 2 wrong use.
PYTHON=/path/to/python chooses the interpreter; else it is the active virtual environment's, that of
`make sample`, or python3.
HELP
}

if [[ ${1-} == -h || ${1-} == --help ]]; then
    usage
    exit 0
fi
if (($# < 3)) || [[ $3 == -- ]]; then
    usage >&2
    exit 2
fi
labels=$1 out=$2
shift 2
# shellcheck source-path=SCRIPTDIR source=batch.sh
source "$(dirname "${BASH_SOURCE[0]}")/batch.sh"

if [[ ! -f $labels || ! -r $labels ]]; then
    echo "Cannot read the label file $(shown "$labels")." >&2
    exit 2
fi

videos=()
while (($# > 0)) && [[ $1 != -- ]]; do
    videos+=("$1")
    shift
done
# Now either nothing or the -- is left.
(($# > 0)) && shift

classify_videos "$out" "$@" --desc_file="$labels"
