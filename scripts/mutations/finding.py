"""The lines that can be taken out of a file, each so that what is left still runs, or nearly."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
# What changes nothing that can be observed when it goes, and is left alone.
_DECORATORS = ("cache", "dataclass", "property", "contextmanager")  # speed, or nothing works
_KEYWORDS = ("strict", "rngs", "check_vma", "bound")  # checks of what is so; needed to be built
_CALLS = ("cast", "len", "tuple", "range", "zip", "enumerate", "sorted", "set", "hasattr", "iter")
_NOT_OPERANDS = ("config", "self", "settings", "name", "kind")


@dataclass(frozen=True)
class Mutation:
    """Bytes of a file that are replaced; `what` tells them, the same of both twins."""

    path: Path
    line: int
    start: int
    end: int
    text: str
    what: tuple[str, ...]

    def applied(self, source: bytes) -> bytes:
        """The file's content with the mutation."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {': '.join(part for part in self.what if part)}"


class Finder:
    """Finds the mutations of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = (ROOT / path).read_bytes()
        lines = self.source.splitlines(keepends=True)
        self.line_starts = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
        self.found: list[Mutation] = []
        tree = ast.parse(self.source)
        self.modules = {
            (name.asname or name.name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names
        }
        self._block(tree.body, "", set())

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.expr | ast.stmt | ast.keyword)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self.line_starts[node.lineno - 1] + node.col_offset,
            self.line_starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self.source[start:end].decode()

    def _add(self, node: ast.expr | ast.stmt, text: str, scope: str, kind: str, of: str) -> None:
        start, end = self._span(node)
        what = (
            scope.replace("setup", "__init__"),
            kind,
            of.replace("nnx.Linear", "nn.Dense").replace("nnx.", "nn."),
        )
        self.found.append(Mutation(self.path, node.lineno, start, end, text, what))

    def _block(self, body: list[ast.stmt], scope: str, bound: set[str]) -> None:
        for statement in body:
            self._statement(statement, scope, bound)

    def _statement(self, node: ast.stmt, scope: str, bound: set[str]) -> None:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                inner = f"{scope}{node.name}."
                self._decorators(node, inner)
                arguments = node.args.args if isinstance(node, ast.FunctionDef) else []
                self._block(node.body, inner, {one.arg for one in arguments})
            case ast.Expr(value=ast.Constant() | ast.Yield()) | ast.Import() | ast.ImportFrom():
                return
            case ast.Expr(value=value):
                self._add(node, "pass", scope, "without", self._text(node))
                self._expression(value, scope)
            case (
                ast.Assign(targets=[target], value=value)
                | ast.AugAssign(target=target, value=value)
            ):
                name = ast.unparse(target)
                if name.lstrip("_")[:1].isupper() and not isinstance(value, ast.Dict | ast.Call):
                    return  # a type, or a name for a constant
                if name == "__all__":
                    return
                if isinstance(target, ast.Name) and name in bound:
                    self._add(node, "pass", scope, "without", self._text(node))
                bound |= {one.id for one in ast.walk(target) if isinstance(one, ast.Name)}
                self._expression(value, scope)
            case ast.AnnAssign(value=value, target=target) if value is not None:
                bound |= {ast.unparse(target)}
                self._expression(value, scope)
            case ast.Return(value=value) if value is not None:
                self._expression(value, scope)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return
            case ast.If(test=test, body=body, orelse=orelse):
                self._add(test, "False", scope, "never", self._text(test))
                self._expression(test, scope)
                self._block(body, scope, bound)
                self._block(orelse, scope, bound)
            case ast.With(items=items, body=body):
                if all(item.optional_vars is None for item in items):
                    text = self._text(node).replace(self._text(node).split(":\n")[0], "if True", 1)
                    self._add(node, text, scope, "without", f"with {ast.unparse(items[0])}")
                self._block(body, scope, bound)
            case ast.For(iter=iterated, body=body):
                self._expression(iterated, scope)
                self._block(body, scope, bound)
            case ast.Try(body=body):
                self._block(body, scope, bound)

    def _decorators(self, node: ast.FunctionDef | ast.ClassDef, scope: str) -> None:
        for one in node.decorator_list:
            name = ast.unparse(one)
            if name.split("(")[0].split(".")[-1] not in (*_DECORATORS, "partial"):
                self._add(one, "(lambda same: same)", scope, "without", f"@{name}")

    def _expression(self, node: ast.expr, scope: str) -> None:
        """The mutations of an expression and of all within it."""
        if isinstance(node, ast.JoinedStr | ast.Constant):
            return
        for what, text in self._changes(node):
            one_argument = isinstance(node, ast.Call) and what.endswith("=")
            whole = ast.unparse(node).split("(")[0] if one_argument else ast.unparse(node)
            self._add(node, f"({text})", scope, what, whole)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "cast":
            self._expression(node.args[1], scope)
            return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._expression(child, scope)
            elif isinstance(child, ast.keyword):
                self._expression(child.value, scope)
            elif isinstance(child, ast.comprehension):
                self._expression(child.iter, scope)

    def _changes(self, node: ast.expr) -> Iterator[tuple[str, str]]:
        match node:
            case ast.Call():
                yield from self._call_changes(node)
            case ast.BinOp(left=left):
                yield "first operand of", self._text(left)
            case ast.UnaryOp(operand=operand):
                yield "operand of", self._text(operand)
            case ast.BoolOp(op=operator, values=values):
                joined = " and " if isinstance(operator, ast.And) else " or "
                yield "without the last of", joined.join(map(self._text, values[:-1]))
            case ast.IfExp(orelse=orelse):
                yield "never the first of", self._text(orelse)
            case ast.Dict(keys=keys, values=values) if node.end_lineno != node.lineno:
                for index, key in enumerate(keys):
                    kept = ast.Dict(_without(keys, index), _without(values, index))
                    yield f"without {'**' if key is None else self._text(key)}", ast.unparse(kept)
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                if node.end_lineno != node.lineno:
                    for index, element in enumerate(elements):
                        fewer = type(node)(_without(elements, index), ast.Load())
                        yield f"without {self._text(element)}", ast.unparse(fewer)

    def _call_changes(self, node: ast.Call) -> Iterator[tuple[str, str]]:
        name = ast.unparse(node.func)
        for index, keyword in enumerate(node.keywords):
            if keyword.arg is not None and keyword.arg not in _KEYWORDS:
                kept = ast.Call(node.func, node.args, _without(node.keywords, index))
                yield f"without {keyword.arg}=", ast.unparse(kept)
        short = name.split(".")[-1]
        if short in _CALLS or short.lstrip("_")[:1].isupper():
            return
        root = name.split(".")[0].split("(")[0]
        is_method = isinstance(node.func, ast.Attribute) and root not in {*self.modules, "self"}
        if is_method and isinstance(node.func, ast.Attribute):
            yield "unchanged by", self._text(node.func.value)
        elif node.args and _is_operand(node.args[0]):
            yield "unchanged by", self._text(node.args[0])


def _is_operand(node: ast.expr) -> bool:
    return ast.unparse(node) not in _NOT_OPERANDS and not isinstance(
        node, ast.Starred | ast.GeneratorExp | ast.Constant
    )


def _without(items: list[T], index: int) -> list[T]:
    return items[:index] + items[index + 1 :]
