"""Which part of the model an operation belongs to."""

import pytest

from harness import hlo
from harness.hlo import parts

PROGRAM = """HloModule m

%product (p: bf16[8,8]) -> bf16[8,8] {
  %p = bf16[8,8]{1,0} parameter(0)
  %d = bf16[8,8]{1,0} dot(%p, %p), lhs_contracting_dims={1}, rhs_contracting_dims={0}, metadata={op_name="jit(step)/jvp(decoder)/while/body/mlp/wi_0/dot_general"}
  ROOT %n = bf16[8,8]{1,0} negate(%d), metadata={op_name="jit(step)/norm/neg"}
}

%sum (q: bf16[8,8]) -> bf16[8,8] {
  %q = bf16[8,8]{1,0} parameter(0)
  ROOT %m = bf16[8,8]{1,0} add(%q, %q)
}

ENTRY %e (w: bf16[8,8], v: bf16[8,8]) -> bf16[8,8] {
  %w = bf16[8,8]{1,0} parameter(0), metadata={op_name="state['opt_state'][0].mu['wo']['kernel']"}
  %v = bf16[8,8]{1,0} parameter(1), metadata={op_name="x"}
  %fused = bf16[8,8]{1,0} fusion(%v), kind=kOutput, calls=%product, backend_config={"estimated_cycles":"8"}, metadata={op_name="jit(step)/norm/neg"}
  %moment = bf16[8,8]{1,0} fusion(%w), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"7"}
  %copied = bf16[8,8]{1,0} copy(%v), backend_config={"estimated_cycles":"6"}
  %nested = bf16[8,8]{1,0} fusion(%v), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"5"}, metadata={op_name="jit(step)/optimizer/jit(clip)/norm/mul"}
  %update = bf16[8,8]{1,0} fusion(%v), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"4"}, metadata={op_name="jit(step)/optimizer/mul"}
  %zeros = bf16[8,8]{1,0} fusion(%v), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"3"}
  %used = bf16[8,8]{1,0} multiply(%zeros, %zeros), metadata={op_name="jit(step)/loss/mul"}
  %inside = bf16[8,8]{1,0} fusion(%v), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"2"}, metadata={op_name="jit(step)/while/body/mul"}
  ROOT %last = bf16[8,8]{1,0} fusion(%used), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"1"}, metadata={op_name="jit(step)/mul"}
}
"""  # noqa: E501


@pytest.mark.parametrize(
    ("cycles", "part"),
    [
        (8, "mlp"),  # the product inside outweighs the fusion's own name
        (7, "optimizer"),  # all its data come from the optimizer's state, though it is wo's
        (6, "copies"),
        (5, "norm"),  # the innermost name
        (4, "optimizer"),
        (3, "loss"),  # nothing names it but what uses it
        (2, "layers, other"),
        (1, "other"),
    ],
)
def test_an_operation_belongs_to_a_part(cycles: int, part: str) -> None:
    costs = {cost.cycles: cost.part for cost in parts.list_costs(hlo.parse(PROGRAM))}
    assert costs[cycles] == part


def test_the_parts_add_up_to_all_cycles() -> None:
    program = hlo.parse(PROGRAM)
    by_part = parts.cycles_by_part(program)
    assert sum(by_part.values()) == hlo.fusion_cycles(program) == 36
    assert by_part["optimizer"] == 7 + 4
