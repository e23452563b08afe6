"""The functions of a TensorFlow 2 SavedModel written out as one graph, so that it reads as a graph of TensorFlow 1 does.

A call is replaced by the body of its function, a loop over the images by its body once, and what only hands a tensor on
by that tensor. Nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from detection.errors import BadWeightsError
from detection.weights.importers.folding import LARGEST, Operation
from detection.weights.importers.frozen_graph import operations

CALLS = {"PartitionedCall": "f", "StatefulPartitionedCall": "f", "While": "body", "StatelessWhile": "body"}
SIGNATURE = "serving_default"
MOST_CALLS, MOST_OPERATIONS = 2_000, 200_000  # of any detector; functions that call each other may ask for more


def has_functions(meta: Any) -> bool:
    """Whether a MetaGraph's graph is made of functions, as TensorFlow 2 writes it."""
    return len(meta.graph_def.library.function) > 0


def written_out(meta: Any, file: str) -> Iterator[Operation]:
    """The operations behind the outputs of a MetaGraph's signature. Raises BadWeightsError, one line, where there is none,
    or the functions call each other without end."""
    calls = {call.key: call.value for call in meta.signature_def}
    if SIGNATURE not in calls:
        raise BadWeightsError(f"{file}: a SavedModel without the signature {SIGNATURE}, so it is no exported detector")
    wanted = {output.value.name.partition(":")[0] for output in calls[SIGNATURE].outputs}
    nodes = [node for node in meta.graph_def.node if node.op not in CALLS or node.name in wanted]
    return _Writer(meta.graph_def.library.function, file).write(nodes)


# Nodes, the beginning of their names, arguments and what they are, results.
_Body = tuple[Any, str, dict[str, str], list[str]]


class _Writer:
    def __init__(self, functions: Any, file: str) -> None:
        self.functions = {function.signature.name: function for function in functions}
        self.file = file
        self.operations: list[Operation] = []
        self.numbers = 0  # of all constants: a function that holds some may be called often
        self.same: dict[str, str] = {}  # a tensor -> the one that it is

    def write(self, nodes: Any) -> Iterator[Operation]:
        queue: list[_Body] = [(nodes, "", {}, [])]
        calls = 0
        while queue:
            inside = self._body(*queue.pop())
            calls += len(inside)
            if calls > MOST_CALLS or len(self.operations) > MOST_OPERATIONS:
                raise BadWeightsError(f"{self.file}: its functions call each other more often than a detector's do")
            queue += inside
        for operation in self.operations:
            yield replace(operation, inputs=tuple(self._origin(tensor) for tensor in operation.inputs))

    def _body(self, nodes: Any, prefix: str, given: dict[str, str], returned: list[str]) -> list[_Body]:
        """Takes in the nodes of one function. given: the tensors that its arguments are; returned: what it gives back.
        -> the bodies that are called in it."""
        called = [node for node in nodes if node.op in CALLS]
        plain = [node for node in nodes if node.op not in CALLS]
        functions = {node.name: self._function(node) for node in called}

        def tensor(name: str) -> str:
            if name in given:
                return given[name]
            parts = name.split(":")  # node, or node:k; in functions node:output:k
            made, port = prefix + parts[0], int(parts[-1]) if len(parts) > 1 else 0
            if parts[0] in functions:
                return f"{made}/returned/{port}"
            return f"{made}:{port}" if port else made

        for port, name in enumerate(returned):
            self.same[f"{prefix}returned/{port}"] = tensor(name)
        for operation in operations(plain, self.file):
            value = operation.attributes.get("value")
            self.numbers += value.size if isinstance(value, np.ndarray) else 0
            if self.numbers > LARGEST or len(self.operations) > MOST_OPERATIONS:
                raise BadWeightsError(f"{self.file}: its functions, written out, are larger than a detector's")
            inputs = tuple(tensor(name) for name in operation.inputs)
            name = prefix + operation.name
            if operation.op == "Identity":
                self.same[name] = inputs[0]
            else:
                self.operations.append(replace(operation, name=name, inputs=inputs))
        bodies: list[_Body] = []
        for node in called:
            function, ends = functions[node.name], {one.key: one.value for one in functions[node.name].ret}
            handed = [tensor(name) for name in node.input if not name.startswith("^")]
            arguments = {one.name: value for one, value in zip(function.signature.input_arg, handed, strict=True)}
            results = [ends[one.name] for one in function.signature.output_arg]
            bodies.append((function.node_def, f"{prefix}{node.name}/", arguments, results))
        return bodies

    def _function(self, node: Any) -> Any:
        name = next((attr.value.func.name for attr in node.attr if attr.key == CALLS[node.op]), "")
        if name not in self.functions:
            raise BadWeightsError(f"{self.file}: {node.name} calls a function that is missing")
        return self.functions[name]

    def _origin(self, tensor: str) -> str:
        passed: list[str] = []
        for _ in range(len(self.same) + 1):
            if tensor not in self.same:
                self.same.update(dict.fromkeys(passed, tensor))  # so that nobody walks the same way again
                return tensor
            passed.append(tensor)
            tensor = self.same[tensor]
        raise BadWeightsError(f"{self.file}: {tensor} is made of itself")
