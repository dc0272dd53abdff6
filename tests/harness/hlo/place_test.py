import pytest

from harness import hlo


@pytest.mark.parametrize(
    ("op_name", "place"),
    [
        (
            "jit(step)/transpose(jvp(Transformer))/decoder/while/body/closed_call/checkpoint/"
            "rematted_computation/layers.forward/layers/mlp/wi_0/dot_general",
            "decoder/layers/mlp/wi_0 (recomputed)",
        ),
        (
            "jit(step)/transpose(jvp(decoder))/layers/mlp/btd,df->btf/dot_general;jit(step)/x/add",
            "decoder/layers/mlp (backward)",
        ),
        ("jit(step)/jvp(decoder)/jit(_take)/gather", "decoder"),
        ("jit(step)/vmap(jvp(a))/b/jvp(jit(silu))/add", "a/b"),
        ("jit(step)/transpose(jvp(CNN))/Conv_0/conv_general_dilated", "Conv_0 (backward)"),
        ("jit(step)/jvp(CNN)/Block_1/Dense_0/Act/dot_general", "Block_1/Dense_0"),
        ("jit(step)/add", ""),
        ("state['params']['embedding']", "state['params']['embedding']"),
        ("broadcast.8", ""),
        ("", ""),
    ],
)
def test_where_an_operation_stands(op_name: str, place: str) -> None:
    assert hlo.where(op_name) == place
