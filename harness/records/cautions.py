"""What a run may warn of: a closed set, each with the option that helps, where there is one."""

from collections.abc import Sequence
from enum import Enum


class Caution(Enum):
    """One kind of warning: its words, with {places} for what is particular, and what helps."""

    CACHED = (
        "compiled programs came from the compilation cache: compile_seconds is their loading",
        "JAX_ENABLE_COMPILATION_CACHE=false measures the compilation",
    )
    SAME_TEXT = ("not compiled again: lowered to the very text of {twin}", "")
    KEPT = ("not compiled again: taken from the cache, with its compile time", "")
    PROFILED = (
        "steps {first} to {last} ran under the profiler: their times include it",
        "",
    )
    UNTIMED = (
        "no step was timed: the first three and those after a save do not count",
        "run more than {enough} steps",
    )
    STOPPED = (
        "the process did not run for a while (stopped, under a debugger, or with its machine"
        " suspended): {count} of the steps, the first of them {first}, do not count as samples",
        "",
    )
    DROPPED = (
        "{count} of the steps, the first of them {first}, were dropped for their gradients: they"
        " changed nothing",
        "",
    )
    SKIPPED = (
        "{count} of the steps, the first of them {first}, were skipped: their scaled gradients"
        " overflowed, and only the scale changed",
        "",
    )
    NO_FLOPS = ("no TFLOP and no MFU: the model gives no tflop_per_step", "")
    UNUSED = ("{key}={value}: not used, as {why}", "")
    NO_BUBBLE = (
        "pipeline.bubble_percent.measured is null: a step is one program whose idle stages compute"
        " too, and its time does not tell them apart",
        "",
    )
    FLOAT16_ON_TPU = (
        "model.dtype=float16: how a TPU multiplies float16 cannot be seen in a program, and nothing"
        " has checked its numbers",
        "bfloat16 is what it multiplies",
    )
    UNKNOWN_DEVICE = (
        "device kind {kind!r} is not in the table of peaks: MFU and capacity are unknown",
        "",
    )
    NO_CONSTANTS = ("no step time: the constants of a {kind} are not published", "")
    ACROSS_SLICES = (
        "no step time: how fast slices reach each other is not published",
        "",
    )
    ABOVE_PEAK = (
        "{rate:.1f} TFLOP/s per device is above the peak of {kind} ({peak:.1f}): the measurement is"
        " wrong",
        "",
    )
    INEXACT = ("{what}", "")  # which counts of the program are not exact, and why
    WASTED = (
        "a device's matrix products take {ratio:.2f} times the TFLOP of the family's formula, more"
        " than remat and idle stages explain; largest collective: {collective}",
        "where the batch does not stay split over the devices, hold activations to it"
        " (models.shared.partitioning.constrain)",
    )
    TOO_LARGE_FOR_TURNS = (
        "not measured in turns with {partner}: a device needs {needed} for both states and has"
        " {capacity}",
        "",
    )
    OTHER_IN_TURNS = (
        "in turns with {partner}, step {step} had the loss {there}, in the run alone {here}",
        "",
    )
    NOT_COMPARED = ("not compared: {what}", "")  # this and the next four: of trying out a pair
    ALONE = ("of one side alone: {what}", "")
    DIFFERING = ("the sides of this pair: {what}", "")
    UNSURE = ("the sides of this pair may differ: {what}", "")
    STARTED = ("the sides begin apart: {what}", "")
    RANDOM = ("this implementation {what}", "")
    IMPOSED = ("{what}", "leave --case out, or give --set")  # what a case does to another's model
    RESTORED = ("{what}", "")  # what restoring had to say of a checkpoint
    PARAMETERS_TAKEN = (
        "{path}: {whose}; only its parameters were taken: all else begins anew, at step 0",
        "--restore-what all takes the whole state",
    )
    ALL_TAKEN = (
        "{path}: {whose}; its whole state was taken: the run goes on after its step {step}",
        "--restore-what params takes only the parameters",
    )
    DAMAGED = ("of what earlier starts left, {what}", "")
    LOST_EVALUATIONS = (
        "neither record.json nor evals.jsonl has the evaluations after {which}: they are lost",
        "",
    )
    UNCOUNTED_SAVE = (
        "save of step {step}: made by a start that was killed before it could say what it cost",
        "",
    )
    OTHER_DEVICES = (
        "begun on {begun}, goes on with {now}: the batch stays {batch} sequences a step, and the"
        " step times are those of the last start",
        "",
    )
    KEPT_SCHEDULE = (
        "run.steps={now}: the learning rates stay those of the {begun} steps that the run began"
        " with",
        "a run of its own, or of --restore-what params, has a schedule of its own",
    )

    def among(self, warnings: Sequence[str]) -> list[str]:
        """What is particular in those of the warnings that are of this kind, of one word alone."""
        before, _, after = self.value[0].partition("{what}")
        return [
            one.removeprefix(before).removesuffix(after)
            for one in warnings
            if one.startswith(before)
        ]

    def told(self, **particulars: object) -> str:
        """The warning as one line."""
        words, help_ = (text.format(**particulars) for text in self.value)
        return f"{words}; {help_}" if help_ else words
