import keras
import numpy as np
import pytest
from sklearn import metrics

from utils import transfer
from utils.blocks import ConvBlock
from utils.efficientnet import EfficientNet

pytestmark = pytest.mark.usefixtures("eager")


def small():
    keras.utils.set_random_seed(0)
    shape = (None, None, 3)
    backbone = EfficientNet(0.1, 0.3, input_shape=shape, include_top=False, lite=True)
    return transfer.attach_head(backbone, 2)


def tiny():
    """One convolution: what takes many steps is tested on it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    return transfer.attach_head(keras.Model(inputs, ConvBlock(8, 3, 2)(inputs)), 2, dropout=0.5)


def cells(number=24, size=32, seed=0):
    """Bright or dark squares, and the share of each class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=number)
    noise = rng.normal(0, 0.3, (number, size, size, 1))
    return (noise + labels[:, None, None, None]).astype("float32"), np.eye(2)[labels]


def values(network):
    return [keras.ops.convert_to_numpy(weight) for weight in network.weights]


def test_the_head_is_dense_on_pooled_maps():
    network = small()
    images, _ = cells(5)
    maps = keras.Model(network.input, network.get_layer("avg_pool").input)
    pooled = maps.predict(np.repeat(images, 3, -1), verbose=0).mean(axis=(1, 2))
    np.testing.assert_allclose(transfer.features(network, images), pooled, atol=1e-5)
    head = network.layers[-1]
    logits = pooled @ head.get_weights()[0] + head.get_weights()[1]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(transfer.predict(network, images), expected, atol=1e-5)


