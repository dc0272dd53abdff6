"""Holds our training against MaxText's, on a CPU at the tiny size: --help shows how."""

import shutil
import subprocess
import sys
import tempfile
from argparse import Namespace
from importlib.metadata import version
from pathlib import Path

from measuring import ROOT, Table, Worker, median, own_command, parser, ratio, start_seconds

from harness.cases import reading
from harness.terminal import cli
from harness.terminal.errors import UserError

_HERE = Path(__file__).parent
_PIP = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
# The last release that has both: its successor has no Linen any more.
_MAXTEXT = "maxtext==0.2.4"
# What its train.py imports. TensorFlow is not needed, and left out: its import takes seconds.
_IMPORTED = """absl-py aqtp array-record chex cloud-accelerator-diagnostics datasets drjax etils
 grain[parquet] huggingface_hub jaxtyping jinja2 jsonlines ml-collections ml-goodput-measurement
 omegaconf orbax-checkpoint pathwaysutils pillow psutil pydantic qwix requests sentencepiece sympy
 tensorboardx tiktoken tokamax transformers"""
_SETTINGS = """run_name=peer hardware=cpu dataset_type=synthetic enable_checkpointing=False
 enable_goodput_recording=False skip_jax_distributed_system=True base_emb_dim=64
 base_num_decoder_layers=2 base_num_query_heads=4 base_num_kv_heads=4 head_dim=16 base_mlp_dim=128
 vocab_size=256 max_target_length=64 per_device_batch_size=2"""
