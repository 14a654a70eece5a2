"""Find the class or function that a configuration names, and nothing else than what belongs there.

A configuration may come from somebody else, in the folder of a run. So a name is first looked at
where it stands in the source: what is absent, or an ordinary function, is refused without running
a line of its module. Only then is the module imported, and only a class derived from the expected
one is given back.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrms.errors import ConfigError
from fedrms.renamed import new_target


@dataclass(frozen=True)
class Form:
    """What a function must look like; the parameters after the first ones are its options."""

    parameters: tuple[str, ...]  # the names of its first parameters, in order
    returns: type  # what it says that it returns

    def begins(self, names: Sequence[str]) -> bool:
        """Say whether parameters of these names begin as they must."""
        return tuple(names[: len(self.parameters)]) == self.parameters

    def options(self, function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
        """Return the parameters that are options."""
        parameters = list(inspect.signature(function).parameters.values())
        return {p.name: p for p in parameters[len(self.parameters) :]}


Kind = type | Callable[[type], bool] | Form
"""A base class, a test of a class, or the form of a function."""


def named_class(key: str, target: object, kind: Kind, what: str) -> Callable[..., Any]:
    """Return the class that ``target`` names, ``"package.module.Class"``, if it is of a kind.

    A function that says that it returns such a class (``def resnet18(...) -> ResNet``) will do.
    Where a function of some form is asked for, only that will. ``what`` is the kind in words: ``"a
    torch module (torch.nn.Module)"``.
    """
    name = "function" if isinstance(kind, Form) else "Class"
    remedy = f"name {what}, as package.module.{name}"
    module_name, attributes = _located(key, target, what, remedy)
    if module_name not in sys.modules:
        form = kind if isinstance(kind, Form) and len(attributes) == 1 else None
        _look_before_importing(key, module_name, attributes[0], form, what, remedy)
    found = _imported(key, module_name, attributes, remedy)
    if not _belongs(found, kind):
        like = _signature(found) if isinstance(kind, Form) else ""
        raise ConfigError(key, f"{target}{like} is not {what}", remedy)
    made: Callable[..., Any] = found
    return made


def named_function(key: str, target: object, what: str) -> Callable[..., Any] | None:
    """Return the function that ``target`` names, or None where it names anything else."""
    remedy = f"name {what}, as package.module.name"
    module_name, attributes = _located(key, target, what, remedy)
    if module_name not in sys.modules:
        tree = _source(module_name)
        if tree is not None and not _bound(tree).keys() & {attributes[0], "*", "__getattr__"}:
            raise ConfigError(key, f"{module_name} has no attribute {attributes[0]!r}", remedy)
    found = _imported(key, module_name, attributes, remedy)
    return None if isinstance(found, type) or not callable(found) else found


def _located(key: str, target: object, what: str, remedy: str) -> tuple[str, list[str]]:
    """Return the module and the attributes in it that a name from a configuration means."""
    if not isinstance(target, str) or not _is_dotted(target):
        raise ConfigError(key, f"is {target!r}, which is no importable name", remedy)
    parts = new_target(target).split(".")
    if parts[0] in sys.stdlib_module_names:
        raise ConfigError(key, f"{target} belongs to Python itself and is not {what}", remedy)
    return _split(key, parts, remedy)


def _imported(key: str, module_name: str, attributes: Sequence[str], remedy: str) -> Any:
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # a module may raise anything while it is imported
        raise ConfigError(
            key,
            f"{module_name} cannot be imported ({type(error).__name__}: {error})",
            f"mend the module, or {remedy}",
        ) from error
    for attribute in attributes:
        if not hasattr(found, attribute):
            where = getattr(found, "__name__", module_name)
            raise ConfigError(key, f"{where} has no attribute {attribute!r}", remedy)
        found = getattr(found, attribute)
    return found


def _is_dotted(target: str) -> bool:
    parts = target.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def _belongs(found: object, kind: Kind) -> bool:
    if isinstance(kind, Form):
        return inspect.isfunction(found) and _has_form(found, kind)
    if inspect.isfunction(found):
        found = _returned(found)
    if not isinstance(found, type):
        return False
    return issubclass(found, kind) if isinstance(kind, type) else kind(found)


def _has_form(function: Callable[..., Any], form: Form) -> bool:
    returned = _returned(function)
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return (
        form.begins(list(inspect.signature(function).parameters))
        and all(option.kind in named for option in form.options(function).values())
        and isinstance(returned, type)
        and issubclass(returned, form.returns)
    )


def _returned(function: Callable[..., Any]) -> object:
    """Return the class that a function says it returns; None where it says none."""
    try:
        hint = typing.get_type_hints(function).get("return")
    except Exception:  # annotations may name what is not there
        return None
    return typing.get_origin(hint) or hint


def _signature(found: object) -> str:
    try:
        return str(inspect.signature(found))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""


def _split(key: str, parts: Sequence[str], remedy: str) -> tuple[str, list[str]]:
    """Return the module and the attributes in it that a dotted name means; imports nothing."""
    name, spec = parts[0], _spec(parts[0], None)
    if spec is None and name not in sys.modules:
        here = f"{name}.py" if Path(f"{name}.py").is_file() else f"{name}/"
        if Path(here).exists():
            remedy = f"{here} is in this folder: put PYTHONPATH=. before the command"
        raise ConfigError(key, f"there is no module {name!r} (of {'.'.join(parts)})", remedy)
    depth = 1
    while depth < len(parts) - 1:
        below = ".".join(parts[: depth + 1])
        inner = None
        if spec is not None and spec.submodule_search_locations is not None:
            inner = _spec(below, list(spec.submodule_search_locations))
        if inner is None and below not in sys.modules:
            break
        name, spec, depth = below, inner, depth + 1
    return name, list(parts[depth:])


def _spec(name: str, folders: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    try:
        if folders is None:
            return importlib.util.find_spec(name)
        return importlib.machinery.PathFinder.find_spec(name, folders)
    except (ImportError, ValueError, AttributeError):  # __main__ has no spec
        return None


def _look_before_importing(
    key: str, module: str, name: str, form: Form | None, what: str, remedy: str
) -> None:
    """Refuse a name that the module's source shows to be absent, or of another kind."""
    tree = _source(module)
    if tree is None:
        return
    bound = _bound(tree)
    if name in bound:
        node = bound[name]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is None:
            told = "says not what it returns, and is" if form else "is a function,"
            raise ConfigError(key, f"{module}.{name} {told} not {what}", remedy)
        if form and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            _refuse_other_form(key, f"{module}.{name}", node, form, what, remedy)
    elif not bound.keys() & {"*", "__getattr__"}:
        raise ConfigError(key, f"{module} has no attribute {name!r}", remedy)


