"""Lists the commands, or runs one: `harness doctor`."""

import ast
import importlib
import sys
from pathlib import Path

from harness.terminal import cli
from harness.terminal.text import aligned

_HERE = Path(__file__).parent


def commands() -> dict[str, tuple[str, str]]:
    """What each command does and an example of it, by name.

    Both stand in the first line of its file, which is read and not run: that would import JAX.
    """
    found = {}
    for path in sorted(_HERE.glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "parser" for node in tree.body):
            what, _, example = (ast.get_docstring(tree) or "").partition("\n")[0].partition(": `")
            found[path.stem] = (what, example.rstrip("`."))
    return found


def main(argv: list[str]) -> int:
    """Prints a line for each command, or runs the one that is named; returns the exit code."""
    if argv and argv[0] in commands():
        code: int = importlib.import_module(f"harness.{argv[0]}").main(argv[1:])
        return code
    cli.Parser(prog="harness", description="Lists the commands.").parse_args(argv)
    rows = [(example, what) for what, example in commands().values()]
    print("\n".join([*aligned(rows), "--help after any of them says more"]))
    return 0


def script() -> None:
    """The command `harness`, which finds what lies in the folder it is started in."""
    sys.path.insert(0, "")
    cli.main(main)


if __name__ == "__main__":
    cli.main(main)
