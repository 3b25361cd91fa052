"""How a parameter rescales when inputs and loss change unit.

A unit is a product of powers such as ``"loss * N**alpha"``. It is evaluated in logs, so that
``(1e9)**12`` cannot overflow in float32.
"""

import ast
import functools
from collections.abc import Mapping
from typing import Any

from jaxscale._errors import LawError

_LINEAR = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


@functools.cache
def _tree(unit: str) -> ast.expr:
    try:
        return ast.parse(unit, mode="eval").body
    except SyntaxError as error:
        raise LawError(f"the unit {unit!r} is not an expression such as 'loss*N**alpha'") from error


@functools.cache
def names(unit: str) -> frozenset[str]:
    """Every name a unit mentions: inputs, ``loss`` and the parameters in its exponents."""
    if not unit:
        return frozenset()
    return frozenset(node.id for node in ast.walk(_tree(unit)) if isinstance(node, ast.Name))


def log_unit(unit: str, log_refs: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    """Log of one reference unit: ``sum_i exponent_i(params) * log_refs[name_i]``.

    Args:
        unit: product of powers of input names and ``loss``; exponents may use parameters.
        log_refs: log of the reference value of each input and of the loss.
        params: parameters that appear in exponents (dimensionless, so the same in any unit).

    Raises:
        LawError: if the expression is not such a product.
    """
    if not unit:
        return 0.0

    def exponent(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as value):
                return value
            case ast.Name(id=name) if name in params:
                return params[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -exponent(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _LINEAR:
                return _LINEAR[type(op)](exponent(left), exponent(right))
        raise LawError(f"in the unit {unit!r}, {ast.unparse(node)!r} is not a usable exponent")

    def log(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=1):
                return 0.0
            case ast.Name(id=name) if name in log_refs:
                return log_refs[name]
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return log(left) + log(right)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return log(left) - log(right)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return exponent(right) * log(left)
        raise LawError(
            f"in the unit {unit!r}, {ast.unparse(node)!r} is not an input, 'loss', "
            "or a product of their powers"
        )

    return log(_tree(unit))