def _refuse_other_form(
    key: str,
    target: str,
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
    form: Form,
    what: str,
    remedy: str,
) -> None:
    if isinstance(node, ast.ClassDef):
        raise ConfigError(key, f"{target} is a class, not {what}", remedy)
    leading = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    if not node.decorator_list and not form.begins(leading):
        taken = ", ".join(leading)
        raise ConfigError(key, f"{target}({taken}) is not {what}", remedy)


def _source(module: str) -> ast.Module | None:
    """Return the parsed source of a module that is not imported; None where there is none."""
    parts, folders = module.split("."), None
    spec = None
    for depth in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:depth]), folders)
        if spec is None:
            return None
        folders = list(spec.submodule_search_locations or [])
    get_source = getattr(spec.loader if spec else None, "get_source", None)
    try:
        text = get_source(module) if get_source else None
        return None if text is None else ast.parse(text)
    except (ImportError, SyntaxError, ValueError, OSError):
        return None


def _bound(tree: ast.Module) -> dict[str, ast.AST]:
    """Return what a module's source binds at its top level, by name; ``*`` for a star import."""
    bound: dict[str, ast.AST] = {}

    def walk(nodes: Sequence[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                bound[node.name] = node
                continue
            for part in ast.walk(node) if not hasattr(node, "body") else [node]:
                if isinstance(part, ast.Import | ast.ImportFrom):
                    for alias in part.names:
                        bound[(alias.asname or alias.name).split(".")[0]] = part
                elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    bound[part.id] = part
            for block in ("body", "orelse", "finalbody"):
                walk(getattr(node, block, []))
            for handler in getattr(node, "handlers", []):
                walk(handler.body)

    walk(tree.body)
    return bound
