# Makes .venv, or leaves it alone if it is what the lock files ask for.
#   sh utils/course/environment.sh lab|dev [python]     sh utils/course/environment.sh lock
#   sh utils/course/environment.sh backends    makes .cache/backends, with JAX in place of TensorFlow
#   sh utils/course/environment.sh clean       removes the environment
# Speaks one sentence and exits 1 where the course cannot run, before anything is installed.
set -eu

stop() {
    echo "$1" >&2
    exit 1
}

supported() { # does this interpreter run, and is it 3.11, 3.12 or 3.13?
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# Another Python's settings would mislead this one: unset PYTHONHOME, PYTHONPATH and the like.
for name in $(env | sed -n 's/^\(PYTHON[A-Z][A-Z0-9]*\)=.*/\1/p'); do
    unset "$name"
done

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
    stamp="$(pwd -P) $(cksum < requirements-backends.txt)"
    [ "$(cat .cache/backends/installed 2>/dev/null)" = "$stamp" ] && exit 0
    echo "Installing the packages of requirements-backends.txt (about 0.7 GB on disk)."
    .venv/bin/python -m venv --clear .cache/backends
    .cache/backends/bin/python utils/course/packages.py install requirements-backends.txt
    echo "$stamp" > .cache/backends/installed
    exit 0
fi

# A link may lead to a larger disk: it stays, and what it leads to is only ever an environment.
if [ -L .venv ]; then
    [ -d .venv/ ] || stop ".venv is a link to $(readlink .venv), and there is no such folder: make it, or remove the link."
    [ -f .venv/pyvenv.cfg ] || [ -z "$(ls -A .venv/)" ] ||
        stop ".venv is a link to $(readlink .venv), and something else than an environment is there: empty that folder, or remove the link."
fi

if [ "$goal" = clean ]; then
    if [ -L .venv ]; then
        find .venv/ -mindepth 1 -delete
    else
        rm -rf .venv
    fi
    exit 0
fi

course=$(pwd -P)
# What this script writes below counts as much as the packages do.
stamp="$course $(cat requirements.lock utils/course/environment.sh | cksum)"
[ "$goal" = dev ] && stamp_dev="$(cksum < requirements-dev.lock)" || stamp_dev=
[ "$goal" = dev ] && locks="requirements.lock requirements-dev.lock" || locks=requirements.lock
if [ -x .venv/bin/python ] && [ "$(cat .venv/installed 2>/dev/null)" = "$stamp" ] &&
    { [ -z "$stamp_dev" ] || [ "$(cat .venv/installed-dev 2>/dev/null)" = "$stamp_dev" ]; } &&
    { [ -z "${2-}" ] || [ "$(cat .venv/chosen 2>/dev/null)" = "$2" ]; }; then
    # shellcheck disable=SC2086  # two files, two words
    .venv/bin/python utils/course/packages.py check $locks 2>/dev/null && exit 0
    # Something was removed, or has another version than the lock says: install it again.
    rm -f .venv/installed .venv/installed-dev
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
if [ "$(cat .venv/made 2>/dev/null)" != "$course $version" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "Making .venv with $("$python" --version) ($python)."
    folder=.venv # venv refuses a link
    [ -L .venv ] && folder=$(cd -P .venv && pwd) || rm -rf .venv
    "$python" -m venv --clear "$folder"
    echo "$course $version" > .venv/made
fi
[ -z "${2-}" ] || echo "$2" > .venv/chosen

if [ "$(cat .venv/installed 2>/dev/null)" != "$stamp" ]; then
    echo "Installing the packages of requirements.lock (about 2.3 GB on disk, a minute or two)."
    .venv/bin/python utils/course/packages.py install requirements.lock
    # JupyterLab opens as the course wants it: no dialogs about news and updates, and none of the
    # menus, buttons and server extensions that the packages of requirements-dev.lock would add.
    mkdir -p .venv/share/jupyter/lab/settings .venv/etc/jupyter/labconfig
    echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' \
        > .venv/share/jupyter/lab/settings/overrides.json
    echo '{"disabledExtensions": {"@jupyter/nbgrader": true, "@jupyter-notebook/lab-extension": true, "jupyterlab-jupytext": true}}' \
        > .venv/etc/jupyter/labconfig/page_config.json
    cat > .venv/etc/jupyter/jupyter_server_config.json <<'END'
{"ServerApp": {"jpserver_extensions": {
    "jupyterlab_jupytext": false,
    "nbgrader.server_extensions.assignment_list": false,
    "nbgrader.server_extensions.course_list": false,
    "nbgrader.server_extensions.formgrader": false,
    "nbgrader.server_extensions.validate_assignment": false,
    "notebook": false
}}}
END
    echo "$stamp" > .venv/installed
fi
if [ -n "$stamp_dev" ] && [ "$(cat .venv/installed-dev 2>/dev/null)" != "$stamp_dev" ]; then
    echo "Installing the packages of requirements-dev.lock (tests and notebook sources)."
    .venv/bin/python utils/course/packages.py install requirements-dev.lock
    echo "$stamp_dev" > .venv/installed-dev
fi
