"""The products of a traced network: every multiply-add of its convolutions and matrix products.

TensorFlow's graph of a forward pass holds all of them, whoever asked for them: a Keras layer, a
function of `keras.ops`, an operator such as `x @ y`, or TensorFlow itself.

    operation                            multiply-adds
    MatMul, BatchMatMul                  elements of the result × length of the summed axis
    Einsum of two operands               product of the sizes of all its letters
    Conv, DepthwiseConv                  elements of the kernel × positions of the output
    ConvBackpropInput (transposed conv)  elements of the kernel × positions of the input

Only what the result needs is counted. A function counts as often as it is called, a loop as often
as it turns, a branch if it is the one that is taken. What cannot be counted is refused by name.
"""

import math
import operator
import re
from dataclasses import dataclass, replace

from utils._keras_private import function_graph

# More turns than any loop of a network has; it ends the search for the end of an endless one.
_MOST_TURNS = 100_000

# These work on functions: the attributes that hold them, in the order of the graphs to follow.
_FUNCTIONS = {
    "PartitionedCall": ("f",),
    "StatefulPartitionedCall": ("f",),
    "Case": ("branches",),
    "StatelessCase": ("branches",),
    "If": ("else_branch", "then_branch"),
    "StatelessIf": ("else_branch", "then_branch"),
    "While": ("body", "cond"),
    "StatelessWhile": ("body", "cond"),
}

# These multiply and add, or may do so out of sight, in a way that the rule does not price.
_REFUSED = re.compile(
    "MatMul|Matmul|MatVec|Conv(?!ert)|Einsum|Dot|RNN|LSTM|GRU|Xla|PyFunc|FFT|Cholesky|Svd|Eig"
    "|Backprop|Solve|Matrix(Inverse|Determinant|Exponential|Logarithm|SquareRoot)|^Lu$|^Qr$"
    "|LogMatrixDeterminant|Enter$"
)

# What the number of turns of a loop is worked out with.
_SCALARS = {
    "Add": operator.add,
    "AddV2": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Minimum": min,
    "Maximum": max,
    "Identity": lambda x: x,
    "Cast": lambda x: x,
    "Less": operator.lt,
    "LessEqual": operator.le,
    "Greater": operator.gt,
    "GreaterEqual": operator.ge,
    "Equal": operator.eq,
    "NotEqual": operator.ne,
    "LogicalAnd": lambda x, y: x and y,
    "LogicalOr": lambda x, y: x or y,
    "LogicalNot": operator.not_,
}


class Uncountable(Exception):
    """Says what cannot be counted: in which call, its `owner`, and why, the end of a sentence."""

    def __init__(self, owner, reason):
        super().__init__(reason)
        self.owner, self.reason = owner, reason


@dataclass(frozen=True)
class Product:
    """One operation that multiplies and adds.

    Attributes:
        owner: The call that it belongs to.
        macs: Multiply-adds, in all turns of the loops around it.
        written: Elements that it writes if it is a convolution, else 0.
        reads: Ids of the variables that it multiplies with.
    """

    owner: object
    macs: int
    written: int
    reads: frozenset


class Spans:
    """Which call each operation of a graph was made in."""

    def __init__(self):
        self._spans = {}  # id of a graph → [(first operation, one past the last, call)]
        self._graphs = []  # keeps the ids from being used twice

    def open(self):
        """Return where a call begins."""
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        return graph, graph.num_operations()

    def close(self, begin, call):
        """Write down that all operations made since `begin` are the call's or its parts'."""
        graph, first = begin
        self._graphs.append(graph)
        self._spans.setdefault(id(graph), []).append((first, graph.num_operations(), call))

    def owners(self, graph, size, owner):
        """The call of each operation; `owner` where no call is known."""
        owners = [owner] * size
        # A part ends before the whole does, and keeps what it has made.
        for first, end, call in reversed(self._spans.get(id(graph), ())):
            owners[first:end] = [call] * (end - first)
        return owners


