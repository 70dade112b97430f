"""Runs the jobs of an experiment in worker processes and tells whether its result is stale.

A finished job is appended to `.cache/experiments/NAME.jsonl` at once, so a run that is killed goes
on where it was. When all are finished, `data/results/NAME.json` is written in one step and that
file is removed. A result is stale when its fingerprint is not that of today's experiment: a hash
of the script's code without comments and docstrings, and one of the models that it builds.
"""

import ast
import concurrent.futures
import contextlib
import fcntl
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import multiprocessing
import os
import platform
import signal
import threading
import time
from pathlib import Path

from tqdm import tqdm

from utils.experiments import RESULTS, ROOT

CACHE = ROOT / ".cache" / "experiments"
WORKERS = 2
# One thread for each worker; TensorFlow reads these when it is imported.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"
)
# What can be decided about a layer of Keras, and about its initializers, regularizers and
# constraints: the arguments that Keras 3.12 knows, the oldest that the course runs with. Later
# ones add arguments, at values that leave everything as it was.
_ARGUMENTS = """
    activation activity_regularizer antialias attention_axes axes axis bias_axes center
    crop_to_aspect_ratio cropping data_format depth_multiplier dilation_rate dims distribution
    dropout epsilon equation factor fill_mode fill_value filters gain groups height
    height_factor interpolation invert keepdims kernel_size key_dim l1 l2 max_value maxval mean
    min_value minval mode momentum moving_mean_initializer moving_variance_initializer n
    negative_slope noise_shape normalize num_heads offset output_shape pad_to_aspect_ratio
    padding pool_size power_iterations rate rms_scaling scale score_mode seed shared_axes size
    stddev strides synchronized target_shape threshold trainable units use_bias use_scale value
    value_dim value_range variance width width_factor
"""
DECISIONS = set(_ARGUMENTS.split()) | {
    f"{weight}_{part}"
    for weight in ("alpha", "beta", "bias", "depthwise", "gamma", "kernel", "pointwise")
    for part in ("constraint", "initializer", "regularizer")
}


class ExperimentError(Exception):
    """A run that cannot start or go on: one sentence that says why."""


