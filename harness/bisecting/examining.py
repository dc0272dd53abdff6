"""What a pair lacks, what its step computes in vain and draws, and in what its sides differ."""

from collections.abc import Callable, Iterable, Iterator

import jax

from harness.bisecting import asking, telling
from harness.cases import families, reading
from harness.cases.settings import Case
from harness.terminal.console import Console
from harness.terminal.errors import UserError
from harness.training import checking, describing, devices, drawing
from harness.training.parallel import mesh

_DEVICES = 8  # of a CPU: a batch that does not stay split shows on any number of them


def examine(
    load: Callable[[str], Case], case_name: str, size: str, device_count: int | None
) -> int:
    """Prints what is found; 1 where a pair cannot be trained, or differs by more than rounding.

    load: the case, called `case_name`, of a size; what is compiled or computed is tiny.
    """
    cpus = devices.prepare_cpus(_DEVICES if device_count is None else device_count)
    with Console() as console:

        def tell(lines: Iterable[str]) -> None:
            known = list(lines)  # what takes long, before the line that says so goes
            console.end()
            for line in known:
                print(line)

        console.begin("try both sides")
        case = load(size)
        faults = checking.faults(case)
        tell(faults)
        if faults:
            return 1
        pair = families.of(case)
        names = " and ".join(pair.names)
        print(f"{pair.name}: {names} hold one tree of parameters and can be trained", flush=True)
        tiny = load("tiny")
        small = "awkward" if "awkward" in pair.sizes else "tiny"
        console.begin("find whose array is whose")
        tell(_known(case, case_name))
        console.begin("compile a tiny step")
        tell(f"warning: {line}" for line in _wasted(tiny, cpus))
        console.begin("follow what is drawn at random")
        sides = ((name, pair.get(name)) for name in pair.names)
        tell(drawing.told(tiny, sides, mesh.make(mesh.alone(tiny), cpus[:1])))
        console.begin("compute a step of both sides")
        one = mesh.alone(load(small))
        judged = {"step": asking.of_pair(one)}
        if asking.has_evaluation(*map(pair.get, pair.names)):
            judged["evaluation"] = asking.of_pair(one, evaluated=True)
        for what, found in judged.items():
            tell(f"{what}, {small}: {line}" for line in telling.verdict(found))
        is_rounding = all(found.is_rounding for found in judged.values())
        return 0 if is_rounding and not describing.differs(pair) else 1


def _known(case: Case, case_name: str) -> Iterator[str]:
    """What is known of a pair of a user's own: its names, and what a reader must know of it."""
    imposed = [f"case: {line}" for line in reading.imposed(case_name, case.twins)]
    pair = families.of(case)
    if pair.matched is None:
        yield from imposed
        return
    yield from (f"names: {line}" for line in pair.matched().names)
    yield from imposed
    yield from describing.matched(pair)


def _wasted(tiny: Case, cpus: list[jax.Device]) -> list[str]:
    try:
        return describing.wasted_steps(tiny, mesh.make(tiny, cpus))
    except UserError as error:  # what is tiny may be too small to be split
        return [f"not compiled for {len(cpus)} devices: {error}"]
