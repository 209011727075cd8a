"""What code a result depends on: the definitions that are reached from where it is computed, and their libraries.

The key of a result must change when the result would, and should not change when it would not. So the code that counts
is found definition by definition, by reading it (nothing is imported or run):

- a function counts with every name that it mentions, a constant with its value, and so on from there;
- a class counts with its bases, its fields and its special methods. An ordinary method counts if some code that is
  reached calls a method of that name, on whatever object; and all of them count where a base comes from a library that
  may call them by itself (``torch.nn.Module``, pydantic's ``BaseModel``);
- with a class count the subclasses that its own module defines: what is declared as the one may be the other;
- type annotations lead to the classes they name, but do not count themselves, no more than comments, docstrings, layout
  and what errors say;
- of other packages the version counts, of those that reached code names (see :data:`LIBRARIES`).

What is looked up by its name at run time (a detector, a benchmark) is not found so. Whoever makes a key names it
(``studies.base.Study.methods``), which is checked when the result is computed. Of benchmarks the data count, not the
code.
"""

from __future__ import annotations

import ast
import copy
import importlib.metadata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property

from anomaly_transfer.fingerprint import PACKAGE, digest, module_path, module_source

#: Modules and methods that keep and find results, say what is wrong, or choose a machine, but compute no number: what
#: they lead to counts, they do not.
KEEPING = (
    "anomaly_transfer.benchmarks",
    "anomaly_transfer.code_used",
    "anomaly_transfer.device",
    "anomaly_transfer.errors",
    "anomaly_transfer.fingerprint",
    "anomaly_transfer.data.annotations:sealed",
    "anomaly_transfer.atomic",
    "anomaly_transfer.settings",
    "anomaly_transfer.profiles",
    "anomaly_transfer.provenance",
    "anomaly_transfer.studies.records",
    "anomaly_transfer.features.cached:_mapped",
    "anomaly_transfer.features.cached:_stored",
    "anomaly_transfer.features.cached:_write",
    "anomaly_transfer.store",
    "anomaly_transfer.studies",
    "anomaly_transfer.studies.base",
)

#: Libraries whose version counts where reached code names them: import name to distribution. OpenVINO is not among
#: them, since tests hold its results to those of PyTorch, nor what draws bars, keeps files or checks types.
LIBRARIES = {
    "PIL": "pillow",
    "anomalib": "anomalib",
    "captum": "captum",
    "numpy": "numpy",
    "ot": "pot",
    "pandas": "pandas",
    "scikit_posthocs": "scikit-posthocs",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "timm": "timm",
    "torch": "torch",
    "torchvision": "torchvision",
}

#: Bases that call no method by themselves.
QUIET = {"ABC", "Sequence", "Mapping", "Protocol", "Exception", "ValueError", "BaseEstimator", "NamedTuple"}


@dataclass(frozen=True)
class Code:
    """The code that a result depends on.

    Attributes
    ----------
    modules : dict of str to str
        Short hash of what counts of each module of this package.
    libraries : dict of str to str
        Version of each distribution that counts; empty for one that is not installed.
    """

    modules: dict[str, str]
    libraries: dict[str, str]

    @cached_property
    def hash(self) -> str:
        """One hash over both."""
        return digest([self.modules, self.libraries])

    def moved(self, other: Code) -> list[str]:
        """Modules and libraries that are not as they were in ``other``, each with a word on how."""
        found = [
            f"code of {name}"
            for name in sorted({*self.modules, *other.modules})
            if self.modules.get(name) != other.modules.get(name)
        ]
        return found + [
            f"{name} {other.libraries.get(name) or 'absent'}, now {self.libraries.get(name) or 'absent'}"
            for name in sorted({*self.libraries, *other.libraries})
            if self.libraries.get(name) != other.libraries.get(name)
        ]


def code_of(*places: str) -> Code:
    """The code that is reached from some definitions.

    Parameters
    ----------
    *places : str
        ``"anomaly_transfer.features.extraction:extract"``; a method as ``"...:Class.method"``, an entry of a registry
        as ``"...:METHODS[name]"``; a class counts with all of its methods.

    Raises
    ------
    ModuleNotFoundError, KeyError
        If there is no such module, or no such definition in it.
    """
    return _code_of(tuple(sorted(set(places))))


def reached(*places: str) -> list[str]:
    """Every definition of this package that is reached from some, sorted: ``"module:name"``."""
    return sorted(_reached(places)[0])