class Experiment:
    """One experiment: its script, what is finished, and its committed result.

    Args:
        module: the script's name as `import` takes it.
        results: folder of the committed results.
        cache: folder of the finished jobs of runs that have not ended.

    >>> experiment = Experiment("utils.experiments.degradation")
    >>> experiment.name, experiment.path.name
    ('degradation', 'degradation.json')
    """

    def __init__(self, module: str, results: Path = RESULTS, cache: Path = CACHE):
        self.module = importlib.import_module(module)
        self.name = module.rpartition(".")[2]
        self.path = results / f"{self.name}.json"
        self.journal = cache / f"{self.name}.jsonl"

    @functools.cached_property
    def fingerprint(self) -> dict:
        """A hash of the script's code and one of the models it builds.

        The code is that of the script, and of the modules of `utils.experiments` that it imports
        with `from utils.experiments import …`.
        """
        import keras

        shared = [
            value
            for _, value in sorted(vars(self.module).items())
            if inspect.ismodule(value) and value.__name__.startswith("utils.experiments.")
        ]
        codes = [
            syntax(Path(module.__file__).read_text(encoding="utf-8"))
            for module in (self.module, *shared)
        ]
        # Past a cache, which would keep networks without values for those who train them.
        build = inspect.unwrap(self.module.models)
        # To be looked at, weights need no values, and filling them takes longer.
        with keras.StatelessScope(initialize_variables=False):
            models = [architecture(model) for model in build()]
        return {"code": digest(codes if shared else codes[0]), "models": digest(models)}

    def committed(self) -> dict:
        """Return the committed result, or `{}` if there is none that can be read."""
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def why_stale(self) -> str | None:
        """Return why the committed result is stale, or None if it is current."""
        committed = self.committed()
        if not committed:
            return "it has no result"
        now, then = self.fingerprint, committed.get("fingerprint", {})
        changed = [part for part in now if now[part] != then.get(part)]
        return f"its {' and '.join(changed)} changed" if changed else None

    def plan(self) -> tuple[list, dict]:
        """Return the jobs as pairs of key and settings, and the finished ones by key."""
        basis = [self.fingerprint, versions()]
        jobs = [(digest([*basis, settings]), settings) for settings in self.module.jobs()]
        records = {record["key"]: record for record in _read(self.journal)}
        return jobs, {key: records[key] for key, _ in jobs if key in records}

    def seconds(self, jobs: list) -> float | None:
        """Return about how many processor seconds jobs take by the committed result, if any."""
        past = self.committed().get("jobs")
        if not past:
            return None
        known = {digest(job["settings"]): job["processor_seconds"] for job in past}
        mean = sum(known.values()) / len(known)
        return sum(known.get(digest(settings), mean) for settings in jobs)

    def run(self, executor: concurrent.futures.Executor | None = None, workers: int = WORKERS):
        """Run the jobs that are not finished, then write the result.

        Args:
            executor: runs the jobs; None starts worker processes and ends them. It must be able to
                import the script, and do one job at a time in a process.
            workers: how many processes to start, or how many jobs the executor gets at a time.

        Raises:
            ExperimentError: a job failed, a worker died, or another run is under way.
        """
        with _Journal(self.journal) as journal:
            jobs, finished = self.plan()
            left = {key: settings for key, settings in jobs if key not in finished}
            with contextlib.ExitStack() as stack:
                bar = stack.enter_context(
                    tqdm(desc=self.name, total=len(jobs), initial=len(finished), unit=" jobs")
                )
                if executor is None:
                    executor = stack.enter_context(_processes(min(workers, len(left) or 1)))
                for key, record in _completed(executor, self.module.__name__, left, workers):
                    record = {"key": key, "settings": left[key], **record}
                    journal.append(record)
                    finished[key] = record
                    bar.update()
            self._write([finished[key] for key, _ in jobs], workers)
            self.journal.unlink()

    def _write(self, records, workers):
        jobs = [{name: record[name] for name in record if name != "key"} for record in records]
        seeds = {job["settings"]["seed"] for job in jobs if "seed" in job["settings"]}
        head = {
            "experiment": self.name,
            "notes": inspect.getdoc(self.module),
            "fingerprint": self.fingerprint,
            "versions": versions(),
            "processors": os.cpu_count(),
            "workers": workers,
            "seconds": round(sum(job["seconds"] for job in jobs), 1),
            "processor_seconds": round(sum(job["processor_seconds"] for job in jobs), 1),
            "seeds": sorted(seeds),
            "summary": self.module.summarise(jobs),
        }
        # A job a line, so that a difference of two results can be read.
        lines = ",\n".join("  " + json.dumps(job) for job in jobs)
        text = json.dumps(head, indent=1)[:-2] + f',\n "jobs": [\n{lines}\n ]\n}}\n'
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_name(f".{self.path.name}")
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, self.path)


def syntax(code: str) -> list:
    """Return what a program says without comments, docstrings and formatting.

    Python's own `ast.dump` differs between versions of Python; this does not.

    >>> syntax("x = 1  # one") == syntax("'A docstring.'; x = (1)")
    True
    >>> syntax("x = 1") == syntax("x = 2")
    False
    """
    return _syntax(ast.parse(code))


def _syntax(node):
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 ends a nested format with an empty text.
        node.values = [part for part in node.values if not (_is_text(part) and not part.value)]
    if isinstance(node, ast.AST):
        # Empty fields are left out: each version of Python adds some.
        fields = [(name, _syntax(value)) for name, value in ast.iter_fields(node)]
        return [type(node).__name__, *([name, value] for name, value in fields if value)]
    if isinstance(node, list):
        return [_syntax(item) for item in node if not _is_docstring(item)]
    return None if node is None else repr(node)


def _is_docstring(node):
    return isinstance(node, ast.Expr) and _is_text(node.value)


def _is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def architecture(model) -> list:
    """Return the layers of a Keras model in the order of their calls: what they are and give.

    Args:
        model: a built Keras model.

    Returns:
        For each layer its class, the shape of its output, what was decided about it, and the shapes
        of its weights. It is the same under every version of Keras that the course runs with.

    >>> import keras
    >>> dense = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
    >>> kind, output_shape, decided, weights = architecture(dense)[0]
    >>> kind, output_shape, decided["units"], decided["kernel_initializer"], weights
    ('Dense', (2,), 2, ['GlorotUniform', {'seed': None}], [(3, 2), (2,)])
    """
    from utils.cost import count

    return [
        (
            row.kind,
            row.output_shape,
            _decided(row.layer),
            [tuple(weight.shape) for weight in row.layer.weights],
        )
        for row in count(model).layers
    ]


