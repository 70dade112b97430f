# Makes .venv, or leaves it alone if it is what the lock files ask for.
#   sh utils/course/environment.sh lab|dev [python]     sh utils/course/environment.sh lock
#   sh utils/course/environment.sh backends    makes .cache/backends, with JAX in place of TensorFlow
# Speaks one sentence and exits 1 where the course cannot run, before anything is installed.
set -eu

stop() {
    echo "$1" >&2
    exit 1
}

supported() { # does this interpreter run, and is it 3.11, 3.12 or 3.13?
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

[ -f course.toml ] || stop "Run make in the folder of the course, where course.toml lies."

goal=$1
if [ "$goal" = lock ]; then
    # uv resolves for every Python and platform at once, which pip cannot. It lives in the cache.
    [ -x .cache/uv/bin/uv ] || { "${PYTHON:-python3}" -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv; }
    compile=".cache/uv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header"
    $compile requirements.txt -o requirements.lock
    $compile -c requirements.lock requirements-dev.txt -o requirements-dev.lock
    exit 0
fi

if [ "$goal" = backends ]; then
    stamp="$(pwd) $(cksum < requirements-backends.txt)"
    [ "$(cat .cache/backends/installed 2>/dev/null)" = "$stamp" ] && exit 0
    echo "Installing the packages of requirements-backends.txt (about 0.7 GB on disk)."
    .venv/bin/python -m venv --clear .cache/backends
    .cache/backends/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-backends.txt 2>.cache/backends/pip.log ||
        { grep -v 'is ignored' .cache/backends/pip.log >&2 || :; stop "Installing requirements-backends.txt failed: see the lines above, mend it and run make again."; }
    echo "$stamp" > .cache/backends/installed
    exit 0
fi

stamp="$(pwd) $(cksum < requirements.lock)"
[ "$goal" = dev ] && stamp_dev="$(cksum < requirements-dev.lock)" || stamp_dev=
if [ -x .venv/bin/python ] && [ "$(cat .venv/installed 2>/dev/null)" = "$stamp" ] &&
    { [ -z "$stamp_dev" ] || [ "$(cat .venv/installed-dev 2>/dev/null)" = "$stamp_dev" ]; } &&
    { [ -z "${2-}" ] || [ "$(cat .venv/chosen 2>/dev/null)" = "$2" ]; } && .venv/bin/python -c ''; then
    exit 0
fi

case "$(uname -s) $(uname -m)" in
    "Linux x86_64" | "Darwin arm64") ;;
    "Darwin x86_64") stop "TensorFlow has no package for Macs with an Intel processor, so the course cannot run here; open its lessons in Colab (badges in README.md)." ;;
    *) stop "The course runs on Linux x86-64 and on Apple silicon; this is $(uname -s) $(uname -m), so open its lessons in Colab (badges in README.md)." ;;
esac

python=
if [ -n "${2-}" ]; then
    command -v "$2" >/dev/null 2>&1 || stop "PYTHON=$2: there is no such program."
    supported "$2" || stop "PYTHON=$2 is $("$2" --version 2>&1 | head -n 1); the course needs Python 3.11, 3.12 or 3.13."
    python=$2
else
    for candidate in python3 python3.13 python3.12 python3.11; do
        if supported "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || stop "The course needs Python 3.11, 3.12 or 3.13 and found $(python3 --version 2>/dev/null || echo none); install one, or name it: make lab PYTHON=/path/to/python3.12"
fi
machine=$("$python" -c 'import platform; print(platform.machine())')
case "$machine" in
    x86_64 | arm64) [ "$machine" = "$(uname -m)" ] || stop "$python is built for $machine but this machine is $(uname -m); use a native Python." ;;
    *) stop "$python is built for $machine, for which TensorFlow has no package." ;;
esac
"$python" -c 'import ensurepip, venv' 2>/dev/null || stop "$python lacks the venv or ensurepip module; on Debian and Ubuntu, install the package python3-venv."

# A folder that was moved, or was made with another Python, cannot be repaired: make it anew.
version=$("$python" -c 'import sys; print(sys.version_info[:2])')
if [ "$(cat .venv/made 2>/dev/null)" != "$(pwd) $version" ]; then
    echo "Making .venv with $("$python" --version) ($python)."
    rm -rf .venv
    "$python" -m venv .venv
    echo "$(pwd) $version" > .venv/made
fi
[ -z "${2-}" ] || echo "$2" > .venv/chosen

install() { # the lock lists every package, so pip has nothing to resolve
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$1" 2>.venv/pip.log ||
        { grep -v 'is ignored' .venv/pip.log >&2 || :; stop "Installing $1 failed: see the lines above, mend it and run make again."; }
}
if [ "$(cat .venv/installed 2>/dev/null)" != "$stamp" ]; then
    echo "Installing the packages of requirements.lock (about 2.3 GB on disk, a minute or two)."
    install requirements.lock
    # JupyterLab opens as the course wants it: no dialogs about news and updates, and none of the
    # menus and buttons that the packages of requirements-dev.lock would add.
    mkdir -p .venv/share/jupyter/lab/settings .venv/etc/jupyter/labconfig
    echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' \
        > .venv/share/jupyter/lab/settings/overrides.json
    echo '{"disabledExtensions": {"@jupyter/nbgrader": true, "@jupyter-notebook/lab-extension": true, "jupyterlab-jupytext": true}}' \
        > .venv/etc/jupyter/labconfig/page_config.json
    echo '{"ServerApp": {"jpserver_extensions": {"nbgrader": false, "notebook": false, "jupytext": false}}}' \
        > .venv/etc/jupyter/jupyter_server_config.json
    echo "$stamp" > .venv/installed
fi
if [ -n "$stamp_dev" ] && [ "$(cat .venv/installed-dev 2>/dev/null)" != "$stamp_dev" ]; then
    echo "Installing the packages of requirements-dev.lock (tests and notebook sources)."
    install requirements-dev.lock
    echo "$stamp_dev" > .venv/installed-dev
fi
