#!/usr/bin/env bash
# System packages that Qt needs on Linux, and Xvfb for machines without a screen. As root on Debian or Ubuntu they are
# installed; elsewhere the script says what to install and goes on: only the tests of the dock need them.
set -euo pipefail

[ "$(uname -s)" = Linux ] || exit 0

packages=(
  xvfb xauth libegl1 libgl1 libgl1-mesa-dri libopengl0 libdbus-1-3 libfontconfig1 fonts-dejavu-core libxkbcommon-x11-0
  libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0
  libxcb-xinerama0 libxcb-xkb1
)

if ! command -v dpkg-query >/dev/null 2>&1; then
  command -v xvfb-run >/dev/null 2>&1 ||
    echo "For tests of the dock install Xvfb, EGL, OpenGL and the xcb libraries of Qt 6; they are skipped until then" >&2
  exit 0
fi

missing=()
for name in "${packages[@]}"; do
  [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
  echo "Installing system packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "For tests of the dock: sudo apt-get install ${missing[*]}" >&2
fi
