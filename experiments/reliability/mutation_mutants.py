"""The mutants of a file: cosmic-ray's operators, and two more for what a hurried colleague leaves out.

Left out are mutants that no test on a CPU can notice or that change words only: inside annotations, names of types, the
messages of errors, ``__repr__``, and the arguments ``strict=``, ``device=`` and ``stacklevel=``. Of several mutants at
one place one is drawn, so that an operator with eleven replacements does not count eleven times.
"""

from __future__ import annotations

import ast
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

# Replacements that leave code that runs: those that end in a TypeError at once say nothing of the tests.
_BINARY = [
    "Add_Sub",
    "Sub_Add",
    "Mul_Div",
    "Mul_Add",
    "Div_Mul",
    "Div_FloorDiv",
    "FloorDiv_Mul",
    "FloorDiv_Div",
    "Mod_FloorDiv",
    "Mod_Mul",
    "Pow_Mul",
    "BitOr_BitAnd",
    "BitAnd_BitOr",
    "BitXor_BitAnd",
    "LShift_RShift",
    "RShift_LShift",
]
_COMPARISON = [
    "Eq_NotEq",
    "NotEq_Eq",
    "Lt_LtE",
    "Lt_GtE",
    "LtE_Lt",
    "LtE_Gt",
    "Gt_GtE",
    "Gt_LtE",
    "GtE_Gt",
    "GtE_Lt",
    "Is_IsNot",
    "IsNot_Is",
]
_OTHERS = [
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "NumberReplacer",
    "ZeroIterationForLoop",
    "ExceptionReplacer",
    "ReplaceUnaryOperator_USub_UAdd",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_Invert",
]
OPERATORS = [
    *(f"core/ReplaceBinaryOperator_{name}" for name in _BINARY),
    *(f"core/ReplaceComparisonOperator_{name}" for name in _COMPARISON),
    *(f"core/{name}" for name in _OTHERS),
]
# Arguments that change nothing where a test could see it.
_QUIET = {"strict", "device", "stacklevel"}
DROP_KEYWORD = "drop-keyword"
DROP_STATEMENT = "drop-statement"


class Place(NamedTuple):
    """Where one operator applies, and for the how-many-eth time in its file."""

    operator: str
    occurrence: int
    start: tuple[int, int]
    stop: tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """One changed file."""

    file: str
    operator: str
    # The lines of the statement that it changes, from 1.
    first: int
    last: int
    old: str
    new: str
    text: str

    @property
    def name(self) -> str:
        """The mutant's name, which does not move with the lines around it."""
        return f"{self.file}: {self.old} -> {self.new}"


def mutants_of(root: Path, files: Sequence[str], sample: int, seed: int) -> list[Mutant]:
    """Return a random sample of the files' mutants, at most one for each place in the code; the same for one seed."""
    at: dict[tuple[str, int, int], list[Place]] = defaultdict(list)
    for file in files:
        source = (root / file).read_text(encoding="utf-8")
        for place in _places(source):
            at[file, *place.start].append(place)
    rng = random.Random(seed)  # noqa: S311 - a sample
    keys = sorted(at)
    rng.shuffle(keys)
    chosen = []
    for key in keys:
        mutant = _made(root, key[0], rng.choice(at[key]))
        if mutant is not None:
            chosen.append(mutant)
        if len(chosen) == sample:
            break
    return chosen


def count_places(root: Path, files: Sequence[str]) -> int:
    """Return at how many places the files can be mutated."""
    return sum(len({p.start for p in _places((root / f).read_text(encoding="utf-8"))}) for f in files)


def _places(source: str) -> list[Place]:
    tree = ast.parse(source)
    silent = _silent(tree)
    places = [*_cosmic(source), *_own(tree)]
    # A "*" in a signature is no product.
    sums = [_span(node) for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.AugAssign)]
    return [
        p
        for p in places
        if not any(start <= p.start < stop for start, stop in silent)
        and ("BinaryOperator" not in p.operator or any(start <= p.start < stop for start, stop in sums))
    ]


