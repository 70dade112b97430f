"""Which cell gave a name its value, so that a check can say when it judges what was there before.

A cell that stops, or that misspells a name, leaves the object of an earlier run in its place, and
nothing on the page shows it. In a notebook, `Cells` looks at what each cell was to define and at
what it did define. It compares identities alone and never touches the learner's objects.
"""

import ast
import contextlib
import difflib
import dis
import inspect
import re

from utils.course.exercise import codes


class Cells:
    """What the cells of a session defined, and what they failed to.

    Args:
        space: the names of the session.
    """

    def __init__(self, space: dict):
        self.space = space
        self.defined = {}  # name → (execution count, id) of the cell that defined it
        self.missed = {}  # name → (execution count, what happened) of a later cell that did not
        self.source = ""
        self._before = self._identities()

    def _identities(self):
        # Names with an underscore are IPython's own record of inputs and outputs.
        names = [name for name in list(self.space) if not name.startswith("_")]
        return {name: id(self.space.get(name)) for name in names}

    def begin(self, info):
        """Note what is there before a cell runs; IPython calls this."""
        self.source = info.raw_cell
        self._before = self._identities()

    def end(self, result):
        """Note what a cell has defined, and what it has not; IPython calls this."""
        error = result.error_before_exec or result.error_in_exec
        count, cell = result.execution_count, getattr(result.info, "cell_id", None)
        if not count:  # run for the front end, not by the learner
            return
        meant, now = definitions(result.info.raw_cell), self._identities()
        got = {name for name, identity in now.items() if self._before.get(name) != identity}
        if error is None:
            got |= meant & set(now)
        # A name that this very cell defined when it ran last, and now does not, is missed, too.
        own = {
            name for name, (_, by) in self.defined.items() if cell is not None and by == cell
        } - got
        if error is not None:
            what = f"stopped with {type(error).__name__}"
            self.missed.update(dict.fromkeys((meant | own) - got, (count, what)))
        else:
            for name in own if cell is not None else set(self.defined) - got:
                other = _slip(name, (meant & got) - set(self.defined))
                if other:
                    self.missed[name] = count, f"defines `{other}`, not `{name}`"
                elif cell is not None:
                    self.missed[name] = count, f"no longer defines `{name}`"
        for name in got:
            self.defined[name] = count, cell
            self.missed.pop(name, None)

    def remark(self, exercise_id: str, answer) -> str:
        """Return a sentence if a check judges an object of before, else "".

        Args:
            exercise_id: the first argument of the call of `check`, which the running cell holds.
            answer: the second.
        """
        if not self.missed:
            return ""
        judged = _judged(self.source, exercise_id)
        for verb, names in (("judges", judged), ("uses", sorted(_globals(answer)))):
            for name in names:
                if name in self.missed and name in self.space:
                    count, what = self.missed[name]
                    where = f"cell [{self.defined[name][0]}]" if name in self.defined else "a cell"
                    return f"Cell [{count}] {what}, so this {verb} `{name}` as {where} defined it."
        return ""


def watch() -> Cells | None:
    """Follow the cells of this notebook from now on; None if this is no notebook."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    if not hasattr(shell, "kernel"):
        return None
    cells = Cells(shell.user_ns)

    def quietly(step):
        def run(event):
            # Whatever a cell holds, a look at it never writes an error under the cell.
            with contextlib.suppress(Exception):
                step(event)

        return run

    shell.events.register("pre_run_cell", quietly(cells.begin))
    shell.events.register("post_run_cell", quietly(cells.end))
    return cells


def definitions(source: str) -> set[str]:
    r"""Return the names that a cell is to define at its top level, also if it is no valid Python.

    >>> sorted(definitions("def f(x):\n    y = x\nz: int = 1"))
    ['f', 'z']
    >>> sorted(definitions("%%time\ndef f(x:\n    return x"))
    ['f']
    """
    try:
        waiting = list(ast.parse(source).body)
    except Exception:  # there is one for each way in which text is no Python
        # The indentation may be what is wrong; only in a class it tells methods from functions.
        indent = "" if re.search(r"^\s*class\b", source, re.MULTILINE) else r"[ \t]*"
        return {
            *re.findall(rf"^{indent}(?:async\s+)?(?:def|class)\s+(\w+)", source, re.MULTILINE),
            *re.findall(r"^(\w+)\s*(?::[^=\n]*)?=(?!=)", source, re.MULTILINE),
        }
    names = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif not isinstance(node, ast.Lambda):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            waiting += ast.iter_child_nodes(node)
    return names


def _judged(source, exercise_id):
    """The names in the second argument of `check("id", …)`."""
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except Exception:
        return []
    names = []
    for call in calls:
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Constant) and first.value == exercise_id:
            rest = [*call.args[1:], *(keyword.value for keyword in call.keywords)]
            names += [n.id for each in rest for n in ast.walk(each) if isinstance(n, ast.Name)]
    return names


def _globals(answer):
    """The global names that a function, or a class in its methods, reads."""
    parts = list(vars(answer).values()) if inspect.isclass(answer) else [answer]
    steps = (
        step
        for part in parts
        if inspect.isfunction(part)
        for code in codes(part.__code__)
        for step in dis.get_instructions(code)
    )
    return {step.argval for step in steps if step.opname == "LOAD_GLOBAL"}


def _slip(name, others):
    """Return the one of the other names that looks like this one misspelt, or ""."""
    near = difflib.get_close_matches(name, sorted(others), n=1, cutoff=0.85)
    return near[0] if near and abs(len(near[0]) - len(name)) <= 2 else ""
