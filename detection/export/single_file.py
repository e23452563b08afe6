"""One script out of several modules: the package's own source of a few functions, and of all that they use, in one text."""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import dataclass, field
from types import ModuleType


@dataclass
class _Collected:
    """imports: lines such as `import math`. parts: name -> (its module, its source), what it uses before it."""

    imports: dict[str, None] = field(default_factory=dict)
    parts: dict[str, tuple[str, str]] = field(default_factory=dict)


def inlined(script: str, package: str = "detection") -> str:
    """A script whose imports of `package` are replaced by the source of what they name, and of all that this uses: it
    then runs without the package, and computes what the package computes.

    The script imports by `from detection.module import name`, at its top level. A name is a function, a class or a
    constant of the module. ValueError for two different things of one name.
    """
    lines = script.splitlines()
    collected = _Collected()
    imports = [n for n in ast.parse(script).body if isinstance(n, ast.ImportFrom) and _inside(n.module, package)]
    for node in imports:
        for alias in node.names:
            _collect(importlib.import_module(node.module or ""), alias.name, package, collected)
    own = {line.strip() for line in lines}
    needed = sorted(line for line in collected.imports if line not in own)
    text = "\n".join([*needed, *(f"\n\n{source}" for _, source in collected.parts.values())])
    for node in reversed(imports):
        assert node.end_lineno is not None
        lines[node.lineno - 1 : node.end_lineno] = [text] if node is imports[0] else []
    return "\n".join(lines) + "\n"


def _inside(module: str | None, package: str) -> bool:
    return module is not None and module.split(".")[0] == package


def _collect(module: ModuleType, name: str, package: str, collected: _Collected) -> None:
    """Adds what `name` means in a module, behind all that it uses itself."""
    source = inspect.getsource(module)
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and _inside(node.module, package):
            if name in (alias.name for alias in node.names):
                _collect(importlib.import_module(node.module or ""), name, package, collected)
                return
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            if name in (alias.asname or alias.name for alias in node.names):
                collected.imports[ast.unparse(node)] = None
        elif name in _defined(node):
            if (known := collected.parts.get(name)) is not None:
                if known[0] != module.__name__:
                    raise ValueError(f"{name} stands in {module.__name__} and in {known[0]}")
                return
            for used in sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - {name}):
                _collect(module, used, package, collected)
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            lines = source.splitlines()[first - 1 : node.end_lineno]
            collected.parts[name] = (module.__name__, "\n".join(lines))


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement of a module's top level gives a meaning."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}
