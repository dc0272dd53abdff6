"""What keeps two implementations from being trained as one model, in plain words.

Nothing is computed: shapes and types say it all.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.cases.families import of
from harness.cases.settings import Case
from harness.terminal.errors import UserError
from harness.terminal.text import nearest, one_line, shortlist
from harness.training import beginning, data
from harness.training.parallel import mesh
from models.seam import OWN, Implementation, Outcome
from models.shared.trees import named_leaves

_RANDOM = ("rng", "rngs", "dropout_rng", "key_data")


def require(case: Case) -> None:
    """Raises UserError with a line for each fault of twins from elsewhere."""
    if case.twins is not None:
        found = faults(case)
        if found:
            raise UserError(*(f"--twins {case.twins}: {one}" for one in found))


def faults(case: Case) -> list[str]:
    """A line for each thing that the pair of a case lacks; [] when it can be trained."""
    pair, case = of(case), _resolved(case)
    trees: dict[str, Any] = {}
    found: list[str] = []
    for name in pair.names:
        implementation = pair.get(name)
        try:
            trees[name] = jax.eval_shape(lambda i=implementation: i.init(case.model, _key()))
        except Exception as error:
            found.append(f"{name}.init does not run: {one_line(error)}")
            continue
        params, _ = beginning.variables_of(trees[name])
        found += [f"{name}: {fault}" for fault in _leaf_faults(params)]
        if not pair.lenient:
            found += [f"{name}: {fault}" for fault in _axes_faults(implementation, case, params)]
    if len(trees) < len(pair.names):
        return found
    differing = _tree_faults(pair.names, [_variable_leaves(tree) for tree in trees.values()])
    if found or differing:  # apply would fail on it, and say less clearly why
        return found + differing
    return [
        f"{name}: {fault}"
        for name in pair.names
        for fault in _output_faults(pair.get(name), case, trees[name])
    ]


def _resolved(case: Case) -> Case:
    """The case with its model as on the first platform that has all that it asks for."""
    for platform in ("cpu", "gpu", "tpu"):
        try:
            return replace(case, model=beginning.resolved(case, platform))
        except UserError:
            continue
    return case


def _variable_leaves(made: Any) -> dict[str, Any]:
    params, model_state = beginning.variables_of(made)
    return named_leaves(params) | named_leaves(
        {"model_state": {name: one for name, one in (model_state or {}).items() if name != OWN}}
    )


def _leaf_faults(tree: Any) -> list[str]:
    found = []
    if not isinstance(tree, Mapping):
        found.append(f"init returns a {type(tree).__name__}, must be a nested dict of arrays")
    for path, leaf in named_leaves(tree).items():
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) or (
            leaf.dtype == jnp.uint32 and set(path.split("/")) & {*_RANDOM, "count", "key"}
        ):
            found.append(
                f"{path} is random state ({_described(leaf)}): it must not be among the parameters;"
                " keep nnx.Param alone and derive randomness from the key that apply is given"
            )
        elif not jnp.issubdtype(leaf.dtype, jnp.floating):
            found.append(f"{path} is {_described(leaf)}: a parameter must be of floating point")
    return found


def named_axes(axes: Any) -> dict[str, Any]:
    """The logical axes of each parameter by its path."""
    return named_leaves(axes, is_leaf=lambda one: isinstance(one, tuple))


def _axes_faults(implementation: Implementation, case: Case, tree: Any) -> list[str]:
    try:
        axes = implementation.logical_axes(case.model)
    except Exception as error:
        return [f"logical_axes does not run: {one_line(error)}"]
    named, rules = named_axes(axes), mesh.rules_of(case)
    found = []
    leaves = named_leaves(tree)
    without = [path for path in leaves if named.get(path) is None]
    if without:
        nearest = _nearest(without[0], [*named.keys() - leaves]) if len(without) == 1 else ""
        verb = "has" if len(without) == 1 else "have"
        found.append(f"{shortlist(without)} {verb} no logical axes{nearest}")
    ruleless: dict[str, list[str]] = {}
    for path, leaf in leaves.items():
        names = named.get(path)
        if names is not None and (not isinstance(names, tuple) or len(names) != len(leaf.shape)):
            found.append(f"{path} is {_described(leaf)}, but its logical axes are {names!r}")
            continue
        for name in names or ():
            if name is not None and name not in rules:
                ruleless.setdefault(name, []).append(path)
    found += [
        f"{shortlist(paths)}: no rule for the logical axis {name!r}; known are {', '.join(rules)}"
        for name, paths in ruleless.items()
    ]
    return found + [
        f"logical_axes names {path}, which is not a parameter{_nearest(path, [*leaves])}"
        for path in named
        if path not in leaves
    ]


def _tree_faults(names: tuple[str, ...], leaves: list[dict[str, Any]]) -> list[str]:
    found = []
    for one, other in ((0, 1), (1, 0)):
        alone = [path for path in leaves[one] if path not in leaves[other]]
        there = [path for path in leaves[other] if path not in leaves[one]]
        found += [
            f"{names[one]} has the parameter {path}, {names[other]} has not{_nearest(path, there)}"
            for path in alone
        ]
    return found + [
        f"{path} is {_described(leaf)} in {names[0]} and"
        f" {_described(leaves[1][path])} in {names[1]}"
        for path, leaf in leaves[0].items()
        if path in leaves[1] and _described(leaf) != _described(leaves[1][path])
    ]


def _output_faults(implementation: Implementation, case: Case, made: Any) -> list[str]:
    if hasattr(implementation, "loss"):
        found = _loss_faults("loss", implementation, case, case.model, made)
        if found or case.eval.every is None or not hasattr(implementation, "evaluation"):
            return found
        evaluated = of(case).evaluated(case.model)
        return _loss_faults("evaluation", implementation, case, evaluated, made)
    params, _ = beginning.variables_of(made)
    size = data.global_batch(case, 1)
    tokens = jax.ShapeDtypeStruct((size, case.data.sequence_length), np.int32)
    try:
        logits = jax.eval_shape(
            lambda p, t: implementation.apply(case.model, p, t, _key()), params, tokens
        )
    except Exception as error:
        return [f"apply does not run: {one_line(error)}"]
    wanted = jax.ShapeDtypeStruct((*tokens.shape, case.model.vocab), jnp.float32)
    if not hasattr(logits, "dtype"):
        return [f"apply returns a {type(logits).__name__}, must return logits alone"]
    if _described(logits) != _described(wanted):
        return [f"apply returns {_described(logits)}, must return {_described(wanted)}, [B, T, V]"]
    return []


def _loss_faults(
    name: str, implementation: Implementation, case: Case, model: Any, made: Any
) -> list[str]:
    """Of the implementation's `loss`, or its `evaluation`, which leaves the model's state alone."""
    grid = mesh.make(case, jax.devices()[:1])
    batches, count = data.abstract_batch(case, grid), data.count(case)
    variables = beginning.variables_of(made)

    def evaluate(variables: Any, batches: data.Batch) -> Any:
        batch = data.picked(batches, 0, count)
        return getattr(implementation, name)(model, *variables, batch, _key())

    try:
        with grid.in_force():
            outcome = jax.eval_shape(evaluate, variables, batches)
    except Exception as error:
        return [f"{name} does not run: {one_line(error)}"]
    if not isinstance(outcome, Outcome):
        return [f"{name} returns a {type(outcome).__name__}, must return an Outcome"]
    found = [
        f"{name} makes {what} a {_described(value)}, must be a scalar"
        for what, value in {"the loss": outcome.loss, **outcome.metrics}.items()
        if value.shape != ()
    ]
    if "total_weights" not in outcome.metrics:
        found.append(f"{name} tells no metric total_weights, over how many targets it is a mean")
    if name == "evaluation":
        return found
    before, after = ({} if s is None else s for s in (variables[1], outcome.model_state))
    if named_leaves(before).keys() != named_leaves(after).keys():
        found.append("loss returns a model_state of another structure than init makes")
    return found


def _key() -> jax.Array:
    return jax.random.key(0, impl="threefry2x32")


def _described(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _nearest(path: str, known: list[str]) -> str:
    return nearest(path, known, likeness=0.3)
