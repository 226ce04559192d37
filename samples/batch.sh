# shellcheck shell=bash
# What classify_folder.sh and label_file.sh share; sourced by them, with bash from 3.2 (macOS) on.

root=$(CDPATH="" cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Without $PYTHON: the active environment's, the one that `make sample` has made, or whatever there is.
for environment in "${VIRTUAL_ENV-}" "$root/.venv"; do
    for python in "$environment/bin/python" "$environment/Scripts/python.exe"; do
        [[ -z ${PYTHON-} && -n $environment && -x $python ]] && PYTHON=$python
    done
done

# check_use COUNT ARGUMENT...: ends the script with its first comment for --help, and where there are too few arguments.
check_use() {
    local help
    help=$(sed -n '2,/^$/s/^# \{0,1\}//p' "$0")
    if [[ ${2-} == -h || ${2-} == --help ]]; then
        echo "$help"
        exit 0
    elif (($# <= $1)); then
        echo "$help" >&2
        exit 2
    fi
}

# classify OUT.csv ARGUMENT...: the most probable label of each video, in a row of OUT.csv.
classify() {
    exec "${PYTHON:-python3}" "$root/action_clip.py" --format csv --top-k 1 --output="$1" "${@:2}"
}