def test_batch_norms_at_any_depth_keep_their_statistics_and_the_rest_learns():
    network = small()
    norms = [
        layer
        for layer in network._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert transfer.freeze_batch_norm(network) == len(norms) > 10
    of_norms = {id(weight) for norm in norms for weight in norm.weights}
    before = values(network)
    images, targets = cells()
    transfer.unfreeze(network)
    transfer.fine_tune(network, images, targets, epochs=1, learning_rate=1e-2)
    for weight, old, new in zip(network.weights, before, values(network), strict=True):
        assert np.array_equal(old, new) == (id(weight) in of_norms), weight.path


def test_a_batch_norm_that_is_not_frozen_would_move():
    network = small()
    before = values(network)
    transfer.fine_tune(network, *cells(), epochs=1)
    moved = [
        weight.path
        for weight, old, new in zip(network.weights, before, values(network), strict=True)
        if "moving" in weight.path and not np.array_equal(old, new)
    ]
    assert len(moved) > 10


@pytest.mark.parametrize("blocks", [0, 1, 3, None])
def test_only_the_last_blocks_learn(blocks):
    network = small()
    trainable = transfer.unfreeze(network, blocks)
    before = values(network)
    transfer.fine_tune(network, *cells(), epochs=1, learning_rate=1e-2)
    changed = [
        not np.array_equal(old, new) for old, new in zip(before, values(network), strict=True)
    ]
    sizes = [old.size for old, change in zip(before, changed, strict=True) if change]
    assert sum(sizes) == trainable
    *backbone, head = [layer for layer in network.layers if layer.weights]
    learning = [bool(layer.trainable_weights) for layer in backbone]
    count = len(backbone) if blocks is None else blocks
    assert learning == [False] * (len(backbone) - count) + [True] * count
    assert len(head.trainable_weights) == 2


def test_unfreezing_less_freezes_what_learned_before():
    network = small()
    everything = transfer.unfreeze(network)
    assert transfer.unfreeze(network, 0) == 2 * 1280 + 2 < everything
    assert transfer.unfreeze(network) == everything


def test_the_head_learns_from_features_and_nothing_else_changes():
    network = tiny()
    before = values(network)
    images, targets = cells(64)
    seen = transfer.fit_head(network, images, targets, learning_rate=0.1)
    assert seen.shape == (64, 8)
    *rest, _, _ = zip(before, values(network), strict=True)
    assert all(np.array_equal(old, new) for old, new in rest)
    right = transfer.predict(network, images).argmax(1) == targets.argmax(1)
    assert right.mean() > 0.9


def test_weights_count_in_the_head_and_in_fine_tuning():
    images, targets = cells(32)
    wrong = np.roll(targets, 1, axis=1)
    both = np.concatenate([images, images]), np.concatenate([targets, wrong])
    weights = np.repeat([1.0, 0.0], 32)
    network = tiny()
    transfer.fit_head(network, *both, learning_rate=0.1, weights=weights)
    assert (transfer.predict(network, images).argmax(1) == targets.argmax(1)).mean() > 0.9
    losses = [
        transfer.fine_tune(tiny(), *both, epochs=1, weights=each)[0] for each in (weights, None)
    ]
    assert losses[0] != losses[1]


def test_batches_depend_on_seed_and_epoch_only_and_show_each_image_once():
    images = np.random.default_rng(1).normal(size=(50, 4, 4, 1)).astype("float32")
    targets = np.eye(50)

    def epoch(**options):
        batches = transfer.Batches(images, targets, batch_size=16, **options)
        return [
            np.concatenate(parts) for parts in zip(*map(batches.__getitem__, range(4)), strict=True)
        ]

    first, again = epoch(seed=3, epoch=2), epoch(seed=3, epoch=2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (epoch(seed=3, epoch=3), epoch(seed=4, epoch=2)):
        assert not np.array_equal(first[1], other[1])
    pictures, classes, weights = first
    assert pictures.shape == (50, 4, 4, 3) and (weights == 1).all()
    np.testing.assert_array_equal(np.sort(classes.argmax(1)), np.arange(50))
    turns = set()
    for picture, place in zip(pictures, classes.argmax(1), strict=True):
        squares = [transfer.turned(images[place], turn) for turn in range(8)]
        matches = [turn for turn, square in enumerate(squares) if (square == picture).all()]
        assert len(matches) == 1
        turns.update(matches)
    assert turns == set(range(8))
    plain, order, _ = epoch(turn=False)
    np.testing.assert_array_equal(plain[..., :1], images[order.argmax(1)])


def test_the_eight_turns_of_an_image_differ():
    image = np.arange(9.0).reshape(3, 3, 1)
    seen = {transfer.turned(image, turn).tobytes() for turn in range(8)}
    assert len(seen) == 8
    np.testing.assert_array_equal(transfer.turned(image, 0), image)


def test_mixup_mixes_images_and_targets_by_the_same_share():
    images = np.arange(40.0).reshape(40, 1, 1, 1) * np.ones((1, 2, 2, 1))
    targets = np.eye(40)
    batches = transfer.Batches(images, targets, batch_size=40, mixup=1.0, seed=5)
    mixed, shares, _ = batches[0]
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed[:, 0, 0, 0], shares @ np.arange(40), rtol=1e-5)
    assert 1 < (shares > 0).sum(1).max() <= 2


def test_the_rate_rises_and_falls():
    network = tiny()
    images, targets = cells(40, 8)
    options = {"epochs": 5, "batch_size": 4, "warmup": 0.2, "learning_rate": 0.1}
    transfer.fine_tune(network, images, targets, **options)
    optimizer = network.optimizer
    assert int(optimizer.iterations) == 50
    config = optimizer.get_config()["learning_rate"]["config"]
    schedule = keras.optimizers.schedules.CosineDecay.from_config(config)
    rates = [float(schedule(step)) for step in range(51)]
    assert rates[0] == 0 and int(np.argmax(rates)) == 10
    assert max(rates) == pytest.approx(0.1) and rates[50] == pytest.approx(0, abs=1e-8)


class Killed(Exception):
    pass


@pytest.mark.parametrize("epochs_before", [1, 2])
def test_a_run_that_was_killed_goes_on_as_if_nothing_had_happened(
    epochs_before, tmp_path, monkeypatch
):
    images, targets = cells(24)
    sizes = [images[:, ::2, ::2]] * 2 + [images]
    options = {"epochs": 3, "batch_size": 8, "mixup": 0.2, "seed": 7}

    def prepared():
        network = tiny()
        transfer.unfreeze(network)
        return network

    whole = prepared()
    expected = transfer.fine_tune(whole, sizes, targets, **options)

    path = tmp_path / "run" / "state.npz"
    kept = []
    keep = transfer._keep

    def kill(*arguments):
        keep(*arguments)
        kept.append(path.stat().st_size)
        if len(kept) == epochs_before:
            raise Killed

    monkeypatch.setattr(transfer, "_keep", kill)
    with pytest.raises(Killed):
        transfer.fine_tune(prepared(), sizes, targets, checkpoint=path, **options)
    monkeypatch.setattr(transfer, "_keep", keep)
    resumed = prepared()
    # What another process would have drawn by now must not matter.
    keras.random.uniform((3,))
    losses = transfer.fine_tune(resumed, sizes, targets, checkpoint=path, **options)
    assert losses == pytest.approx(expected, rel=1e-5)
    for ours, theirs in zip(values(resumed), values(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not path.exists() and not list(path.parent.iterdir())


def test_a_checkpoint_of_another_run_or_of_none_is_refused(tmp_path, monkeypatch, eager):
    images, targets = cells(8)
    path = tmp_path / "state.npz"
    weights = np.linspace(0.5, 1.5, 8)
    same = {"epochs": 1, "weights": weights, "checkpoint": path}
    monkeypatch.setattr(transfer.Path, "unlink", lambda self: None)
    losses = transfer.fine_tune(tiny(), images, targets, **same)
    kept = path.read_bytes()

    def refused(network, *data, **changed):
        with pytest.raises(ValueError, match=r"of another run .* remove it or choose another path"):
            transfer.fine_tune(network, *data, **{**same, **changed})
        assert path.read_bytes() == kept

    refused(tiny(), images, targets, seed=1)
    # One number of the data is enough.
    changed = targets.copy()
    changed[3] = changed[3, ::-1]
    refused(tiny(), images, changed)
    darker = images.copy()
    darker[7, 0, 0] -= 1
    refused(tiny(), darker, targets)
    refused(tiny(), [darker], targets)
    refused(tiny(), images, targets, weights=weights[::-1])
    refused(tiny(), images, targets, weights=None)
    other = tiny()
    other.layers[-1].kernel.assign(other.layers[-1].kernel * 1.01)
    refused(other, images, targets)
    # The same data in another form, and weights but for their last digits, are the same run.
    again = tiny()
    again.layers[-1].kernel.assign(again.layers[-1].kernel * 1.00001)
    assert transfer.fine_tune(again, [images], targets.tolist(), **same) == losses

    # As an earlier version wrote it, and damaged.
    with np.load(path) as file:
        entries = {name: file[name] for name in file.files if not name.startswith("first")}
    np.savez(path, **entries)
    kept = path.read_bytes()
    refused(tiny(), images, targets)
    path.write_bytes(kept[:1000])
    kept = path.read_bytes()
    refused(tiny(), images, targets)


def test_averaging_over_turns_is_the_mean_of_turned_images():
    network = small()
    images, _ = cells(6)
    images += np.linspace(0, 1, 32)[:, None].astype("float32")  # so that a turn makes a difference
    each = [
        transfer.predict(network, np.stack([transfer.turned(image, turn) for image in images]))
        for turn in range(8)
    ]
    assert np.ptp(each, axis=0).max() > 1e-6
    np.testing.assert_allclose(
        transfer.predict(network, images, turns=8), np.mean(each, axis=0), atol=1e-6
    )


def test_class_weights_make_classes_count_alike():
    labels = np.array([0] * 7 + [1] * 2 + [3])
    weights = transfer.class_weights(labels)
    totals = [weights[labels == label].sum() for label in (0, 1, 3)]
    np.testing.assert_allclose(totals, 10 / 3, rtol=1e-6)
    assert weights.mean() == pytest.approx(1)


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, said = rng.integers(2, size=90), rng.random(90)
    seen = transfer.evaluate(labels, np.stack([1 - said, said], axis=1))
    assert seen == transfer.evaluate(labels, said)
    assert seen["accuracy"] == (labels == (said >= 0.5)).mean()
    found = [((said >= 0.5) == label)[labels == label].mean() for label in (0, 1)]
    assert seen["balanced_accuracy"] == pytest.approx(np.mean(found))
    pairs = said[labels == 1][:, None] > said[labels == 0]
    assert seen["roc_auc"] == pytest.approx(pairs.mean())
    assert seen["confusion"] == metrics.confusion_matrix(labels, said >= 0.5).tolist()
    assert seen["majority"] == max(labels.mean(), 1 - labels.mean())


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        low, high = transfer.bootstrap_interval(rng.random(300) < 0.88, draws=500, seed=trial)
        covered += low <= 0.88 <= high
    assert 0.88 <= covered / 100 <= 0.99


def test_the_interval_grows_with_the_spread_of_the_runs():
    rng = np.random.default_rng(0)
    alike = np.tile(rng.random(400) < 0.8, (5, 1))
    apart = np.stack([rng.random(400) < share for share in (0.6, 0.7, 0.8, 0.9, 1.0)])
    (a, b), (c, d) = (transfer.bootstrap_interval(right) for right in (alike, apart))
    assert d - c > 1.5 * (b - a)
    assert transfer.bootstrap_interval(alike) == pytest.approx(
        transfer.bootstrap_interval(alike[0]), abs=0.01
    )


def test_grad_cam_of_the_last_maps_is_their_sum_by_the_weights_of_the_head():
    network = small()
    transfer.fit_head(network, *cells(16, 64))
    images = np.repeat(cells(3, 64, seed=2)[0], 3, axis=-1)
    maps = keras.Model(network.input, network.get_layer("avg_pool").input)(images).numpy()
    by_hand = maps @ network.layers[-1].get_weights()[0][:, 1] / (maps.shape[1] * maps.shape[2])
    seen = transfer.grad_cam(network, images, target=1)
    np.testing.assert_allclose(seen, np.maximum(by_hand, 0), atol=1e-5 * np.abs(by_hand).max())
    assert seen.max() > 0
    earlier = transfer.grad_cam(network, images[..., :1], target=1, layer="stage3_block1")
    assert earlier.shape == (3, 8, 8)


def test_a_head_needs_feature_maps():
    inputs = keras.Input((8,))
    with pytest.raises(ValueError, match="expected \\(B, H, W, F\\)"):
        transfer.attach_head(keras.Model(inputs, keras.layers.Dense(2)(inputs)), 2)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: transfer.unfreeze(small(), 99), "blocks=99: expected None or a number from 0 to"),
        (lambda: transfer.predict(tiny(), cells()[0], turns=9), "turns=9: expected a number"),
        (lambda: transfer.grad_cam(tiny(), cells()[0], target=2), "target=2: expected a class"),
        (lambda: transfer.evaluate([0, 1], [0.1]), "expected \\(N,\\) and \\(N,\\)"),
        (lambda: transfer.evaluate([1, 1], [0.1, 0.9]), "classes \\[1\\]: expected both"),
        (lambda: transfer.bootstrap_interval(np.ones((2, 2, 2))), "expected \\(runs, N\\)"),
        (lambda: transfer.bootstrap_interval([1, 0], level=95), "level=95: expected a number"),
        (lambda: transfer.fine_tune(tiny(), *cells(), epochs=0), "epochs"),
        (
            lambda: transfer.fine_tune(tiny(), [cells()[0]], cells()[1], epochs=2),
            "expected an array, or a list of 2, got 1",
        ),
        (
            lambda: transfer.fine_tune(tiny(), cells()[0], cells()[1][:, 0], epochs=1),
            "targets of shape \\(24,\\): expected \\(24, 2\\)",
        ),
    ],
)
def test_wrong_arguments_get_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_nothing_to_train_is_refused():
    network = small()
    network.trainable = False
    with pytest.raises(ValueError, match="nothing is trainable; call `unfreeze` first"):
        transfer.fine_tune(network, *cells(), epochs=1)


def test_a_block_alone_can_be_frozen():
    block = ConvBlock(4)
    block.build((None, 8, 8, 3))
    assert transfer.freeze_batch_norm(block) == 1
    assert [weight.path.split("/")[-1] for weight in block.trainable_weights] == ["kernel"]
