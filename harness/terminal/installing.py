"""What to type to install what is missing."""

import shlex
import sys

_PROJECT = "linen-nnx-harness"


def command(extra: str) -> str:
    """Installs an extra of pyproject.toml into the environment that runs this, from any folder."""
    from importlib import metadata

    try:
        required = metadata.requires(_PROJECT) or []
    except metadata.PackageNotFoundError:  # files that were never installed, in their own folder
        required = []
    packages = [one.partition(";")[0].strip() for one in required if f'extra == "{extra}"' in one]
    return shlex.join([sys.executable, "-m", "pip", "install", *(packages or [f".[{extra}]"])])