def _decided(layer):
    """Return what the course decides about a layer; the rest of its configuration is Keras'."""
    names = DECISIONS.copy()
    for kind in type(layer).__mro__:
        if not _is_keras(kind.__module__) and "__init__" in vars(kind):
            names |= set(inspect.signature(kind.__init__).parameters)
    config = {key: value for key, value in layer.get_config().items() if key in names - {"name"}}
    if hasattr(layer, "dtype_policy"):
        config["dtype"] = layer.dtype_policy.name
    return _plain(config)


def _plain(value):
    """Return a part of a configuration without what Keras writes down for its own use."""
    if isinstance(value, dict) and "class_name" in value:
        config = value["config"]
        if not isinstance(config, dict):
            return config  # a function, which is known by its name
        if _is_keras(value.get("module")):
            config = {key: item for key, item in config.items() if key in DECISIONS}
        return [value["class_name"], _plain(config)]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _is_keras(module):
    return (module or "").partition(".")[0] == "keras"


def digest(data) -> str:
    """Return a short hash of plain data.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(data, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> dict:
    """Return the versions that a result depends on, without importing the packages.

    >>> list(versions())
    ['python', 'tensorflow', 'keras', 'numpy']
    """
    found = {"python": platform.python_version()}
    for name in ("tensorflow", "keras", "numpy"):
        # The CPU build of TensorFlow is a distribution of its own.
        for distribution in (name, f"{name}-cpu"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(distribution)
    return found


def work(module: str, settings: dict) -> dict:
    """Do one job in the process that calls this; returns its result and how long it took."""
    run = importlib.import_module(module).run
    wall, processor = time.perf_counter(), time.process_time()
    result = run(settings)
    return {
        "seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "result": result,
    }


@contextlib.contextmanager
def _processes(workers):
    executor = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker
    )
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def _start_worker():
    # Ctrl-C reaches the whole process group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(ONE_THREAD)
    # A worker whose parent was killed would wait for its next job for ever.
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _completed(executor, module, jobs, workers):
    """Yield key and outcome of each job as it ends; after a failure, of those under way."""
    waiting, futures, failure = list(reversed(jobs.items())), {}, None
    while True:
        # No more than there are workers: what an executor has not been given need not be taken back
        # from it, which not all can do without losing what is under way.
        while waiting and failure is None and len(futures) < workers:
            key, settings = waiting.pop()
            try:
                futures[executor.submit(work, module, settings)] = key, settings
            except concurrent.futures.BrokenExecutor as error:
                failure = error, settings
        if not futures:
            break
        for future in concurrent.futures.wait(futures, return_when="FIRST_COMPLETED").done:
            key, settings = futures.pop(future)
            if future.cancelled():
                error = concurrent.futures.CancelledError("the executor gave it up")
            else:
                error = future.exception()
            if error is None:
                yield key, future.result()
            elif failure is None:
                failure = error, settings
        # A cluster keeps a result as long as somebody holds its future; where the worker that has
        # it dies, the job would be done again.
        del future
    if failure is not None:
        error, settings = failure
        if isinstance(error, concurrent.futures.BrokenExecutor):
            what = "a worker process was killed, perhaps because memory ran out"
        else:
            what = f"the job {settings} failed with {type(error).__name__}: {error}"
        raise ExperimentError(
            f"{module.rpartition('.')[2]}: {what}; what is finished is kept for the next run"
        ) from error


class _Journal:
    """The file of finished jobs, held by one run at a time; the system lets go of it."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("ab")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise ExperimentError(f"{self.path.stem}: another run is under way") from None
        # A line that a killed run left unfinished must not swallow the next one.
        if self.path.stat().st_size and not self.path.read_bytes().endswith(b"\n"):
            os.write(self.file.fileno(), b"\n")
        return self

    def __exit__(self, *_):
        self.file.close()

    def append(self, record):
        # In one call, so that a killed run leaves a whole line or one without its end.
        os.write(self.file.fileno(), json.dumps(record).encode() + b"\n")
        os.fsync(self.file.fileno())


def _read(path):
    """Return the records of a journal; lines that are not whole do not count."""
    records = []
    if path.exists():
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                records.append(json.loads(line))
    return records