class Products:
    """The products that a traced result needs.

    Args:
        spans: A `Spans`.
        inputs: The tensors that stand for what the network is called on.
        symbols: For each variable its id and the tensor that stands for it.

    Attributes:
        needed: Ids of the calls with an operation that the result needs.
        made: Ids of the calls with an operation that it does not need.
    """

    def __init__(self, spans, inputs, symbols):
        self.needed, self.made = set(), set()
        self._spans = spans
        # What a tensor is made of: ids of variables, or None if an input is part of it.
        self._origins = dict.fromkeys((tensor.op.name for tensor in inputs), None)
        self._origins |= {tensor.op.name: frozenset([variable]) for variable, tensor in symbols}
        self._constant = {}  # input of a function → the value that it has in all turns

    def of(self, tensors):
        """Return the products that tensors of one graph need, in the order they were made."""
        tensors = [tensor for tensor in tensors if hasattr(tensor, "graph")]
        return self._walk(tensors[0].graph, tensors, None, self._origins) if tensors else []

    def _walk(self, graph, outputs, owner, given):
        live, todo = set(), [tensor.op for tensor in outputs]
        while todo:
            operation = todo.pop()
            if operation.name not in live:
                live.add(operation.name)
                todo.extend(tensor.op for tensor in operation.inputs)
        operations = graph.get_operations()
        owners = self._spans.owners(graph, len(operations), owner)
        found, origins = [], dict(given)
        for operation, owner in zip(operations, owners, strict=True):
            name = operation.name
            (self.needed if name in live else self.made).add(id(owner))
            if name in live:
                sources = [origins.get(tensor.op.name) for tensor in operation.inputs]
                if name not in origins:
                    origins[name] = None if None in sources else frozenset().union(*sources)
                found += self._products(operation, owner, sources)
        return found

    def _products(self, operation, owner, sources):
        kind = operation.type
        if kind in _RULES:
            try:
                macs, written = _RULES[kind](operation)
            except _OpenShape:
                raise Uncountable(owner, f"multiplies tensors of open shape ({kind})") from None
            # What is made of constants alone is made once, not for each image.
            if not macs or not any(variables is None or variables for variables in sources):
                return []
            reads = frozenset().union(*(variables or () for variables in sources))
            return [Product(owner, macs, written, reads)]
        if kind in _FUNCTIONS:
            return self._inside(operation, owner, sources)
        if _REFUSED.search(kind) or _is_opaque(operation):
            raise Uncountable(owner, f"uses the operation {kind}, whose products are not known")
        return []

    def _inside(self, operation, owner, sources):
        """The products of the functions that an operation calls."""
        kind, inputs = operation.type, list(operation.inputs)
        bodies = self._functions(operation, owner)
        if kind.endswith(("If", "Case")):
            taken, sources = self._value(inputs.pop(0), {}), sources[1:]
            if taken is not None:
                # As in TensorFlow, what is not the number of a branch takes the last one.
                bodies = [bodies[int(taken) if 0 <= taken < len(bodies) else -1]]
        loops, found = kind.endswith("While"), []
        for body in bodies:
            given = {}
            for number, inner in enumerate(body.inputs):
                given[inner.op.name] = None
                before, after = bodies[0].inputs[number], bodies[0].outputs[number : number + 1]
                if not loops or _key(after[0]) == _key(before):
                    self._constant[_key(inner)] = inputs[number]
                    given[inner.op.name] = sources[number]
            found.append(self._walk(body, body.outputs, owner, given))
        if loops:
            return self._turned(operation, owner, *bodies, *found)
        if len({sum(product.macs for product in branch) for branch in found}) > 1:
            raise Uncountable(owner, f"has branches of different cost ({kind})")
        return found[0]

    def _functions(self, operation, owner):
        """The graphs of the functions that an operation calls."""
        graphs = []
        for attribute in _FUNCTIONS[operation.type]:
            functions = operation.get_attr(attribute)
            for function in functions if isinstance(functions, list) else [functions]:
                graphs.append(function_graph(operation.graph, function.name))
                if graphs[-1] is None:
                    reason = f"calls the function {function.name}, which cannot be looked into"
                    raise Uncountable(owner, reason)
        return graphs

    def _turned(self, operation, owner, body, condition, found, found_in_condition):
        if not found and not found_in_condition:
            return []
        values = [self._value(tensor, {}) for tensor in operation.inputs]
        for turns in range(_MOST_TURNS):
            known = dict(zip(map(_key, condition.inputs), values, strict=True))
            goes_on = self._value(condition.outputs[0], known)
            if goes_on is None:
                break
            if not goes_on:
                found = [(product, turns) for product in found]
                found += [(product, turns + 1) for product in found_in_condition]
                return [
                    replace(each, macs=each.macs * n, written=each.written * n)
                    for each, n in found
                    if n
                ]
            known = dict(zip(map(_key, body.inputs), values, strict=True))
            values = [self._value(tensor, known) for tensor in body.outputs]
        raise Uncountable(owner, "multiplies in a loop whose number of turns is not known")

    def _value(self, tensor, known):
        """The value of a scalar if it does not depend on numbers, else None."""
        import tensorflow as tf

        key = _key(tensor)
        if key in known:
            return known[key]
        if tensor.shape.rank != 0:
            return None
        value = tf.get_static_value(tensor)
        if value is not None:
            return value.item()
        if key in self._constant:
            return self._value(self._constant[key], {})
        if tensor.op.type in ("Max", "StridedSlice"):  # of the lengths of sequences, of a shape
            given = [tf.get_static_value(each) for each in tensor.op.inputs]
            if any(each is None for each in given):
                return None
            return (given[0].max() if len(given) == 2 else given[0][given[1][0]]).item()
        if tensor.op.type not in _SCALARS:
            return None
        values = [self._value(each, known) for each in tensor.op.inputs]
        return None if None in values else _SCALARS[tensor.op.type](*values)