_LINEN = ["pure_nnx=False", "enable_nnx=False", "pure_nnx_decoder=False"]
_OFFLINE = {"DECOUPLE_GCLOUD": "TRUE", "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
# What is compared: our case, and MaxText's setting.
_VARIANTS: dict[str, tuple[str, list[str]]] = {
    "plain": ("01_baseline", []),
    "dropout": ("03_dropout", ["dropout_rate=0.1"]),
    "int8": ("04_int8", ["quantization=int8"]),
    "fp8": ("05_fp8", ["quantization=fp8"]),
}
_IMPLS = ("linen", "nnx")
_OURS = ["data.per_device_batch=2", "checkpoint.enabled=false"]
_STEPS_AT_ONCE = 10
_ABOUT = """Both train the same decoder (embed 64, 2 layers, 4 heads of 16, mlp 128, vocabulary
256, T 64, 2 sequences) on one CPU device. Start: from the start of the process to the line of its
first step, its compilation cache empty. Step: from an idle device until state and metrics are
there; four processes, ours and MaxText's, take turns of 10 steps. Medians, with the number of
samples; ratios are the medians of the ratios of neighbours. MaxText runs without TensorFlow, whose
import would add to its start.""".replace("\n", " ")


def main(argv: list[str]) -> int:
    """Measures and writes the table; returns the exit code."""
    arguments = _arguments(argv)
    python = _environment(arguments)
    about = f"{_ABOUT} {_MAXTEXT}, with our versions of JAX and flax;"
    about += f" our recipe: {arguments.recipe}."
    table = Table(arguments, "peer", "Against MaxText, tiny, on a CPU", about)
    if sys.version_info[:2] != (3, 12):
        table.warn(f"ours runs on Python {sys.version_info[0]}.{sys.version_info[1]}, MaxText 3.12")
    rows = []
    for name in arguments.variants:
        starts, steps = _measure(name, python, arguments)
        table.samples[name] = {"start_seconds": starts, "step_seconds": steps}
        for impl in _IMPLS:
            own, peer = f"ours {impl}", f"MaxText {impl}"
            rows.append(
                [
                    f"{name}, {impl}",
                    *(median(starts[who], digits=1) for who in (peer, own)),
                    ratio(starts[peer], starts[own]),
                    *(median(steps[who], unit=1e-3) for who in (peer, own)),
                    ratio(steps[own], steps[peer]),
                    ratio(steps["ours nnx"], steps["ours linen"]) if impl == "nnx" else "",
                ]
            )
        print(f"{name}: done", file=sys.stderr)
    header = ["variant", "MaxText start s", "ours start s", "MaxText / ours", "MaxText step ms"]
    table.write([*header, "ours step ms", "ours / MaxText", "ours NNX / Linen"], rows)
    return 0


def _arguments(argv: list[str]) -> Namespace:
    description = "Compares start and step with MaxText's; makes its environment if need be."
    arguments = parser("peer", description, repeats=1)
    add = arguments.add_argument
    add("--environment", type=Path, default=ROOT / ".venv" / "maxtext", help="MaxText's own")
    add("--python", default="python3.12", help="to make that environment with, 3.12 or newer")
    add("--rounds", type=int, default=10, metavar="N", help=f"turns of {_STEPS_AT_ONCE} steps each")
    add("--recipe", default="reference", choices=list(reading.RECIPES), help="of ours")
    add("--variants", nargs="+", default=list(_VARIANTS), choices=list(_VARIANTS))
    return arguments.parse_args(argv)


def _environment(arguments: Namespace) -> Path:
    """MaxText's interpreter, its environment made where it is not there."""
    folder = arguments.environment.absolute()
    python: Path = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        print(f"making {folder} (minutes)", file=sys.stderr)
        if shutil.which(arguments.python) is None:
            raise UserError(f"--python {arguments.python}: is not there; give a Python 3.12")
        same = [f"{name}=={version(name)}" for name in ("jax", "jaxlib", "flax", "optax")]
        try:
            subprocess.run([arguments.python, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(python), *_PIP, _MAXTEXT, *_IMPORTED.split(), *same], check=True)
        except subprocess.CalledProcessError as error:
            raise UserError(f"{folder}: could not be made: {error}") from None
        ready.touch()
    return python


def _measure(
    name: str, python: Path, arguments: Namespace
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds to the first step, and seconds of a step, by "ours linen" and so on."""
    people = [(who, impl) for impl in _IMPLS for who in ("MaxText", "ours")]
    starts: dict[str, list[float]] = {f"{who} {impl}": [] for who, impl in people}
    steps: dict[str, list[float]] = {person: [] for person in starts}
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        workers = {}
        for repeat in range(arguments.repeats):
            for who, impl in people:
                cache = Path(folder, f"{who}-{impl}-{repeat}")
                commands = _maxtext if who == "MaxText" else _ours
                start, serve = commands(name, impl, cache, python, arguments.recipe)
                changes = {**_OFFLINE, "XDG_CACHE_HOME": str(cache)}
                starts[f"{who} {impl}"].append(start_seconds(start, changes))
                if repeat == 0:
                    workers[f"{who} {impl}"] = Worker(serve, changes)
        for worker in workers.values():
            worker.steps(_STEPS_AT_ONCE)  # compiled and warm
        for _ in range(arguments.rounds):
            for person, worker in workers.items():
                steps[person] += worker.steps(_STEPS_AT_ONCE)
        for worker in workers.values():
            worker.close()
    return starts, steps


def _maxtext(name: str, impl: str, cache: Path, python: Path, _: str) -> tuple[list[str], ...]:
    """The commands that train, and that serve steps."""
    site = next((python.parents[1] / "lib").glob("python3*")) / "site-packages"
    settings = [
        str(site / "maxtext" / "configs" / "base.yml"),
        *_SETTINGS.split(),
        *_VARIANTS[name][1],
    ]
    settings += [f"base_output_directory={cache}/out", f"jax_cache_dir={cache}/jax", "steps=4"]
    settings += _LINEN if impl == "linen" else []
    train = [str(python), "-m", "maxtext.trainers.pre_train.train", *settings]
    return train, [str(python), str(_HERE / "maxtext_steps.py"), *settings]


def _ours(name: str, impl: str, cache: Path, _: Path, recipe: str) -> tuple[list[str], ...]:
    """The commands that train, and that serve steps."""
    case = _VARIANTS[name][0]
    tiny = ["--case", case, "--impl", impl, "--size", "tiny", "--recipe", recipe, "--steps", "4"]
    overrides = [argument for key in _OURS for argument in ("--set", key)]
    train = own_command(cache / "results", *tiny, *overrides)
    return train, [sys.executable, str(_HERE / "own_steps.py"), case, impl, recipe, *_OURS]


if __name__ == "__main__":
    cli.main(main)