def _silent(tree: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the spans in which no mutant is made."""
    nodes: list[Any] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            nodes.append(node.annotation)
        if isinstance(node, ast.FunctionDef):
            nodes += node.decorator_list
            if node.returns:
                nodes.append(node.returns)
            if node.name == "__repr__":
                nodes.append(node)
        if isinstance(node, ast.ClassDef):
            nodes += node.decorator_list
        if isinstance(node, ast.keyword) and node.arg in _QUIET:
            nodes.append(node)
        if isinstance(node, ast.Raise) and node.exc:
            nodes.append(node.exc)
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and _names_a_type(statement):
            nodes.append(statement)
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes]


def _names_a_type(statement: ast.Assign) -> bool:
    """Whether a module's statement names a type: ``Start = Channel | Unit``."""
    name = ast.unparse(statement.targets[0]).lstrip("_")
    return name[:1].isupper() and not name.isupper() and isinstance(statement.value, ast.Subscript | ast.BinOp)


def _cosmic(source: str) -> Iterator[Place]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    nodes = list(ast_nodes(get_ast(source)))
    for name in OPERATORS:
        operator = get_operator(name)()
        occurrence = 0
        for node in nodes:
            for start, stop in operator.mutation_positions(node):
                yield Place(name, occurrence, start, stop)
                occurrence += 1


def _own(tree: ast.Module) -> Iterator[Place]:
    for n, node in enumerate(_keywords(tree)):
        yield Place(DROP_KEYWORD, n, *_span(node))
    for n, statement in enumerate(_statements(tree)):
        yield Place(DROP_STATEMENT, n, *_span(statement))


def _span(node: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _keywords(tree: ast.Module) -> list[ast.keyword]:
    """Return the keywords of calls, which may be left out."""
    return [k for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords if k.arg]


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Return the statements that do something to what is there: calls and sums."""
    kinds = ast.Expr | ast.AugAssign
    found = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return [node for node in found if not (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call))]


def _made(root: Path, file: str, place: Place) -> Mutant | None:
    """Return the mutant at a place, ``None`` where it does not compile or changes nothing."""
    source = (root / file).read_text(encoding="utf-8")
    if place.operator == DROP_KEYWORD:
        text = _without(source, place, "")
    elif place.operator == DROP_STATEMENT:
        text = _without(source, place, "pass")
    else:
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        text = mutate_code(source, get_operator(place.operator)(), place.occurrence) or ""
    try:
        if not text or ast.dump(ast.parse(text)) == ast.dump(ast.parse(source)):
            return None
    except SyntaxError:
        return None
    old, new = _differing(source, text)
    return Mutant(file, place.operator, *_statement(ast.parse(source), place.start[0]), old, new, text)


def _statement(tree: ast.Module, line: int) -> tuple[int, int]:
    """Return the lines of the innermost statement around a line; of one with a body the head alone."""
    spans = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            last = node.end_lineno or node.lineno
            body = getattr(node, "body", None)
            if body:
                last = max(node.lineno, body[0].lineno - 1)
            if node.lineno <= line <= last:
                spans.append((last - node.lineno, node.lineno, last))
    _, first, last = min(spans, default=(0, line, line))
    return first, last


def _without(source: str, place: Place, instead: str) -> str:
    """Return the source with a span replaced; of an argument the comma goes too."""
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: place.start[0] - 1])) + place.start[1]
    stop = sum(map(len, lines[: place.stop[0] - 1])) + place.stop[1]
    data = source.encode()
    before = data[:start]
    after = data[stop:]
    if not instead:
        rest = after.lstrip()
        if rest.startswith(b","):
            after = rest[1:].lstrip(b" ")
        else:
            before = before.rstrip().removesuffix(b",")
    return (before + instead.encode() + after).decode()


def _differing(old: str, new: str) -> tuple[str, str]:
    """Return the lines that differ, stripped and joined."""
    before = old.splitlines()
    after = new.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return " ".join(line.strip() for line in before), " ".join(line.strip() for line in after)