@cache
def _code_of(places: tuple[str, ...]) -> Code:
    found, libraries = _reached(places)
    parts: dict[str, dict[str, str]] = {}
    for place in sorted(found):
        module, _, name = place.partition(":")
        if not any(place == kept or module == kept for kept in KEEPING):
            parts.setdefault(module, {})[name] = _module(module).text(name)
    return Code(
        modules={module: digest(texts)[:12] for module, texts in parts.items()},
        libraries={LIBRARIES[name]: _version(LIBRARIES[name]) for name in sorted(libraries & set(LIBRARIES))},
    )


def _version(distribution: str) -> str:
    try:
        # What stands behind a plus says how it was built.
        return importlib.metadata.version(distribution).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def _reached(places: Iterable[str]) -> tuple[set[str], set[str]]:
    """Definitions of this package, and top-level names of other packages."""
    found: set[str] = set()
    libraries: set[str] = set()
    called: set[str] = set()  # names of attributes that some reached code mentions
    waiting: dict[str, set[str]] = {}  # methods of reached classes that nobody has mentioned yet
    todo = []
    for place in places:
        module, _, name = place.partition(":")
        here = _module(module)
        if name not in here.definitions:
            raise KeyError(f"{module} defines no {name!r}")
        todo += [place, *(f"{module}:{method}" for method in here.methods(name))]
    while todo:
        place = todo.pop()
        if place in found:
            continue
        found.add(place)
        module, _, name = place.partition(":")
        here = _module(module)
        mention = here.mentions(name)
        libraries |= mention.libraries
        todo += mention.places
        for attribute in mention.attributes - called:
            called.add(attribute)
            todo += waiting.pop(attribute, ())
        if isinstance(here.definitions[name], ast.ClassDef):
            todo += [f"{module}:{other}" for other in here.subclasses(name)]
            for method in here.methods(name):
                attribute = method.rpartition(".")[2]
                special = attribute.startswith("__") and attribute.endswith("__")
                if special or attribute in called or here.is_driven(name):
                    todo.append(f"{module}:{method}")
                else:
                    waiting.setdefault(attribute, set()).add(f"{module}:{method}")
        if mention.places or mention.libraries or mention.attributes:
            todo += [f"{module}:{other}" for other in here.loose if f"{module}:{other}" not in found]
    return found, libraries


@dataclass
class _Mention:
    """What one definition names."""

    places: set[str] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)


