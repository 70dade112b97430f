"""Settings of every pytest run that re-executes notebooks with `--nbval`."""

from pathlib import Path

# Sources of notebooks, not modules: `--doctest-modules` would import them.
collect_ignore_glob = ["solutions/*.py"]
DEFAULTS = {"nbval_cell_timeout": 2000, "nbval_kernel_startup_timeout": 60}


def pytest_configure(config):
    """Run notebooks in this environment, with limits, and compare them but for picture data."""
    option = config.option
    option.nbval_current_env = True
    for name, default in DEFAULTS.items():
        if getattr(option, name) == default:
            setattr(option, name, 120)
    # nbval takes a relative path from the current directory, wherever that is.
    option.nbval_sanitize_with = str(Path(__file__).with_name("tests") / "nbval_sanitize.cfg")
