import concurrent.futures
import fcntl
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import distributed
import keras
import numpy as np
import psutil  # comes with ipykernel
import pytest
import tensorflow as tf

from utils import experiments
from utils.data import load
from utils.experiments import cluster, degradation, solar
from utils.experiments.__main__ import known, main
from utils.experiments.runner import Experiment, ExperimentError, architecture, digest, syntax
from utils.mobilenet_v3 import hard_swish
from utils.residual import ResidualBlock, ZeroPadShortcut

PROJECT = Path(__file__).resolve().parent.parent
PATH = (PROJECT, *os.environ.get("PYTHONPATH", "").split(os.pathsep))

# Each job writes its seed and process to a log. With a file `gate` there is, seeds from 3 on wait
# until it has gone.
TOY = '''
"""A toy."""
import os, time
from pathlib import Path

HERE = Path(__file__).parent

def jobs():
    return [{"seed": seed} for seed in range(6)]

def run(settings):
    seed = settings["seed"]
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS")
    with open(HERE / "log", "a") as log:
        log.write(f"{seed} {os.getpid()} {threads}\\n")
    while seed >= 3 and (HERE / "gate").exists():
        time.sleep(0.01)
    if seed == 4 and (HERE / "bug").exists():
        raise KeyError("bug")
    if (HERE / "slow").exists():
        time.sleep(0.2)
    if seed == 4 and (HERE / "kill").exists():
        (HERE / "kill").unlink()
        while (HERE / "toy.jsonl").read_bytes().count(b"\\n") < 4:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), 9)
    return {"square": seed**2}

def summarise(jobs):
    return {"sum": sum(job["result"]["square"] for job in jobs)}

def models():
    return []
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that opens the toy experiment anew; `toy.folder` has its files."""
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    opened = functools.partial(Experiment, "toy", results=tmp_path / "results", cache=tmp_path)
    opened.folder = tmp_path
    return opened


def threads():
    return concurrent.futures.ThreadPoolExecutor(1)


def started(folder):
    """How often each seed was started."""
    seeds = [int(line.split()[0]) for line in (folder / "log").read_text().splitlines()]
    return [seeds.count(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def scheduler():
    """The address of a Dask scheduler with two workers."""
    quiet = {"silence_logs": "CRITICAL", "dashboard_address": ":0"}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, **quiet
    ) as cluster:
        cluster.wait_for_workers(2)
        yield cluster.scheduler_address


@pytest.fixture
def far_toy(toy, scheduler):
    """The toy where the workers of the scheduler can import it, those that start later, too."""
    folder = str(toy.folder)

    class Finds(distributed.WorkerPlugin):
        def setup(self, worker):
            sys.path.insert(0, folder)
            sys.modules.pop("toy", None)

        def teardown(self, worker):
            sys.path.remove(folder)

    with distributed.Client(scheduler, set_as_default=False) as client:
        client.register_plugin(Finds(), name="toy")
        client.wait_for_workers(2)  # one that was killed is started again
        yield toy
        (toy.folder / "gate").unlink(missing_ok=True)
        client.unregister_worker_plugin("toy")


def command(folder, *arguments):
    """Start the command in a process of its own, with the toy as its one experiment."""
    # As a file, since workers import the main program again.
    script = folder / "command.py"
    script.write_text(
        "import signal, sys; from pathlib import Path\n"
        "from utils.experiments.__main__ import main\n"
        "if __name__ == '__main__':\n"
        # What a script starts in the background ignores Ctrl-C, and these tests may run there.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    here = Path(__file__).parent\n"
        "    folders = {'results': here / 'results', 'cache': here}\n"
        "    sys.exit(main(sys.argv[1:], {'toy': 'toy'}, **folders))\n"
    )
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *map(str, PATH)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(condition):
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lives(process):
    try:
        # An orphan that nobody has reaped yet has ended, too.
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_result_has_jobs_seeds_versions_and_times(toy):
    with threads() as executor:
        toy().run(executor)
    found = experiments.result("toy", toy.folder / "results")
    assert found["summary"] == {"sum": 55}
    assert found["seeds"] == list(range(6))
    assert [job["settings"] for job in found["jobs"]] == [{"seed": seed} for seed in range(6)]
    assert [job["result"]["square"] for job in found["jobs"]] == [0, 1, 4, 9, 16, 25]
    assert {"seconds", "processor_seconds"} <= set(found["jobs"][0]) & set(found)
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["keras"] == keras.__version__
    assert found["versions"]["tensorflow"].startswith("2.")
    assert found["processors"] == os.cpu_count()
    assert toy().why_stale() is None
    assert [path.name for path in (toy.folder / "results").iterdir()] == ["toy.json"]


@pytest.mark.parametrize(("end", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_killed_run_loses_and_repeats_nothing(toy, end, code):
    (toy.folder / "gate").touch()
    journal = toy().journal
    run = command(toy.folder)
    try:
        wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") == 3)
        wait_for(lambda: sum(started(toy.folder)) == 5)  # two workers, at seeds 3 and 4
        if end == signal.SIGINT:
            os.killpg(run.pid, end)  # as Ctrl-C in a terminal does
        else:
            run.send_signal(end)
        out, _ = run.communicate(timeout=600)
        assert run.returncode == code
        assert (b"stopped; what is finished is kept" in out) == (end == signal.SIGINT)
    finally:
        run.kill()

    workers = {int(line.split()[1]) for line in (toy.folder / "log").read_text().splitlines()}
    assert len(workers) == 2
    wait_for(lambda: not any(map(lives, workers)))
    assert toy().why_stale() == "it has no result"

    (toy.folder / "gate").unlink()
    with threads() as executor:
        toy().run(executor)
    assert started(toy.folder) == [1, 1, 1, 2, 2, 1]
    assert experiments.result("toy", toy.folder / "results")["summary"] == {"sum": 55}
    assert not journal.exists()


def test_killed_worker_loses_and_repeats_nothing(toy):
    (toy.folder / "kill").touch()
    with pytest.raises(ExperimentError, match=r"^toy: a worker process was killed.* next run$"):
        toy().run(workers=1)
    toy().run(workers=1)
    assert started(toy.folder) == [1, 1, 1, 1, 2, 1]
    assert toy().why_stale() is None


class Broken(concurrent.futures.Executor):
    def submit(self, *args):
        raise concurrent.futures.BrokenExecutor


class GivesUp(concurrent.futures.Executor):
    def submit(self, *args):
        future = concurrent.futures.Future()
        future.cancel()
        future.set_running_or_notify_cancel()  # or nobody who waits for it learns of it
        return future


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Broken, "toy: a worker process was killed, perhaps because memory ran out; "),
        (GivesUp, r"toy: the job .* failed with CancelledError: the executor gave it up; "),
    ],
)
def test_executor_that_fails(toy, kind, sentence):
    with pytest.raises(ExperimentError, match=sentence):
        toy().run(kind())


def test_executor_gets_as_many_jobs_as_it_has_workers(toy):
    """What waits in its queue would be lost with it, or would have to be taken back."""
    most, waiting = [], []

    class Counts(concurrent.futures.ThreadPoolExecutor):
        def submit(self, *args):
            waiting.append(super().submit(*args))
            most.append(sum(not future.done() for future in waiting))
            return waiting[-1]

    (toy.folder / "slow").touch()
    with Counts(1) as executor:
        toy().run(executor, workers=3)
    assert most[:3] == [1, 2, 3]
    assert max(most) == 3
    assert toy().why_stale() is None


def test_cluster_does_the_jobs_with_one_thread(far_toy, scheduler):
    folders = {"results": far_toy.folder / "results", "cache": far_toy.folder}
    (far_toy.folder / "slow").touch()
    assert main(["--scheduler", scheduler], {"toy": "toy"}, **folders) == 0
    found = experiments.result("toy", far_toy.folder / "results")
    assert found["summary"] == {"sum": 55}
    assert found["workers"] == 2
    lines = [line.split() for line in (far_toy.folder / "log").read_text().splitlines()]
    assert sorted(seed for seed, _, _ in lines) == list("012345")
    assert len({process for _, process, _ in lines}) == 2
    assert {threads for _, _, threads in lines} == {"1"}


def test_dead_worker_of_a_cluster_loses_and_repeats_nothing(far_toy, scheduler):
    """Another one does the job that it was doing; what it had finished is not done again."""
    (far_toy.folder / "kill").touch()
    with cluster.connect(scheduler) as (executor, workers):
        far_toy().run(executor, workers)
    assert not (far_toy.folder / "kill").exists()
    assert started(far_toy.folder) == [1, 1, 1, 1, 2, 1]
    lines = (far_toy.folder / "log").read_text().splitlines()
    assert {line.split()[2] for line in lines} == {"1"}
    assert far_toy().why_stale() is None


def test_killed_run_on_a_cluster_loses_and_repeats_nothing(far_toy, scheduler):
    (far_toy.folder / "gate").touch()
    journal = far_toy().journal
    run = command(far_toy.folder, "--scheduler", scheduler)
    try:
        wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") == 3)
        wait_for(lambda: sum(started(far_toy.folder)) == 5)  # two workers, at seeds 3 and 4
    finally:
        run.kill()
        run.communicate()
    (far_toy.folder / "gate").unlink()
    with cluster.connect(scheduler) as (executor, workers):
        far_toy().run(executor, workers)
    assert started(far_toy.folder) == [1, 1, 1, 2, 2, 1]
    assert experiments.result("toy", far_toy.folder / "results")["summary"] == {"sum": 55}


def test_failed_job_on_a_cluster_is_named(far_toy, scheduler, capsys):
    folders = {"results": far_toy.folder / "results", "cache": far_toy.folder}
    (far_toy.folder / "bug").touch()
    assert main(["--scheduler", scheduler], {"toy": "toy"}, **folders) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: toy: the job {'seed': 4} failed with KeyError: 'bug'; "
        "what is finished is kept for the next run"
    )
    (far_toy.folder / "bug").unlink()
    assert len(far_toy().plan()[1]) >= 4  # the one under way when it failed, too
    # The failure is not remembered, though the settings are the same.
    assert main(["--scheduler", scheduler], {"toy": "toy"}, **folders) == 0
    assert experiments.result("toy", far_toy.folder / "results")["summary"] == {"sum": 55}


@pytest.mark.parametrize(
    ("workers", "threads", "sentence"),
    [
        (0, 1, "it has no workers yet"),
        (1, 2, "the worker .* has 2 threads for jobs; start it with --nthreads 1, "),
        (1, 1, "the worker .* has TensorFlow running with other numbers of threads; start it"),
    ],
)
def test_cluster_that_will_not_do(workers, threads, sentence, monkeypatch, capsys):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    quiet = {"silence_logs": "CRITICAL", "dashboard_address": ":0"}
    # Workers in this process, where TensorFlow has been imported.
    with distributed.LocalCluster(
        n_workers=workers, threads_per_worker=threads, processes=False, **quiet
    ) as here:
        assert main(["--scheduler", here.scheduler_address]) == 1
    assert re.match(f"error: --scheduler=inproc.*: {sentence}", capsys.readouterr().err)


def test_scheduler_that_does_not_answer(monkeypatch, capsys):
    monkeypatch.setattr(cluster, "SECONDS", 0.5)
    with socket.socket() as server:  # bound, and nobody listens
        server.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert main(["--scheduler", address]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.splitlines()[-1] == (
        f"error: --scheduler={address}: no Dask scheduler answers there; "
        "expected an address such as tcp://192.168.0.5:8786"
    )


def test_cluster_without_its_package(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "utils.experiments.cluster")
    monkeypatch.delattr(experiments, "cluster")
    assert main(["--scheduler", "tcp://127.0.0.1:8786"]) == 1
    assert capsys.readouterr().err == (
        "error: --scheduler=tcp://127.0.0.1:8786: the package distributed is missing; "
        f"install it with {sys.executable} -m pip install -r requirements-cluster.txt\n"
    )
    assert (PROJECT / "requirements-cluster.txt").exists()


def test_failed_job_ends_the_run(toy):
    (toy.folder / "toy.py").write_text(TOY.replace("range(6)", "[4, 0, 1, 2, 3, 5]"))
    (toy.folder / "bug").touch()
    (toy.folder / "slow").touch()
    with threads() as executor, pytest.raises(ExperimentError, match="KeyError: 'bug'"):
        toy().run(executor)
    assert sum(started(toy.folder)) <= 2


def test_failed_job_is_named(toy, capsys):
    (toy.folder / "bug").touch()
    folders = {"results": toy.folder / "results", "cache": toy.folder}
    assert main(["--workers", "1"], {"toy": "toy"}, **folders) == 1
    error = capsys.readouterr().err
    assert "in run" in error  # where it happened
    assert error.splitlines()[-1] == (
        "error: toy: the job {'seed': 4} failed with KeyError: 'bug'; "
        "what is finished is kept for the next run"
    )
    assert main(["--check"], {"toy": "toy"}, **folders) == 1
    assert "stale, it has no result; 6 jobs, " in capsys.readouterr().out


@pytest.mark.parametrize("tail", [b'{"key": "', b"\0\xff\n"])
def test_broken_end_of_journal(toy, tail):
    experiment = toy()
    jobs, _ = experiment.plan()
    record = {"seconds": 0.0, "processor_seconds": 0.0, "result": {"square": 100}}
    lines = [json.dumps({"key": key, "settings": what, **record}) + "\n" for key, what in jobs[:2]]
    experiment.journal.write_bytes("".join(lines).encode() + tail)
    (toy.folder / "bug").touch()
    with threads() as executor, pytest.raises(ExperimentError):
        toy().run(executor)
    (toy.folder / "bug").unlink()
    with threads() as executor:
        toy().run(executor)
    # The first job after the broken end is read back like all others.
    assert started(toy.folder) == [0, 0, 1, 1, 2, 1]
    assert experiments.result("toy", toy.folder / "results")["summary"] == {"sum": 254}


def test_what_makes_a_result_stale(toy, capsys):
    folders = {"results": toy.folder / "results", "cache": toy.folder}
    script = toy.folder / "toy.py"
    with threads() as executor:
        toy().run(executor)

    def check():
        code = main(["--check"], {"toy": "toy"}, **folders)
        return code, capsys.readouterr().out.split(";")[0]

    current = 0, "toy: current"
    assert check() == current
    script.write_text(TOY.replace('"""A toy."""', '"""Another."""\n# why\n').replace("**", " ** "))
    assert check() == current
    script.write_text(TOY.replace("**2", "**3"))
    assert check() == (1, "toy: stale, its code changed")
    script.write_text(TOY.replace("range(6)", "range(7)"))
    assert check() == (1, "toy: stale, its code changed")
    script.write_text(TOY)
    assert check() == current
    toy().path.write_text(toy().path.read_text()[:-10])
    assert check() == (1, "toy: stale, it has no result")


def test_finished_jobs_of_other_code_do_not_count(toy):
    (toy.folder / "bug").touch()
    with threads() as executor, pytest.raises(ExperimentError):
        toy().run(executor)
    assert len(toy().plan()[1]) >= 4
    (toy.folder / "toy.py").write_text(TOY.replace("**2", "**3"))
    assert toy().plan()[1] == {}


def test_current_result_runs_only_by_force(toy):
    folders = {"results": toy.folder / "results", "cache": toy.folder}
    for arguments, runs in (([], 1), ([], 1), (["--list"], 1), (["--force"], 2)):
        assert main([*arguments, "--workers", "1"], {"toy": "toy"}, **folders) == 0
        assert started(toy.folder) == [runs] * 6


def test_one_run_at_a_time(toy):
    journal = toy().journal
    with journal.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(ExperimentError, match=r"^toy: another run is under way$"):
            toy().run()
    with threads() as executor:
        toy().run(executor)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["degradatoin"],
            f"error: NAME='degradatoin': expected one of {', '.join(map(repr, known()))}\n",
        ),
        (["--workers", "0"], "error: --workers=0: expected 1 or more\n"),
    ],
)
def test_wrong_arguments(arguments, sentence, capsys):
    assert main(arguments) == 1
    assert capsys.readouterr() == ("", sentence)


def test_result_that_is_missing():
    with pytest.raises(ValueError, match=r"^name='nothing': expected .*'degradation'.*\.?$"):
        experiments.result("nothing")


def test_hash_of_code_is_the_same_on_every_python():
    code = '''