class _Module:
    """One module, read into definitions."""

    def __init__(self, name: str):
        self.name = name
        self.is_package = module_path(name).name == "__init__.py"
        self.definitions: dict[str, ast.AST] = {}
        self.aliases: dict[str, tuple[str, str | None]] = {}
        #: Statements that are no definition, e.g. a call that registers something.
        self.loose: list[str] = []
        for node in ast.parse(module_source(name)).body:
            self._read(node)

    def _read(self, node: ast.stmt) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                self.aliases |= self._imported(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.definitions[node.name] = node
            case ast.ClassDef():
                self.definitions[node.name] = node
                for part in node.body:
                    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                        # A property and its setter have one name.
                        self.definitions.setdefault(f"{node.name}.{part.name}", ast.Module([], []))
                        self.definitions[f"{node.name}.{part.name}"].body.append(part)  # type: ignore[attr-defined]
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for name in (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)):
                    self.definitions[name] = node
                    self.definitions |= {f"{name}[{key}]": value for key, value in _entries(node.value)}
            case ast.If() if "TYPE_CHECKING" in ast.unparse(node.test):
                for part in node.body:
                    self._read(part)
            case ast.If() if "__main__" in ast.unparse(node.test):
                pass
            case ast.Expr(value=ast.Constant()):
                pass
            case _:
                self.loose.append(name := f"statement {node.lineno}")
                self.definitions[name] = node

    def _imported(self, node: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str | None]]:
        """Local name to (module, name in it or None)."""
        if isinstance(node, ast.Import):
            # Without `as`, the name is that of the outermost package.
            names = {alias.asname or alias.name.split(".")[0]: alias for alias in node.names}
            return {name: (alias.name if alias.asname else name, None) for name, alias in names.items()}
        base = node.module or ""
        if node.level:
            parents = self.name.split(".")
            base = ".".join([*parents[: len(parents) - node.level + self.is_package], *([base] if base else [])])
        return {alias.asname or alias.name: (base, alias.name) for alias in node.names}

    def methods(self, name: str) -> list[str]:
        """Names of the methods of a class, as definitions."""
        return [other for other in self.definitions if other.startswith(f"{name}.")]

    def subclasses(self, name: str) -> Iterator[str]:
        """Classes of this module with ``name`` as a base."""
        for other, node in self.definitions.items():
            if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == name for b in node.bases):
                yield other

    def is_driven(self, name: str) -> bool:
        """Whether a library may call the methods of a class by itself, since it is one of its bases, or of theirs."""
        for base in getattr(self.definitions[name], "bases", ()):
            place = self._place(base)
            if place is None:
                if ast.unparse(base).split(".")[-1].split("[")[0] not in QUIET:
                    return True
            elif _module(place.partition(":")[0]).is_driven(place.partition(":")[2]):
                return True
        return False

    def _place(self, node: ast.expr, inside: dict[str, tuple[str, str | None]] | None = None) -> str | None:
        """The definition of this package that a name or a dotted name stands for, if it does."""
        aliases = self.aliases | (inside or {})
        if isinstance(node, ast.Name):
            if node.id in self.definitions and node.id not in (inside or {}):
                return f"{self.name}:{node.id}"
            return _resolved(*aliases[node.id]) if node.id in aliases else None
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            base = self._package(node.value, aliases)
            return None if base is None else _resolved(base, node.attr)
        return None

    def _package(self, node: ast.expr, aliases: dict[str, tuple[str, str | None]]) -> str | None:
        """The module of this package that a name or a dotted name stands for, if it does."""
        if isinstance(node, ast.Name) and node.id in aliases:
            module, name = aliases[node.id]
            whole = module if name is None else f"{module}.{name}"
            return whole if _is_ours(whole) else None
        if isinstance(node, ast.Attribute):
            base = self._package(node.value, aliases)
            return f"{base}.{node.attr}" if base and _is_ours(f"{base}.{node.attr}") else None
        return None

    @cache  # noqa: B019 (modules live as long as the process)
    def mentions(self, name: str) -> _Mention:
        """What a definition names; of a class, without its methods."""
        found = _Mention()
        node = _skeleton(self.definitions[name])
        if "." in name:
            found.places.add(f"{self.name}:{name.partition('.')[0]}")
        inside: dict[str, tuple[str, str | None]] = {}
        for part in ast.walk(node):
            if isinstance(part, ast.Import | ast.ImportFrom):
                inside |= self._imported(part)
        aliases = self.aliases | inside
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                # Annotations may be strings; nothing else looks like a name of this module by chance and matters.
                continue
            if isinstance(part, ast.Attribute):
                found.attributes.add(part.attr)
            if not isinstance(part, ast.Name | ast.Attribute):
                continue
            place = self._place(part, inside)
            if place is not None:
                found.places.add(place)
            elif isinstance(part, ast.Name) and part.id in aliases and not _is_ours(aliases[part.id][0]):
                found.libraries.add(aliases[part.id][0].split(".")[0])
        return found

    @cache  # noqa: B019
    def text(self, name: str) -> str:
        """A definition as it counts: no docstrings, no annotations of functions, no methods of classes."""
        return ast.unparse(_Bare().visit(copy.deepcopy(_skeleton(self.definitions[name]))))


def _entries(node: ast.expr | None) -> Iterator[tuple[str, ast.expr]]:
    """The entries of a registry, a dictionary that is written out: each counts by itself."""
    if isinstance(node, ast.IfExp):
        node = node.body
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                yield str(key.value), value


class _Bare(ast.NodeTransformer):
    """Takes away what does not count."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            # What an error says is no part of a result.
            node.exc = node.exc.func
        return super().generic_visit(node)


def _skeleton(node: ast.AST) -> ast.AST:
    """A class without its methods; anything else as it is."""
    if not isinstance(node, ast.ClassDef):
        return node
    body = [part for part in node.body if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
    return ast.ClassDef(node.name, node.bases, node.keywords, body or [ast.Pass()], node.decorator_list)


def _resolved(module: str, name: str | None) -> str | None:
    """The definition behind an import, through packages that hand it on; None if it is not of this package."""
    if name is None or not _is_ours(module) or _is_ours(f"{module}.{name}"):
        return None
    here = _module(module)
    if name in here.definitions:
        return f"{module}:{name}"
    return _resolved(*here.aliases[name]) if name in here.aliases else None


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE and module_path(module).exists()


@cache
def _module(name: str) -> _Module:
    return _Module(name)
