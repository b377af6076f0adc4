#!/bin/sh
# Submit FILE, or the newest run, to Kaggle and wait for its score: `digit-recognizer submit` from any folder.
# The exit codes are that command's; see docs/kaggle.md.
set -eu

if [ $# -gt 2 ] || [ "${1-}" = -h ] || [ "${1-}" = --help ]; then
  echo "usage: submit.sh [FILE|RUN] [MESSAGE]" >&2
  exit 2
fi
home=$(dirname "$(dirname "$(readlink -f "$0")")")
python=$home/.venv/bin/python
if [ ! -x "$python" ]; then
  echo "Error: $home/.venv is not there; run: make install" >&2
  exit 2
fi

if [ $# -ge 1 ] && [ -z "$1" ]; then
  echo "Error: FILE is empty; did train fail? Without FILE it is the newest run; to give it a message: submit -m" >&2
  exit 2
fi
file=${1-}
message=${2-}
set -- --out "$home/submissions"
[ -z "$message" ] || set -- "$@" --message "$message"
[ -z "$file" ] || set -- "$@" -- "$file"
PYTHONPATH=$home${PYTHONPATH:+:$PYTHONPATH} exec "$python" -P -m digit_recognizer submit "$@"