@decorated(a, *b, **{"c": None})
def f(x: int = -1, /, *y, z=...) -> None:
    """Docstring."""
    return [f"{x!r:>{z}}" "text" for i, in y if (n := i)], lambda: (yield), x[1:, ::2], 1j, b"\\0"
'''
    assert digest(syntax(code)) == "e4a3cfffac62cf0a"


def test_committed_results_are_current(capsys):
    assert main(["--check"]) == 0
    assert "degradation: current;" in capsys.readouterr().out
    assert set(known()) == {path.stem for path in experiments.RESULTS.glob("*.json")}


def test_committed_degradation_bears_out_the_lesson():
    found = experiments.result("degradation")
    assert found["summary"] == degradation.summarise(found["jobs"])
    assert [job["settings"] for job in found["jobs"]] == degradation.jobs()
    assert len(found["seeds"]) >= 3
    rows = {
        (row["depth"], row["residual"]): row
        for row in found["summary"]
        if row["learning_rate"] == degradation.LEARNING_RATE
    }
    assert len(rows) == 6
    plain = [rows[depth, False]["loss"] for depth in degradation.DEPTHS]
    residual = [rows[depth, True]["loss"] for depth in degradation.DEPTHS]
    # Plain: deeper is worse, and 56 layers do not learn. Residual: deeper is better.
    assert plain[0]["max"] < plain[1]["min"] < plain[1]["max"] < plain[2]["min"]
    assert plain[2]["min"] > 0.5
    assert max(residual[1]["max"], residual[2]["max"]) < residual[0]["min"] / 5
    assert max(rows[32, True]["epochs_to_fit"]) < min(rows[32, False]["epochs_to_fit"])
    # A lower learning rate and more epochs help the plain 56 layers, but not enough.
    second_chance = min(
        row["loss"]["min"] for row in found["summary"] if row["learning_rate"] < 0.05
    )
    assert 100 * residual[2]["max"] < second_chance < plain[2]["min"]
    # Its gradients do not vanish towards the input, they explode.
    norms = {key: row["gradient_norms"] for key, row in rows.items()}
    assert norms[56, False]["first"] > 100 * norms[56, False]["last"]
    assert 0.2 < norms[56, True]["first"] / norms[56, True]["last"] < 5


def changed(input_shape=(8, 8, 1), **options):
    return degradation.ResNetCIFAR(8, input_shape, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"filters": 8},
        {"momentum": 0.99},
        {"residual": False},
        {"shortcut": "projection"},
        {"input_shape": (9, 8, 1)},
        {"input_shape": (8, 8, 3)},
    ],
)
def test_changed_model_makes_stale(options):
    assert digest(architecture(changed())) == digest(architecture(changed()))
    assert digest(architecture(changed(**options))) != digest(architecture(changed()))


LAYERS = {
    "conv": (keras.layers.Conv2D, {"filters": 4, "kernel_size": 3, "padding": "same"}),
    "norm": (keras.layers.BatchNormalization, {}),
    "dense": (keras.layers.Dense, {"units": 4}),
    "relu": (keras.layers.ReLU, {}),
    "dropout": (keras.layers.Dropout, {"rate": 0.1}),
    "pool": (keras.layers.MaxPooling2D, {"pool_size": 2}),
    "shortcut": (ZeroPadShortcut, {"filters": 8}),
}


def hash_of(kind, **options):
    layer, before = LAYERS[kind]
    network = keras.Sequential([keras.Input((8, 8, 4)), layer(**{**before, **options})])
    return digest(architecture(network))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("conv", {"strides": 2}),
        ("conv", {"padding": "valid"}),
        ("conv", {"dilation_rate": 2}),
        ("conv", {"groups": 2}),
        ("conv", {"kernel_size": 5}),
        ("conv", {"use_bias": False}),
        ("conv", {"activation": "relu"}),
        ("conv", {"activation": hard_swish}),
        ("conv", {"kernel_initializer": "he_normal"}),
        ("conv", {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.1)}),
        ("conv", {"kernel_regularizer": keras.regularizers.L2(0.1)}),
        ("conv", {"kernel_regularizer": keras.regularizers.L2(0.2)}),
        ("conv", {"kernel_constraint": keras.constraints.MaxNorm(3)}),
        ("conv", {"dtype": "mixed_float16"}),
        ("conv", {"trainable": False}),
        ("norm", {"momentum": 0.9}),
        ("norm", {"epsilon": 1e-5}),
        ("norm", {"axis": 1}),
        ("norm", {"scale": False}),
        ("norm", {"gamma_initializer": "zeros"}),
        ("dense", {"units": 5}),
        ("dense", {"bias_initializer": "ones"}),
        ("relu", {"max_value": 6}),
        ("relu", {"negative_slope": 0.1}),
        ("dropout", {"rate": 0.2}),
        ("pool", {"pool_size": 3, "strides": 2, "padding": "same"}),
        ("shortcut", {"filters": 9}),
        ("shortcut", {"strides": 2}),
    ],
)
def test_changed_layer_makes_stale(kind, options):
    assert hash_of(kind) == hash_of(kind, name="other")
    assert hash_of(kind, **options) != hash_of(kind)


def test_what_another_keras_writes_down_does_not_make_stale(monkeypatch):
    """Keras 3.15 did this to batch norm, dense layers and initializers."""
    kinds = [keras.layers.BatchNormalization, keras.layers.Dense, keras.initializers.GlorotUniform]
    hashes = hash_of("norm"), hash_of("dense"), digest(architecture(changed()))
    for kind in kinds:

        def get_config(self, real=kind.get_config):
            return {**real(self), "novelty": False, "novelty_rate": 0.99}

        monkeypatch.setattr(kind, "get_config", get_config)
    assert "novelty" in keras.layers.Dense(4).get_config()
    assert "novelty" in str(keras.layers.Conv2D(4, 3).get_config())
    assert hashes == (hash_of("norm"), hash_of("dense"), digest(architecture(changed())))


def test_fingerprint_of_a_model_is_the_same_under_every_keras():
    assert digest(architecture(changed())) == "d26e2c115bca76f1"


def test_changed_order_of_layers_makes_stale(monkeypatch):
    before = digest(architecture(changed()))

    def call(self, inputs):
        outputs = self.relu(self.convs[1](self.convs[0](inputs)))
        return self.add([inputs if self.resize is None else self.resize(inputs), outputs])

    monkeypatch.setattr(ResidualBlock, "call", call)
    assert digest(architecture(changed())) != before


def test_degradation_trains():
    seen = degradation.run(degradation.settings(8, residual=True, seed=3, epochs=2))
    assert len(seen["gradient_norms"]) == 7
    for name in ("loss", "inference_loss", "accuracy", "val_loss", "val_accuracy"):
        assert len(seen[name]) == 2
        assert np.isfinite(seen[name]).all()
    assert seen["loss"][1] < seen["loss"][0] < 3
    assert seen["inference_loss"][1] < seen["inference_loss"][0]

    # The seed decides the first weights.
    keras.utils.set_random_seed(3)
    network = degradation.model(8, residual=True)
    network.compile(loss="sparse_categorical_crossentropy")
    images, labels = next(iter(load("digits", "train", channels=1, batch_size=128)))
    norms = degradation.gradient_norms(network, images, labels)
    assert norms == pytest.approx(seen["gradient_norms"], rel=0.01)


def test_gradient_norms():
    keras.utils.set_random_seed(0)
    network = degradation.model(8, residual=True)
    network.compile(loss="sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    images, labels = rng.random((32, 8, 8, 1), dtype="float32"), rng.integers(0, 10, 32)
    before = [weight.numpy() for weight in network.weights]
    norms = degradation.gradient_norms(network, images, labels)
    for weight, value in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)

    blocks = [network.get_layer(f"stage{stage}_block1") for stage in (1, 2, 3)]
    convs = [network.get_layer("stem"), *(conv for block in blocks for conv in block.convs)]
    with tf.GradientTape() as tape:
        right = tf.gather(network(images, training=True), labels, batch_dims=1)
        loss = -tf.reduce_mean(tf.math.log(right))
    gradients = tape.gradient(loss, [conv.conv.kernel.value for conv in convs])
    assert norms == pytest.approx([np.linalg.norm(gradient) for gradient in gradients], rel=1e-3)


def test_fingerprint_covers_the_shared_recipe(monkeypatch):
    experiment = Experiment("utils.experiments.degradation")
    monkeypatch.setattr(experiment.module, "models", list)
    before = experiment.fingerprint["code"]
    monkeypatch.setattr(experiment.module, "solar", solar, raising=False)
    del experiment.fingerprint
    assert experiment.fingerprint["code"] != before
