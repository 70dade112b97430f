"""The costs of a network: parameters, multiply-adds (MACs) and activation memory, layer by layer.

`count` runs a model once on symbols instead of numbers and watches which layers are called on
which tensors. Nothing is computed, so a network of any size takes little time and memory, and the
counts are exact: each equals the count by hand.

    layer                      kernel elements        output positions      MACs
    Conv2D, F filters          k · k · C/groups · F   H · W (transposed:    kernel elements
    DepthwiseConv2D            k · k · C              of the input)         × positions
    SeparableConv2D            k · k · C + C · F      H · W
    Dense, F units             C · F                  axes before the last

    matrix product (N, K) · (K, M), also without a kernel, as in attention: N · K · M

Everything else (bias, batch norm, activation, pooling, sum, padding, multiplication of two tensors
element by element) costs no MACs: this is the rule by which the papers of this course count, such
as 569 million for MobileNetV1 at 224 pixels (arXiv:1704.04861, Table 4). The elements that
convolutions write are the "activations" of arXiv:2003.13678, Section 3.1.

The MACs are not worked out from a layer's arguments: they are read off TensorFlow's graph of the
pass, in which each product stands, whoever asked for it (`utils._products`). So a product in your
own `call`, in a Lambda or under a wrapper counts as one in a layer of Keras does, and a quantised
layer as its original.
"""

import math
import numbers
import threading
from dataclasses import dataclass

import keras

from utils import _keras_private as private
from utils._products import Products, Spans, Uncountable
from utils.tables import Table

_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_DENSE = (keras.layers.Dense, keras.layers.EinsumDense)

# These hand on the memory of their input under another shape.
_VIEWS = (keras.layers.Flatten, keras.layers.Reshape)

# What quantisation keeps beside a kernel.
_SCALES = ("kernel_scale", "kernel_zero")

# These can write each result where its input stood.
_IN_PLACE = (
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
    keras.layers.Softmax,
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.Rescaling,
)

_LOCK = threading.RLock()


@dataclass(frozen=True)
class LayerCost:
    """One call of one layer.

    Attributes:
        name: Name of the layer; inside blocks, their names and the layer's, joined by `/`.
        kind: Class of the layer, such as `"Conv2D"`.
        output_shape: Shape of the output without the batch axis (a list or dict of shapes if
            there are several outputs), `None` if the layer has weights but is never called.
        params: Trainable weights, counted at the first call; 0 at later calls of a shared layer.
        macs: Multiply-adds of this call, batch 1, without those of the layers that it calls.
        layer: The Keras object.
    """

    name: str
    kind: str
    output_shape: tuple
    params: int
    macs: int
    layer: keras.Operation


