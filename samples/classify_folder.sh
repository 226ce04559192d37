#!/usr/bin/env bash
# Usage: classify_folder.sh FOLDER OUT.csv [OPTION...]
#
# Classifies every video in FOLDER and below it: a row a video in OUT.csv, with its most probable label.
# Each OPTION goes to action_clip.py, whose --help lists them:
#
#     classify_folder.sh holiday out.csv --model nano --text swimming --text "riding a bicycle"
#     classify_folder.sh holiday out.csv --desc_file samples/labels.txt --resume
#
# PYTHON=/path/to/python chooses the interpreter; else it is the active virtual environment's, that of
# `make sample`, or python3.

# shellcheck source-path=SCRIPTDIR source=batch.sh
source "$(dirname "${BASH_SOURCE[0]}")/batch.sh"
check_use 2 "$@"
classify "$2" --video="$1" "${@:3}"
