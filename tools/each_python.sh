#!/bin/sh
# Run `make suite` on each of the Pythons named (3.10 3.11 ...) that is really there, in an environment of its own.
set -u

# Print the interpreter of a version. A pyenv shim can exist without its Python, or serve it only when it is asked by name.
find_python() {
    if command -v pyenv > /dev/null; then
        release=$(pyenv versions --bare 2> /dev/null | grep -E "^$1\.[0-9]+$" | sort -t. -k3 -n | tail -n 1)
    else
        release=
    fi
    ${release:+env PYENV_VERSION="$release"} "python$1" -c 'import sys; print(sys.executable)' 2> /dev/null
}

passed='' failed='' missing=''
for version in "$@"; do
    if ! python=$(find_python "$version"); then
        missing="$missing $version"
        continue
    fi
    echo "--- Python $version: $python"
    if "${MAKE:-make}" --no-print-directory suite PYTHON="$python" VENV=".venv-$version"; then
        passed="$passed $version"
    else
        failed="$failed $version"
    fi
done

echo "--- passed:${passed:- none}; failed:${failed:- none}; not found here:${missing:- none}"
[ -z "$failed" ]
