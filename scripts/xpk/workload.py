"""One run as an XPK workload: its name, its command, and the arguments XPK is called with."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from harness.records.record import new_run_id
from harness.terminal.errors import UserError

GRACE_SECONDS = 120  # from SIGTERM, which XPK passes on up to 5 s late, to the end of a save
_LONGEST_NAME = 40
_LONGEST_PREFIX = 16  # leaves room for a case's number and first word
_LONGEST_SIDE = 12  # of a pair of a user's own
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

# XPK pastes values into a YAML text unescaped, Kubernetes replaces $(NAME) in them, and a shell
# reads the command: what any of the three could take for its own is refused.
_PLAIN = re.compile(r"[ -~]*")
_SPECIAL = set("\"'\\$`")

# XPK also pastes these into shell commands of its own.
_WORDS = {
    "--cluster": _NAME,
    "--project": re.compile(r"[a-z][-a-z0-9.:]*[a-z0-9]"),
    "--zone": re.compile(r"[a-z]+-[a-z]+\d+-[a-z]"),
    "--docker-image": re.compile(r"[A-Za-z0-9][-A-Za-z0-9._/:@]*"),
    "--base-docker-image": re.compile(r"[A-Za-z0-9][-A-Za-z0-9._/:@]*"),
    "--reservation": re.compile(r"[A-Za-z0-9][-A-Za-z0-9._/]*"),
    "--storage": re.compile(r"[a-z0-9][-a-z0-9.]*"),
    "--output": re.compile(r"(gs:/)?(/[A-Za-z0-9._][-A-Za-z0-9._]*)+"),
}


@dataclass(frozen=True)
class Workload:
    """One run on one slice; `name` is that of the workload, of the run and of its folder."""

    name: str
    case: str
    impl: str
    repeat: int
    command: tuple[str, ...]
    environment: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """What a submission file keeps."""
        return asdict(self)


def make(
    prefix: str,
    case: str,
    impl: str,
    repeat: int,
    output: str,
    options: Sequence[str],
    environment: Mapping[str, str],
) -> Workload:
    """The workload of one run, with more options of harness.run.

    Raises UserError for what cannot reach the container unchanged.
    """
    name = name_of(prefix, case, impl)
    command = ["python", "-m", "harness.run", "--case", case, "--impl", impl]
    command += ["--run-id", name, "--results-dir", output, *options]
    for option in options:
        check_plain("run", option)
    for key, value in environment.items():
        _check_variable(key, value)
    return Workload(name, case, impl, repeat, tuple(command), dict(environment))


def name_of(prefix: str, case: str, impl: str) -> str:
    """Such as mt-03-dropout-nnx-e6fds: never the same twice, the case cut where it is too long."""
    check_prefix(prefix)
    suffix = new_run_id(case).rpartition("-")[2]
    head = re.sub(r"[^a-z0-9]+", "-", f"{prefix}-{case}".lower())
    side = re.sub(r"[^a-z0-9]+", "-", impl.lower())[:_LONGEST_SIDE].rstrip("-")
    room = _LONGEST_NAME - len(f"-{side}-{suffix}")
    return f"{head[:room].rstrip('-')}-{side}-{suffix}"


def arguments(
    workload: Workload, options: Mapping[str, str | int | bool | None], manifest: str | None
) -> list[str]:
    """What follows `xpk`. `options` are XPK's own: those that are None or False are left out."""
    given = ["workload", "create", "--workload", workload.name]
    for option, value in options.items():
        if value is True:
            given.append(option)
        elif value is not None and value is not False:
            given += [option, str(value)]
    # exec: the shell that XPK sends SIGTERM to becomes Python, which saves and leaves with 42.
    given += ["--command", f"exec {shlex.join(workload.command)}"]
    for key, value in workload.environment.items():
        given += ["--env", f"{key}={value}"]
    given += ["--termination-grace-period-seconds", str(GRACE_SECONDS)]
    given.append("--no-dependency-auto-download")
    return given if manifest is None else [*given, "--output-manifest-file", manifest]


def check_prefix(prefix: str) -> None:
    """Raises UserError unless names may begin with it."""
    if not _NAME.fullmatch(prefix) or len(prefix) > _LONGEST_PREFIX:
        raise UserError(
            f"--prefix {prefix!r}: must be 1 to {_LONGEST_PREFIX} lower-case letters, digits or"
            " '-', the first a letter, the last not '-'"
        )


def check_word(option: str, value: str | None) -> None:
    """Raises UserError unless XPK can paste the value of its option where it pastes it."""
    if value is not None and not _WORDS[option].fullmatch(value):
        raise UserError(f"{option} {value!r}: must match {_WORDS[option].pattern}")
    if option == "--cluster" and value is not None and len(value) > _LONGEST_NAME:
        raise UserError(f"{option} {value!r}: must have at most {_LONGEST_NAME} characters")


def check_plain(option: str, value: str) -> None:
    """Raises UserError for what YAML, Kubernetes or a shell would not leave as it is."""
    if not _PLAIN.fullmatch(value) or _SPECIAL & set(value):
        raise UserError(
            f"{option} {value!r}: XPK passes on only printable ASCII without quotes, \\, $ and `"
        )


def _check_variable(key: str, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) or not isinstance(yaml.safe_load(key), str):
        raise UserError(f"--env {key}: must be a name of letters, digits and _ that YAML reads so")
    check_plain(f"--env {key}", value)
