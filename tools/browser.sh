#!/bin/sh
# Provide Chromium, in which tests look at reports: tools/browser.sh
#
# One on PATH is taken, else it is installed with apt-get, which needs root. Exit code 3: neither is possible.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" > /dev/null; then
        exit 0
    fi
done
if ! command -v apt-get > /dev/null || [ "$(id -u)" != 0 ]; then
    echo "Chromium is not on PATH and cannot be installed here (apt-get, as root): tests in a browser are skipped" >&2
    exit 3
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install chromium > /dev/null
