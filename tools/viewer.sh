#!/bin/sh
# Provide 3Dmol.js (BSD-3-Clause), which shows structures in reports, with its license: tools/viewer.sh DIR
#
# npm downloads the package and checks it. Exit code 3: it cannot be had here; reports then show a picture.
set -eu
version=2.5.5
checksum=f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016
mkdir -p "$1"
target=$(cd "$1" && pwd)

missing() {
    echo "3Dmol.js is not installed ($1): reports show the best structure as a picture; make viewer tries again" >&2
    exit 3
}
command -v npm > /dev/null || missing "there is no npm"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "3dmol@$version" > /dev/null || missing "npm cannot download it"
tar -xzf ./*.tgz package/LICENSE package/build/3Dmol-min.js package/build/3Dmol-min.js.LICENSE.txt
echo "$checksum  package/build/3Dmol-min.js" | sha256sum --check --status || missing "its checksum is wrong"
{
    cat package/LICENSE
    echo
    cat package/build/3Dmol-min.js.LICENSE.txt
} > "$target/3Dmol-min.js.LICENSE.txt"
mv package/build/3Dmol-min.js "$target"
touch "$target/3Dmol-min.js"
