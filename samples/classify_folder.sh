#!/usr/bin/env bash
# Classify every video of a folder: one line a video in a CSV file. See --help.
set -u

usage() {
    cat <<'HELP'
Usage: classify_folder.sh FOLDER OUT.csv [OPTION...]

Classifies every video in FOLDER (not in its subfolders) and writes OUT.csv: the header
video,rank,index,label,probability, then one row a video with its most probable label.
Each OPTION is passed to action_clip.py (all but --output and --format, which are taken):

    classify_folder.sh holiday out.csv --model nano --text swimming --text "riding a bicycle"
    classify_folder.sh holiday out.csv --desc_file samples/labels.txt

With --model nano, --quiet leaves out the note that it is a stand-in.

A video that fails is named on stderr and gets a row with empty fields; the others go on.
Exit status: 0 all classified, 1 any failed or no video there, 2 wrong use.
PYTHON=/path/to/python chooses the interpreter; else it is the active virtual environment's, that of
`make sample`, or python3.
HELP
}

if [[ ${1-} == -h || ${1-} == --help ]]; then
    usage
    exit 0
fi
if (($# < 2)); then
    usage >&2
    exit 2
fi
folder=$1 out=$2
shift 2
# shellcheck source-path=SCRIPTDIR source=batch.sh
source "$(dirname "${BASH_SOURCE[0]}")/batch.sh"

if [[ ! -d $folder ]]; then
    echo "There is no folder $(shown "$folder")." >&2
    exit 2
fi

shopt -s nullglob nocasematch
videos=()
for file in "$folder"/*; do
    case $file in
    *.mp4 | *.m4v | *.mov | *.mkv | *.webm | *.avi | *.gif | *.mpg | *.mpeg | *.wmv | *.flv | *.ts | *.3gp | *.ogv)
        [[ -f $file ]] && videos+=("$file")
        ;;
    esac
done
if ((${#videos[@]} == 0)); then
    echo "There is no video in $(shown "$folder")." >&2
    exit 1
fi

classify_videos "$out" "$@"
