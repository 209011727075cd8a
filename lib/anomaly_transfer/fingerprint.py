"""Content fingerprints: what a result depends on, as one hash.

A result is stale when something it was computed from has changed in *meaning*. So code is hashed by its
syntax tree (comments, docstrings and layout do not count) over everything it imports from this package,
and data and weights by their bytes. Only the standard library is imported here: deciding that there is
nothing to do must not cost the import of torch.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
from functools import cache
from pathlib import Path

PACKAGE = "anomaly_transfer"
_ROOT = Path(__file__).resolve().parent


def digest(value: object) -> str:
    """SHA-256 of a JSON-serialisable value in canonical form (keys sorted).

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_hash(source: str) -> str:
    """SHA-256 of what Python source *does*: comments, docstrings and layout leave it unchanged.

    >>> source_hash("x = 1  # one") == source_hash("x    = 1")
    True
    >>> source_hash("x = 1") == source_hash("x = 2")
    False
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if ast.get_docstring(node, clean=False) is not None:
                    node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def imported_modules(source: str, module: str = "", packages: bool = True) -> set[str]:
    """Names of this package's modules that ``source`` imports; ``module`` resolves relative imports.

    Parameters
    ----------
    source, module : str
    packages : bool
        Also the package from which a module is imported.

    Examples
    --------
    >>> sorted(imported_modules("from anomaly_transfer.studies import plan"))
    ['anomaly_transfer.studies', 'anomaly_transfer.studies.plan']
    >>> imported_modules("from anomaly_transfer.studies import plan", packages=False)
    {'anomaly_transfer.studies.plan'}
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                is_package = module_path(module).name == "__init__.py"
                keep = len(parents) - node.level + is_package
                base = ".".join([*parents[:keep], *([base] if base else [])])
            inside = {name for alias in node.names if _is_ours(name := f"{base}.{alias.name}")}
            names |= inside
            if packages or len(inside) < len(node.names):
                names.add(base)
    return {name for name in names if _is_ours(name)}


def import_closure(*modules: str) -> list[str]:
    """Every module of this package that importing ``modules`` executes, sorted (static imports only)."""
    found: set[str] = set()
    todo = set(modules)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        todo |= _imports_of(name)
        parts = name.split(".")
        todo |= {".".join(parts[:end]) for end in range(1, len(parts))}
    return sorted(found)


def code_hash(*modules: str, with_entries: bool = False) -> str:
    """One hash over the syntax trees of ``modules`` and of all they import from this package.

    Registries (packages whose ``__init__`` looks for its modules) import their entries by name at run time, so
    adding a benchmark, a detector or a study leaves the hash of every other one as it was. So does the face of this
    package, whose entries are the modules that its names come from.

    Parameters
    ----------
    *modules : str
        e.g. ``"anomaly_transfer.features.extraction"``.
    with_entries : bool
        Count all entries of every registry among ``modules``, or that is imported itself, and not only some of its
        modules: for what may use any of them.

    Raises
    ------
    ModuleNotFoundError
        If a name is not a module of this package.
    """
    closure = import_closure(*modules)
    found: list[str] = []
    while with_entries and closure != found:
        found = closure
        named = {*modules, *(name for module in found for name in _named(module))}
        closure = import_closure(*found, *(entry for name in sorted(named) for entry in _entries(name)))
    return digest({name: _hash_of(name) for name in closure})


def tree_hash(folder: str | Path) -> str:
    """Hash of all files below a folder: names and bytes, hidden files and caches left out."""
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    named = {path.relative_to(root).as_posix(): path for path in files}
    return digest({name: file_hash(path) for name, path in named.items() if not _ignored(name)})


def listing_hash(folder: str | Path) -> str:
    """Hash of the names in a folder and in its folders: cheap, for what is too large to read. A folder that is not
    there is an empty one.
    """
    root = Path(folder)
    names = (path.relative_to(root).as_posix() for pattern in ("*", "*/*") for path in root.glob(pattern))
    return digest(sorted(name for name in names if not _ignored(name) and ".partial" not in name))


def distribution_hash(name: str) -> str | None:
    """Hash of an installed distribution's content, from the checksums pip recorded; None if absent."""
    try:
        record = importlib.metadata.distribution(name).read_text("RECORD")
    except importlib.metadata.PackageNotFoundError:
        return None
    # Only files with a checksum count, and only what the wheel brought: pip's own notes
    # (INSTALLER, direct_url.json) and compiled files differ between machines.
    lines = sorted(
        line
        for line in (record or "").splitlines()
        if "sha256=" in line and ".dist-info/" not in line and ".pyc" not in line
    )
    return digest(lines)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE and module_path(module).exists()


def _ignored(name: str) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))


def _entries(module: str) -> list[str]:
    if module == PACKAGE:
        return sorted(imported_modules(module_source(module), module))
    path = module_path(module)
    if path.name != "__init__.py" or "iter_modules(__path__)" not in module_source(module):
        return []
    return [f"{module}.{entry.stem}" for entry in sorted(path.parent.glob("*.py")) if entry.stem != "__init__"]


def module_path(module: str) -> Path:
    """The file of a module of this package, whether it is there or not."""
    base = _ROOT.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@cache
def module_source(module: str) -> str:
    """The source of a module of this package.

    Raises
    ------
    ModuleNotFoundError
        If there is no such module.
    """
    path = module_path(module)
    if not path.exists():
        raise ModuleNotFoundError(f"{module} is not a module of {PACKAGE}")
    return path.read_text(encoding="utf-8")


@cache
def _imports_of(module: str) -> frozenset[str]:
    tree = ast.parse(module_source(module))
    # What only a type checker reads is not executed.
    for_checkers = [
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    tree.body = [node for node in tree.body if node not in for_checkers]
    return frozenset(imported_modules(ast.unparse(tree), module))


@cache
def _named(module: str) -> frozenset[str]:
    """What a module imports under its own name, or something of: not the packages in which that lies."""
    return frozenset(imported_modules(module_source(module), module, packages=False))


@cache
def _hash_of(module: str) -> str:
    return source_hash(module_source(module))
