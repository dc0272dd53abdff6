"""What `harness bisect` answers: computes what it is asked, and prints where it parts."""

from argparse import Namespace
from typing import Any

import jax

from harness.bisecting import asking, computing, files, telling
from harness.bisecting.computing import Side
from harness.bisecting.telling import Found
from harness.cases import families, reading
from harness.cases.settings import Case
from harness.records import storage
from harness.saving import restoring
from harness.saving.faults import CheckpointError
from harness.terminal.errors import UserError
from harness.training import checking, describing, devices, drawing, train_step
from harness.training.parallel import mesh
from harness.training.parallel.mesh import Grid
from harness.training.phases import Phases
from models.shared.trees import named_leaves, nested


def answered(arguments: Namespace, changed: Namespace, phases: Phases) -> int:
    """Compares what the arguments say; changed: what --against holds. 1 where something differs."""
    phases.begin("compute and compare", announced=False)
    if len(arguments.files) == 2:
        first, second = map(files.read, arguments.files)
        return _told(asking.compared(first, second), phases)
    name = reading.given(arguments.case, arguments.twins)
    here = devices.prepare(changed.devices)
    case = mesh.alone(reading.load(name, arguments.size, arguments.set, twins=arguments.twins))
    pair = families.of(case)
    names = (arguments.a or pair.names[0], arguments.b or pair.names[1])
    checking.require(case)
    grid = mesh.make(case, here[:1])
    a, b = (pair.get(one) for one in names)
    restored = _restored(case, names[0], grid, arguments) if arguments.restore is not None else None
    params, state = computing.fresh(case, names[0], grid)
    params = params if restored is None else restored
    if arguments.against is not None:
        other = reading.load(
            name, arguments.size, arguments.set + changed.set, changed.recipe, arguments.twins
        )
        found = asking.against(case, other, names[0], arguments.against, (params, state), here)
        return _told(found, phases)
    if arguments.files:
        before = files.read(arguments.files[0])
        after = computing.side(names[0], case, a, _parameters(before, params), state, grid)
        return _told(asking.compared(before, after), phases)
    if arguments.save is not None:
        files.save(arguments.save, computing.side(names[0], case, a, params, state, grid))
        phases.end()
        print(f"kept: {arguments.save}")
        return 0
    states = state, computing.fresh(case, names[1], grid)[1]
    found = asking.between(case, names, a, b, params, states, arguments.align_random)
    code = _told(found, phases)
    if asking.has_evaluation(a, b):
        phases.begin("compute and compare an evaluation", announced=False)
        aligned = arguments.align_random
        evaluated = asking.between(case, names, a, b, params, states, aligned, evaluated=True)
        code = max(code, _told(evaluated, phases, "\nas they are evaluated: "))
    phases.begin("follow what is drawn at random", announced=False)
    lines = [*drawing.told(case, zip(names, (a, b), strict=True), grid)]
    phases.end()
    two = names[0] != names[1]
    for line in [*lines, *(describing.matched(pair) if two else [])]:
        print(line)
    if two and describing.differs(pair):
        code = 1
    # Only what has names of its own may draw with keys of its own.
    return 1 if found.random and pair.matched is None else code


def _told(found: Found, phases: Phases, of: str = "") -> int:
    """Prints what was found, after what it is of; 1 where a difference is more than rounding."""
    text = telling.text(found)  # computes both sides again, to see what rounding makes
    phases.end()
    print(f"{of}{text}")
    return 0 if found.is_rounding else 1


def _restored(case: Case, impl: str, grid: Grid, arguments: Namespace) -> Any:
    """A checkpoint's parameters."""
    restore, size = arguments.restore, arguments.size
    about = {
        "name": case.name,
        "hash": reading.case_hash(case, size, "reference"),
        "config": reading.flatten(case),
    }
    trainer = train_step.make_trainer(case, impl, grid)
    try:
        with storage.errors_told(f"--restore {restore}"):
            return restoring.restore(restore, trainer.state, about).state["params"]
    except CheckpointError as error:
        raise UserError(f"--restore {restore}: {error}") from None


def _parameters(side: Side, like: Any) -> Any:
    """The parameters that a side began with; UserError where they are not those of this model."""
    held = {path: node.values for path, node in side.trace.parameters.items()}
    here = named_leaves(like)
    if {path: one.shape for path, one in held.items()} != {p: o.shape for p, o in here.items()}:
        raise UserError(f"{side.name} of the file holds other parameters than the model here")
    return jax.tree.map(jax.numpy.asarray, nested(held))
