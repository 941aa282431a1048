#!/bin/sh
# Provide GROMACS as DIR/bin/gmx without root: tools/gromacs.sh DIR
#
# A gmx on PATH is taken. Else the packages of Debian or Ubuntu that this machine lacks are downloaded by apt-get, with
# lists of its own, and unpacked into DIR/gromacs. Exit code 3: there is no apt-get here.
set -eu
mkdir -p "$1/bin"
cd "$1"
gmx=$PWD/bin/gmx root=$PWD/gromacs state=$PWD/apt
rm -f "$gmx"

if found=$(command -v gmx); then
    ln -s "$found" "$gmx"
    exec "$gmx" -quiet --version
fi
if ! command -v apt-get > /dev/null; then
    echo "gmx is not on PATH, and without apt-get it is not installed here: install GROMACS, then make programs" >&2
    exit 3
fi

apt() {
    apt-get -qq -o Dir::State="$state" -o Dir::State::status=/var/lib/dpkg/status -o Dir::Cache="$state" \
        -o APT::Sandbox::User=root -o Debug::NoLocking=1 -o Acquire::Retries=5 -o Acquire::http::Timeout=60 "$@"
}
trap 'code=$?; [ $code = 0 ] || echo "GROMACS cannot be installed from the packages of this machine (exit code $code): see above" >&2' EXIT
mkdir -p "$state/lists/partial" "$state/archives/partial" "$root"
apt update
# gmx itself needs no MPI, which is most of what these packages depend on.
needed='^(gromacs|libgromacs|libfftw3-single|libmuparser|lib(blas|lapack|hwloc[0-9]|gfortran|quadmath|gomp|x11-|xcb|xau|xdmcp|bsd|md0))'
packages=$(apt --simulate --no-install-recommends install gromacs | awk '$1 == "Inst" {print $2}' | grep -E "$needed")
(cd "$state/archives" && apt download $packages)
for package in "$state"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --exclude=./usr/share/doc --exclude=./usr/share/man
done
rm -rf "$state"

cat > "$gmx" <<'END'
#!/bin/sh
root=${0%/bin/gmx}/gromacs
libraries=$(echo "$root"/usr/lib/*-linux-gnu)
LD_LIBRARY_PATH=$libraries:$libraries/blas:$libraries/lapack exec "$root/usr/bin/gmx" "$@"
END
chmod +x "$gmx"
"$gmx" -quiet --version
