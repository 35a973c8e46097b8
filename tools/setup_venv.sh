#!/usr/bin/env bash
# Make a virtual environment with Python 3.11 or newer: tools/setup_venv.sh FOLDER
# As root on Debian or Ubuntu, missing system packages are installed; elsewhere the script says what to install and stops.
set -euo pipefail

venv=${1:?usage: setup_venv.sh FOLDER}

find_python() {  # the newest interpreter that can make a virtual environment; nothing when there is none
  local name
  for name in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
    if command -v "$name" >/dev/null 2>&1 &&
      "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
}

missing=()
[ -n "$(find_python)" ] || missing+=(python3 python3-venv)
command -v git >/dev/null 2>&1 || missing+=(git)

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing system packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" ca-certificates >/dev/null
  else
    echo "Please install these first: ${missing[*]} (on Debian and Ubuntu: sudo apt-get install ${missing[*]})" >&2
    exit 1
  fi
fi

python=$(find_python)
if [ -z "$python" ]; then
  echo "Expected Python 3.11 or newer with its venv module, found none: install one and say PYTHON=its-name make ..." >&2
  exit 1
fi

echo "Setting up $venv with $("$python" --version)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# --group (dependency groups) needs pip 25.1
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
