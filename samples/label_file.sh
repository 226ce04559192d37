#!/usr/bin/env bash
# Usage: label_file.sh LABELS.txt OUT.csv VIDEO... [OPTION...]
#
# Classifies each VIDEO (a file, a folder or a URL) against the labels in LABELS.txt (in any form that --desc_file
# takes): a row a video in OUT.csv, with its most probable label.
# Each OPTION goes to action_clip.py, whose --help lists them:
#
#     label_file.sh samples/labels.txt out.csv holiday/*.mp4
#     label_file.sh samples/labels.txt out.csv first.mp4 second.webm --model nano
#
# PYTHON=/path/to/python chooses the interpreter; else it is the active virtual environment's, that of
# `make sample`, or python3.

# shellcheck source-path=SCRIPTDIR source=batch.sh
source "$(dirname "${BASH_SOURCE[0]}")/batch.sh"
check_use 3 "$@"
classify "$2" --desc_file="$1" "${@:3}"