@dataclass(frozen=True, repr=False)
class Cost:
    """What one image costs a model; `print` shows it as a table, and so does a notebook.

    Attributes:
        kernels: Elements of all weights whose name contains "kernel", quantised or not.
        biases: Elements of all weights whose name contains "bias".
        norm: Elements of all other trainable weights: gamma and beta of normalisation layers,
            and what else a layer learns under another name (the slopes of a PReLU, a `scale`).
        statistics: Elements of all weights that training does not learn by gradients, such as
            the moving mean and variance of a batch norm, and the scales of quantised kernels.
        macs: Multiply-adds of one forward pass, batch 1.
        activations: Elements that convolutions write, batch 1.
        peak_bytes: Largest number of bytes that live at the same time, float32, batch 1; `count`
            says what lives.
        layers: One `LayerCost` a call, in the order of the calls.
    """

    kernels: int
    biases: int
    norm: int
    statistics: int
    macs: int
    activations: int
    peak_bytes: int
    layers: tuple

    @property
    def params(self):
        """All trainable weights, frozen or not: kernels + biases + norm."""
        return self.kernels + self.biases + self.norm

    def table(self):
        """Return the rows, the totals and what they consist of as a `utils.tables.Table`."""
        rows = [
            (
                row.name,
                row.kind,
                "not called" if row.output_shape is None else row.output_shape,
                f"{row.params:,}",
                f"{row.macs:,}",
            )
            for row in self.layers
        ]
        notes = (
            f"parameters: {self.params:,} = {self.kernels:,} in kernels + {self.biases:,} in biases"
            f" + {self.norm:,} in norm",
            f"statistics: {self.statistics:,} (not trained)",
            f"MACs: {self.macs:,}",
            f"activations: {self.activations:,} elements written by convolutions",
            f"peak memory: {_memory(self.peak_bytes)} live at once (float32, batch 1)",
        )
        return Table(
            ("layer", "kind", "output", "parameters", "MACs"),
            rows,
            foot=("total", "", "", f"{self.params:,}", f"{self.macs:,}"),
            notes=notes,
        )

    def __str__(self):
        return str(self.table())

    def __repr__(self):
        return (
            f"Cost(params={self.params:,}, macs={self.macs:,}, "
            f"activations={self.activations:,}, peak_bytes={self.peak_bytes:,})"
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        return self.table()._repr_mimebundle_()


def count(model, input_shape=None):
    """Count parameters, MACs and activation memory of a model, exactly and layer by layer.

    The model is called once on symbols, batch 1, `training=False`. Layers inside layers are seen;
    a shared layer counts its weights once and its MACs at every call. A built model stays as it
    was, and so does Keras (random states, names, training state), also after an error. A model
    that is not built is counted on a copy made from its `get_config` (so arguments that its
    config leaves out have their defaults); if its config does not make a copy, the model itself
    is built, as its first call would do.

    All products are counted that the outputs need: those of layers, of `keras.ops` and of
    operators such as `x @ y`. A product in a loop (a recurrent layer, `keras.ops.scan`, …) counts
    at every turn, that of a wrapper or a function in the row of the layer that calls it. What
    cannot be counted raises a ValueError that names the layer: a product of an open shape, in a
    loop whose number of turns or in a branch whose choice depends on numbers, and operations that
    compute out of sight (`tf.py_function`, custom ones) or by other rules (FFT, linear solvers).
    Patches that Keras cuts out with a kernel of zeros and ones cost nothing.

    Peak memory is the largest sum of elements that live at once, times 4 bytes; weights are not
    part of it. The rules:

    - A tensor lives from the layer that makes it to the last layer that reads it, in the order in
      which Keras calls the layers. The input is the first tensor; outputs live to the end.
    - While a layer runs, its inputs and its outputs live. A separable convolution runs as its two
      halves, with the tensor between them.
    - Reshape and Flatten share the memory of their input, and so does what returns its input
      (Dropout at inference). Normalisation, Rescaling and the activation layers, with their
      subclasses, write in place if nobody reads their input later. All other layers, your own
      among them, need new memory.
    - Operations in your own `call` count where sublayers or the result need them, as a single
      step out of place; what goes on inside a layer that calls no other layer is not seen.

    Args:
        model: Any Keras model or layer, or a function without arguments that makes one. What the
            function makes gets weights without values, so that a large network is counted in a
            fraction of the time that it takes to fill it. In your own layers, a weight whose name
            contains "kernel" counts also where no product reads it, as in `x * kernel`: its
            elements times the positions of the output, all axes but the last.
        input_shape: Shape of one input without the batch axis, such as `(224, 224, 3)`; for
            several inputs a list or dict of shapes. `None` if the model knows its input shape.

    Returns:
        A `Cost`; sizes are elements, MACs and bytes of one input.

    Raises:
        ValueError: If `model` is or makes no Keras model or layer, cannot be called on
            `input_shape`, or contains what cannot be counted; if `input_shape` has a wrong rank,
            an open axis, or is `None` and the model does not know it; if Keras runs on another
            backend than TensorFlow.

    Example:
        >>> import keras
        >>> cost = count(keras.layers.Conv2D(5, 3), (6, 6, 3))
        >>> cost.macs == (3 * 3 * 3 * 5) * (4 * 4)
        True
        >>> cost.kernels, cost.biases, cost.layers[0].output_shape
        (135, 5, (4, 4, 5))
        >>> count(lambda: keras.layers.Conv2D(5, 3), (6, 6, 3))
        Cost(params=140, macs=2,160, activations=80, peak_bytes=752)
        >>> separable = keras.Sequential(
        ...     [keras.layers.DepthwiseConv2D(3, use_bias=False, name="depthwise"),
        ...      keras.layers.Conv2D(5, 1, use_bias=False, name="pointwise"),
        ...      keras.layers.ReLU(name="relu")])
        >>> print(count(separable, (6, 6, 3)))
        layer      kind             output     parameters  MACs
        ───────────────────────────────────────────────────────
        depthwise  DepthwiseConv2D  (4, 4, 3)          27   432
        pointwise  Conv2D           (4, 4, 5)          15   240
        relu       ReLU             (4, 4, 5)           0     0
        ───────────────────────────────────────────────────────
        total                                          42   672
        <BLANKLINE>
        parameters: 42 = 42 in kernels + 0 in biases + 0 in norm
        statistics: 0 (not trained)
        MACs: 672
        activations: 128 elements written by convolutions
        peak memory: 0.6 KiB live at once (float32, batch 1)
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"count reads TensorFlow's graph, and Keras runs on {keras.backend.backend()}: start "
            "again with KERAS_BACKEND=tensorflow."
        )
    if callable(model) and not isinstance(model, keras.Layer | type):
        # In this scope weights have shapes only; leaving it does not fill them.
        with _LOCK, private.state_kept(), keras.StatelessScope(initialize_variables=False):
            made = model()
            if not isinstance(made, keras.Layer):
                raise ValueError(f"model={model!r} made {made!r}: expected a Keras model.")
            return count(made, input_shape)
    if not isinstance(model, keras.Layer):
        raise ValueError(
            f"model={model!r}: expected a Keras model or layer, or a function that makes one."
        )
    with _LOCK, private.state_kept():
        inputs = _symbols(model, input_shape)
        try:
            try:
                trace = _Trace.of(model, inputs)
            except _NotBuilt:
                given, model = model, _copy(model)
                # A copy needs no values.
                with keras.StatelessScope(initialize_variables=model is given):
                    private.on_symbols(lambda x: model(x, training=False), inputs)
                    trace = _Trace.of(model, inputs)
        except _NotCountable as error:
            raise ValueError(f'model="{model.name}": {error}') from None
        except Exception as error:
            shapes = keras.tree.map_structure(lambda x: x.shape[1:], inputs)
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            raise ValueError(
                f'model="{model.name}" cannot be called on input_shape={shapes}: {reason}'
            ) from error
        return trace.cost(model)


class _NotBuilt(BaseException):
    """Ends a trace; no `except Exception` of a model's own code may keep it."""


class _NotCountable(ValueError):
    """Says why the numbers would be wrong."""


class _Call:
    """A call under way: who, on what, whether it calls others, whether it is part of a loop."""

    def __init__(self, layer, name, inputs):
        self.layer, self.name, self.inputs = layer, name, inputs
        self.is_leaf, self.is_inside = True, False
        self.outputs = self.output_shape = None


@dataclass(frozen=True)
class _Step:
    """One entry of the schedule by which memory is counted; tensors are known by their id."""

    layer: object
    reads: tuple
    writes: tuple


class _Trace:
    """The calls of one forward pass in two orders: as they begin, and as steps that end."""

    def __init__(self, flags):
        # The calls keep their tensors, so that no id is used twice.
        self.calls, self.steps, self.open = [], [], []
        self.sizes = {}  # id of a tensor → elements, for every tensor that has been made
        self.flags = flags  # layers and whether they had been called before
        self.scope = private.stateless_scope()
        self.spans = Spans()
        self.graph, _ = self.spans.open()

    @classmethod
    def of(cls, model, inputs):
        traces, flags = [], []

        def run(x):
            # A backend may run this more than once; the last trace is complete.
            trace = cls(flags)
            symbols = []
            for variable in model.variables:
                # A symbol is quicker than reading the value, let alone than making it.
                symbol = keras.ops.zeros(variable.shape, variable.dtype)
                trace.scope.add_update((variable, symbol))
                symbols.append((id(variable), symbol))
            traces.append(trace)
            trace.inputs = [trace.make(t) for t in _tensors(x)]
            with private.calls_through(trace.observe, operations=True):
                result = model(x, training=False)
            trace.outputs = [trace.read(t) for t in _tensors(result)]
            trace.find_products(model, _tensors(x), _tensors(result), symbols)

        try:
            private.on_symbols(run, inputs)
        finally:
            for layer, called in reversed(flags):
                private.set_called(layer, called)
        return traces[-1]

    def observe(self, call_layer, layer, args, kwargs):
        """Call a layer as Keras would, and write down what it read and made."""
        is_layer = isinstance(layer, keras.Layer)
        parent = self.open[-1] if self.open else None
        # Other threads, counts inside a call and the search for a sublayer's shape have their own
        # scope or none. Operations between the layers of a functional model are steps, too.
        if private.stateless_scope() is not self.scope or not (
            is_layer or (parent and isinstance(parent.layer, keras.Function))
        ):
            return call_layer(layer, *args, **kwargs)
        if is_layer:
            if not layer.built:
                raise _NotBuilt
            self.flags.append((layer, private.called(layer)))
        if parent:
            parent.is_leaf = False
        path = [call.layer.name for call in self.open[1:]] + [layer.name]
        call = _Call(layer, "/".join(path), _tensors((args, kwargs)))
        self.calls.append(call)
        self.open.append(call)
        begin = self.spans.open()
        call.is_inside = begin[0] is not self.graph
        try:
            result = call_layer(layer, *args, **kwargs)
        finally:
            self.open.pop()
            self.spans.close(begin, call)
        call.outputs = _tensors(result)
        call.output_shape = keras.tree.map_structure(
            lambda t: _known_shape(t, call.name)[1:] if keras.ops.is_tensor(t) else None, result
        )
        if call.is_leaf:
            self.close(call)
        else:
            for tensor in call.outputs:
                self.read(tensor)
        return result

    def close(self, call):
        reads = tuple(self.read(t) for t in call.inputs)
        if isinstance(call.layer, _SEPARABLE):
            between = id(call)
            self.sizes[between] = _between(call)
            self.steps.append(_Step(None, reads, (between,)))
            reads = (between,)
        new = tuple(self.make(t) for t in call.outputs if id(t) not in self.sizes)
        self.steps.append(_Step(call.layer, reads, new))

    def find_products(self, model, inputs, outputs, symbols):
        """Read the multiply-adds off the graph of the pass, while there is one."""
        try:
            products = Products(self.spans, inputs, symbols)
            self.products = products.of(outputs)
        except Uncountable as error:
            name, kind = error.owner.name, type(error.owner.layer).__name__
            raise _NotCountable(f'layer "{name}" ({kind}) {error.reason}.') from None
        # Keras calls the layers of a loop once more, to learn the shapes of their results.
        idle = products.made - products.needed
        needed = {id(call.layer) for call in self.calls if id(call) not in idle}
        self.trials = {id(c) for c in self.calls if id(c) in idle and id(c.layer) in needed}
        read = frozenset().union(*(product.reads for product in self.products))
        self.elementwise = {i for i, symbol in symbols if i not in read and symbol.consumers()}
        self.elements = {i: math.prod(symbol.shape) for i, symbol in symbols}
        for layer in private.layers_of(model):
            if getattr(layer, "quantization_mode", None) == "int4" and hasattr(layer, "kernel"):
                # Two elements of such a kernel are stored in a byte.
                stored = {id(weight) for weight, _ in _weights(layer) if weight.name == "kernel"}
                self.elements.update(dict.fromkeys(stored, math.prod(layer.kernel.shape)))

    def make(self, tensor):
        where = self.open[-1].name if self.open else "the model"
        shape = _known_shape(tensor, where)
        if None in shape:
            raise _NotCountable(f"{where} makes a tensor of open shape {shape}.")
        self.sizes[id(tensor)] = math.prod(shape)
        return id(tensor)

    def read(self, tensor):
        """Return the tensor's id; if no layer made it, add the step that did."""
        if id(tensor) not in self.sizes:
            # TensorFlow's graph leads back to the tensors that layers made.
            sources, seen, todo = [], {id(tensor)}, [tensor]
            while todo:
                operation = getattr(todo.pop(), "op", None)
                for source in operation.inputs if operation is not None else ():
                    if id(source) in seen:
                        continue
                    seen.add(id(source))
                    if id(source) in self.sizes:
                        sources.append(id(source))
                    else:
                        todo.append(source)
            self.steps.append(_Step(None, tuple(sources), (self.make(tensor),)))
        return id(tensor)

    def cost(self, model):
        totals = dict.fromkeys(("kernels", "biases", "norm", "statistics"), 0)
        macs = activations = 0
        rows, counted, called = [], set(), set()
        products = {}
        for product in self.products:
            products.setdefault(id(product.owner), []).append(product)
        owners = _owners([*private.layers_of(model), *(call.layer for call in self.calls)])

        def own_params(layer):
            """Add the weights not counted before to the totals; return the trainable ones."""
            params = 0
            for weight, role in _weights(layer):
                if owners[id(weight)] is layer and id(weight) not in counted:
                    counted.add(id(weight))
                    size = self.elements.get(id(weight), math.prod(weight.shape))
                    totals[role] += size
                    params += size * (role != "statistics")
            return params

        for call in self.calls:
            layer, made = call.layer, products.get(id(call), ())
            called.add(id(layer))
            if id(call) in self.trials or not (call.is_leaf or made or _weights(layer)):
                continue
            own = {id(weight) for weight, role in _weights(layer) if role == "kernels"}
            # A weight of your own layer that multiplies without a product, such as x * kernel.
            alone = {key for key in own & self.elementwise if owners[key] is layer}
            if alone and call.is_inside:
                raise _NotCountable(_out_of_sight(call.name, layer))
            call_macs = sum(product.macs for product in made)
            call_macs += sum(self.elements[key] for key in alone) * _positions(call)
            written = sum(product.written for product in made)
            if not written and not isinstance(layer, _DENSE):
                shape = call.outputs[0].shape if call.outputs else ()
                uses_own = alone or any(own & product.reads for product in made)
                written = math.prod(shape) if uses_own and len(shape) > 2 else 0
            macs += call_macs
            activations += written
            kind, params = type(layer).__name__, own_params(layer)
            rows.append(LayerCost(call.name, kind, call.output_shape, params, call_macs, layer))
        for layer in private.layers_of(model):
            if id(layer) not in called and _weights(layer):
                for weight, role in _weights(layer):
                    if role == "kernels" and id(weight) in self.elementwise:
                        raise _NotCountable(_out_of_sight(layer.name, layer))
                kind, params = type(layer).__name__, own_params(layer)
                rows.append(LayerCost(layer.name, kind, None, params, 0, layer))
        return Cost(
            **totals,
            macs=macs,
            activations=activations,
            peak_bytes=4 * self.peak_elements(),
            layers=tuple(rows),
        )

    def peak_elements(self):
        last_read = {}
        for now, step in enumerate(self.steps):
            last_read.update(dict.fromkeys(step.reads, now))
        last_read.update(dict.fromkeys(self.outputs, len(self.steps)))

        buffers = []  # (elements, step that makes it, tensors that live in it)
        buffer_of = {}

        def allocate(tensor, now):
            buffer_of[tensor] = (self.sizes[tensor], now, [tensor])
            buffers.append(buffer_of[tensor])

        for tensor in self.inputs:
            allocate(tensor, 0)
        for now, step in enumerate(self.steps):
            for tensor in step.writes:
                shared = None
                if len(step.reads) == 1 and isinstance(step.layer, _VIEWS + _IN_PLACE):
                    shared = buffer_of[step.reads[0]]
                    free = all(last_read.get(other, 0) <= now for other in shared[2])
                    if shared[0] != self.sizes[tensor] or not (
                        free or isinstance(step.layer, _VIEWS)
                    ):
                        shared = None
                if shared:
                    buffer_of[tensor] = shared
                    shared[2].append(tensor)
                else:
                    allocate(tensor, now)

        change = [0] * (len(self.steps) + 2)
        for size, made, tensors in buffers:
            change[made] += size
            change[max(made, *(last_read.get(tensor, 0) for tensor in tensors)) + 1] -= size
        live = peak = 0
        for difference in change:
            live += difference
            peak = max(peak, live)
        return peak


def _tensors(structure):
    """The activations among the arguments or results of a call."""
    return [
        x
        for x in keras.tree.flatten(structure)
        if keras.ops.is_tensor(x) and not isinstance(x, keras.Variable)
    ]


def _known_shape(tensor, where):
    if getattr(tensor.shape, "rank", 0) is None:
        raise _NotCountable(f"{where} makes a tensor of unknown shape.")
    return tuple(tensor.shape)


def _weights(layer):
    """The weights that a layer has made or stored, each with its role."""
    if not isinstance(layer, keras.Layer):
        return []
    weights = []
    for variable, learned in private.own_variables(layer):
        if variable.overwrite_with_gradient or variable.name in _SCALES:
            role = "statistics"
        elif "kernel" in variable.name:
            role = "kernels"
        elif "bias" in variable.name:
            role = "biases"
        else:
            role = "norm" if learned else "statistics"
        weights.append((variable, role))
    return weights


def _out_of_sight(name, layer):
    return (
        f'layer "{name}" ({type(layer).__name__}) multiplies with its kernel where its calls are '
        "not seen, element by element in a loop, a function or a wrapper."
    )


def _owners(layers):
    """For the id of each weight the layer it counts for: not a parent that has stored it, too."""
    owners = {}
    for layer in layers:
        for weight, _ in _weights(layer):
            owner = owners.setdefault(id(weight), layer)
            if owner is not layer and layer in private.layers_of(owner):
                owners[id(weight)] = layer
    return owners


def _positions(call):
    """How often a call applies each element of its kernel."""
    shape = call.outputs[0].shape
    if getattr(call.layer, "data_format", None) == "channels_first":
        return math.prod(shape) // shape[1]
    return math.prod(shape[:-1])


def _between(call):
    """Elements between the two halves of a separable convolution."""
    *_, channels, multiplier = call.layer.depthwise_kernel.shape
    return _positions(call) * channels * multiplier


def _copy(model):
    try:
        return type(model).from_config(model.get_config())
    except Exception:
        # Whatever is wrong with the config of a model, the model can still be built.
        return model


def _memory(size):
    return f"{size / 2**20:,.2f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def _symbols(model, input_shape):
    """Return what to call the model on: batch 1, no values."""
    known = model.input if isinstance(model, keras.Function) else None
    if isinstance(model, keras.Sequential):
        (known,) = getattr(model, "inputs", None) or [None]
    shapes = input_shape
    if shapes is None and known is not None:
        shapes = keras.tree.map_structure(lambda x: x.shape[1:], known)
    elif shapes is None and model.built:
        built_on = (model.get_build_config() or {}).get("input_shape")
        shapes = _map_shapes(lambda shape: tuple(shape[1:]), built_on) if built_on else None
    takes = f"pass the shape of one input of {model.name} without the batch axis"
    if shapes is None:
        raise ValueError(f"input_shape=None: {takes}, such as (224, 224, 3).")

    def symbol(shape):
        if not isinstance(shape, tuple | list) or not all(
            isinstance(n, numbers.Integral) and n > 0 for n in shape
        ):
            here = "" if input_shape is not None else f" (it takes {shapes})"
            raise ValueError(
                f"input_shape={input_shape}: {takes}, positive integers such as "
                f"(224, 224, 3){here}."
            )
        return keras.KerasTensor((1, *map(int, shape)))

    symbols = _map_shapes(symbol, shapes)
    flat = keras.tree.flatten(symbols)
    given = [x.shape[1:] for x in flat]
    if known is not None:
        wanted = [x.shape[1:] for x in keras.tree.flatten(known)]
    else:
        first = model
        while isinstance(first, keras.Sequential) and first.layers:
            first = first.layers[0]
        # Keras would take more axes for further batch axes.
        is_convolution = hasattr(first, "kernel_size") and hasattr(first, "rank")
        wanted = [(None,) * (first.rank + 1)] if is_convolution else given
    if len(given) != len(wanted) or not all(map(_fits, given, wanted)):
        wanted = wanted[0] if len(wanted) == 1 else wanted
        raise ValueError(
            f"input_shape={input_shape}: {model.name} takes {wanted} without the batch axis."
        )
    if known is not None:
        pairs = zip(flat, keras.tree.flatten(known), strict=True)
        typed = [keras.KerasTensor(x.shape, dtype=k.dtype) for x, k in pairs]
        symbols = keras.tree.pack_sequence_as(symbols, typed)
    return symbols


def _fits(shape, wanted):
    return len(shape) == len(wanted) and all(
        n in (size, None) for size, n in zip(shape, wanted, strict=True)
    )


def _map_shapes(function, shapes):
    """Apply a function to a shape, or to each shape in a list or dict."""
    if isinstance(shapes, dict):
        return {key: _map_shapes(function, shape) for key, shape in shapes.items()}
    is_list = isinstance(shapes, list | tuple)
    if is_list and shapes and all(isinstance(s, list | tuple | dict) for s in shapes):
        return [_map_shapes(function, shape) for shape in shapes]
    return function(shapes)
