#!/usr/bin/env bash
# Run a command where windows can open: tools/with_display.sh COMMAND...
# macOS, Windows and a running desktop have a display; elsewhere one is made that nobody sees, with Xvfb.
set -euo pipefail

if [ "$(uname -s)" != Linux ] || [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
  exec "$@"
fi
if command -v xvfb-run >/dev/null 2>&1; then
  exec xvfb-run --auto-servernum --server-args "-screen 0 1600x1200x24 +extension GLX" "$@"
fi
echo "No display and no xvfb-run: tests of the dock are skipped; tools/setup_display.sh says what to install" >&2
exec "$@"
