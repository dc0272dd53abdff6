"""Which part of the model an operation belongs to."""

import pytest

from harness import hlo
from harness.hlo import parts
from models.decoder.family import parts as PARTS
from models.examples import gpt2

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
    costs = {cost.cycles: cost.part for cost in parts.list_costs(hlo.parse(PROGRAM), PARTS)}
    assert costs[cycles] == part


def test_the_parts_add_up_to_all_cycles() -> None:
    program = hlo.parse(PROGRAM)
    by_part = parts.cycles_by_part(program, PARTS)
    assert sum(by_part.values()) == hlo.fusion_cycles(program) == 36
    assert by_part["optimizer"] == 7 + 4


def test_products_are_counted_by_part_also_where_nothing_is_estimated() -> None:
    program = hlo.parse(PROGRAM.replace("estimated_cycles", "other"))
    assert parts.cycles_by_part(program, PARTS) == {}
    assert parts.flops_by_part(program, PARTS) == {"mlp": 2 * 8**3}
    assert parts.flops_by_part(program, None) == {"decoder": 2 * 8**3}


# The paths of a step of the GPT-2 in Linen, as they stand in its program.
GPT2_PATHS = {
    "mlp": "jit(step)/transpose(jvp(Transformer))/h_1/mlp/out/dot_general",
    "attention": "jit(step)/jvp(Transformer)/h_0/attn/proj/dot_general",
    "norm": "jit(step)/jvp(Transformer)/h_0/ln_2/reduce_sum",
    "embedding": "jit(step)/jvp(Transformer)/wte/jit(_take)/gather",
    "head": "jit(step)/jvp(Transformer)/wte.attend/dot_general",
    "loss": "jit(step)/jvp(loss)/reduce_max",
    "optimizer": "jit(step)/optimizer/mul",
}


def of_paths(paths: dict[str, str]) -> hlo.Program:
    """A program with an operation at each path; its part's place in the order is its cycles."""
    lines = [
        f'  %o{number} = f32[8]{{0}} negate(%x), backend_config={{"estimated_cycles":"{number}"}},'
        f' metadata={{op_name="{path}"}}'
        for number, path in enumerate(paths.values(), 1)
    ]
    head = [
        "HloModule m\n\nENTRY %e (x: f32[8]) -> f32[8] {",
        "  %x = f32[8]{0} parameter(0), metadata={op_name=\"batch['inputs']\"}",
    ]
    return hlo.parse("\n".join([*head, *lines, "  ROOT %r = f32[8]{0} negate(%x)", "}"]))


def test_parts_are_called_as_the_family_says() -> None:
    found = parts.cycles_by_part(of_paths(GPT2_PATHS), gpt2.parts)
    assert found == {part: number for number, part in reversed([*enumerate(GPT2_PATHS, 1)])}


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ({"a": ["out"], "b": ["mlp/out"]}, "b"),  # of two that end alike, the longer
        ({"a": ["h_1/mlp"], "b": ["out"]}, "b"),  # of two, the inner one
        ({"a": ["h_1/out"]}, parts.ELSEWHERE),  # words that do not follow each other
    ],
)
def test_the_innermost_and_longest_name_wins(names: dict[str, list[str]], part: str) -> None:
    found = parts.cycles_by_part(of_paths({"": GPT2_PATHS["mlp"]}), names)
    assert found == {part: 1}


def test_without_names_a_part_is_the_topmost_module() -> None:
    found = parts.cycles_by_part(of_paths(GPT2_PATHS), None)
    assert found == {"h_1": 1, "h_0": 2 + 3, "wte": 4, "loss": 6, "optimizer": 7, "other": 5}
    moments = of_paths({"": "state['opt_state'][0].mu['h_0']['mlp']['out']['kernel']"})
    assert parts.cycles_by_part(moments, None) == {"optimizer": 1}
    kernel = of_paths({"": "state['params']['h_0']['mlp']['out']['kernel']"})
    assert parts.cycles_by_part(kernel, None) == {"h_0": 1}