class _OpenShape(Exception):
    pass


def _key(tensor):
    return id(tensor.graph), tensor.name


def _shape(tensor):
    if tensor.shape.rank is None or None in tuple(tensor.shape):
        raise _OpenShape
    return tuple(tensor.shape)


def _matmul(operation):
    summed = _shape(operation.inputs[0])[0 if operation.get_attr("transpose_a") else 1]
    return math.prod(_shape(operation.outputs[0])) * summed, 0


def _batch_matmul(operation):
    summed = _shape(operation.inputs[0])[-2 if operation.get_attr("adj_x") else -1]
    return math.prod(_shape(operation.outputs[0])) * summed, 0


def _einsum(operation):
    operands = operation.get_attr("equation").decode().split("->")[0].split(",")
    if len(operands) < 2:
        return 0, 0
    sizes = {}
    for letters, tensor in zip(operands, operation.inputs, strict=True):
        shape = _shape(tensor)
        before, dots, after = letters.partition("...")
        middle = range(len(shape) - len(before) - len(after)) if dots else ()
        # Axes under the dots are numbered from the last; one of them may be broadcast.
        labels = [*before, *reversed(middle), *after]
        for label, size in zip(labels, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return math.prod(sizes.values()), 0


def _convolution(operation):
    if _is_identity(operation.inputs[1]):
        return 0, 0  # it takes an image apart and computes nothing
    kernel, result = _shape(operation.inputs[1]), operation.outputs[0]
    # TensorFlow slides a dilated kernel over parts of the image that it has put into the batch.
    consumers = result.consumers()
    while len(consumers) == 1 and consumers[0].type in ("Squeeze", "BatchToSpaceND"):
        result = consumers[0].outputs[0]
        consumers = result.consumers() if consumers[0].type == "Squeeze" else ()
    written = math.prod(_shape(result))
    channels = kernel[-1] * (kernel[-2] if operation.type.startswith("Depthwise") else 1)
    return math.prod(kernel) * (written // channels), written


def _transposed(operation):
    kernel, read = _shape(operation.inputs[1]), math.prod(_shape(operation.inputs[2]))
    channels = kernel[-1] * (kernel[-2] if operation.type.startswith("Depthwise") else 1)
    return math.prod(kernel) * (read // channels), math.prod(_shape(operation.outputs[0]))


_RULES = {
    "MatMul": _matmul,
    "BatchMatMul": _batch_matmul,
    "BatchMatMulV2": _batch_matmul,
    "BatchMatMulV3": _batch_matmul,
    "Einsum": _einsum,
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _convolution,
    "Conv2DBackpropInput": _transposed,
    "Conv3DBackpropInputV2": _transposed,
    "DepthwiseConv2dNativeBackpropInput": _transposed,
}


def _is_identity(kernel):
    """Tell whether a kernel is `eye(n)` in another shape, with which Keras cuts out patches."""
    import tensorflow as tf

    while kernel.op.type in ("Reshape", "Cast", "Identity"):
        kernel = kernel.op.inputs[0]
    if not kernel.op.type.startswith("MatrixDiag"):
        return False
    diagonal = tf.get_static_value(kernel.op.inputs[0])
    return diagonal is not None and bool((diagonal == 1).all())


def _is_opaque(operation):
    """Tell whether an operation calls functions, or is none of TensorFlow's own."""
    import tensorflow as tf

    kind = operation.type
    if kind not in _OPAQUE:
        foreign = not kind.startswith("_") and not hasattr(tf.raw_ops, kind)
        _OPAQUE[kind] = foreign or any("func" in each.type for each in operation.op_def.attr)
    return _OPAQUE[kind]


_OPAQUE = {}  # what `_is_opaque` has found out, for each type of operation
