"""However a log arrives, it gives the record of the plain one."""

import codecs
import gzip
import json
from collections.abc import Callable

import pytest
from documents import DATA

from harness import published
from harness.published.document import parse
from harness.records.record import Record, validate
from harness.terminal.errors import UserError

PLAIN = (DATA / "field" / "maxtext_2026_memory_line.txt").read_text()
MEGATRON = (DATA / "field" / "megatron_throughput.txt").read_text()
LINES = PLAIN.splitlines()


def record_of(content: bytes | str) -> Record:
    content = content.encode() if isinstance(content, str) else content
    (record,) = published.read(parse("log.txt", content)).records
    validate(record)
    return record


def before_each(prefix: str, text: str) -> str:
    return "".join(
        prefix.format(number=number, second=number % 60) + line + "\n"
        for number, line in enumerate(text.splitlines())
    )


def entries(key: str, text: str) -> list[dict[str, object]]:
    return [
        {"timestamp": f"2026-01-05T10:00:{number % 60:02}.5Z", key: line + "\n"}
        for number, line in enumerate(text.splitlines())
    ]


def json_lines(text: str) -> bytes:
    return "\n".join(map(json.dumps, entries("textPayload", text))).encode()


def payload(text: str) -> bytes:
    wrapped = [{"jsonPayload": {"message": line}} for line in text.splitlines()]
    return "\n".join(map(json.dumps, wrapped)).encode()


def newest_first(text: str) -> bytes:
    return json.dumps(entries("textPayload", text)[::-1], indent=2).encode()


def notebook(text: str) -> bytes:
    output = {"output_type": "stream", "text": [line + "\n" for line in text.splitlines()]}
    return json.dumps({"cells": [{"source": ["x"]}, {"outputs": [output]}]}).encode()


WAYS: dict[str, Callable[[str], bytes]] = {
    "kubectl": lambda text: before_each("[pod/job-0-0-abcde/main] ", text).encode(),
    "kubectl with times": lambda text: before_each(
        "[pod/job-0-0-abcde/main] 2026-01-05T10:00:{second:02}.123456789Z ", text
    ).encode(),
    "containerd": lambda text: before_each(
        "2026-01-05T10:00:{second:02}.1Z stdout F ", text
    ).encode(),
    "JSON lines": json_lines,
    "JSON payloads": payload,
    "JSON list, newest first": newest_first,
    "docker": lambda text: "\n".join(map(json.dumps, entries("log", text))).encode(),
    "viewer": lambda text: before_each("2026-01-05 10:00:{second:02}.025 PDT ", text).encode(),
    "notebook": notebook,
    "colours": lambda text: before_each("\x1b[32m", text).replace(": ", ":\x1b[0m ").encode(),
    "carriage returns": lambda text: text.replace("\n", "\r\n").encode(),
    "progress bar": lambda text: before_each(" 10%|#\r 20%|##\x08\r", text).encode(),
    "utf-8 with mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 without mark": lambda text: text.encode("utf-16-le"),
    "utf-16, big end first": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "gz": lambda text: gzip.compress(text.encode()),
    "gz of several": lambda text: b"".join(
        gzip.compress(part.encode()) for part in text.splitlines(keepends=True)
    ),
    "srun": lambda text: before_each("3: ", text).encode(),
    "torchrun": lambda text: before_each("[default7]:", text).encode(),
    "mpirun": lambda text: before_each("[1,0]<stdout>:", text).encode(),
    "pdsh": lambda text: before_each("worker-0: ", text).encode(),
    "docker compose": lambda text: before_each("trainer-1  | ", text).encode(),
    "stern": lambda text: before_each("job-0-0-abcde main ", text).encode(),
    "Primus": lambda text: before_each(
        "[20260511 02:54:28][rank-7/8][DEBUG]    [---------utils.py:425] : ", text
    ).encode(),
    "indented": lambda text: before_each("    ", text).encode(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", [PLAIN, MEGATRON], ids=["maxtext", "megatron"])
def test_the_record_is_that_of_the_plain_log(way: str, text: str) -> None:
    plain, arrived = record_of(text), record_of(WAYS[way](text))
    for key in ("steps", "environment", "model", "memory", "timing", "case", "warnings"):
        assert arrived[key] == plain[key], key


def interleaved(prefixes: tuple[str, str], texts: tuple[str, str]) -> str:
    pairs = zip(texts[0].splitlines(), texts[1].splitlines(), strict=True)
    return "".join(
        f"{prefix}{line}\n" for pair in pairs for prefix, line in zip(prefixes, pair, strict=True)
    )


OTHER_HOST = PLAIN.replace("seconds: 0.2", "seconds: 0.7")
GLOG = "I0417 13:11:56.702590 {thread} metric_logger.py:196] "


@pytest.mark.parametrize(
    ("prefixes", "words"),
    [
        (("[pod/job-0-0-abcde/main] ", "[pod/job-0-1-fghij/main] "), "the lines of 2 hosts"),
        (("0: ", "1: "), "the lines of 2 hosts"),
        (("", ""), "up to 2 processes speak in turns"),
        ((GLOG.format(thread=12345678), GLOG.format(thread=87654321)), ""),
    ],
    ids=["kubectl", "srun", "not marked", "threads"],
)
def test_of_several_hosts_one_counts(prefixes: tuple[str, str], words: str) -> None:
    record = record_of(interleaved(prefixes, (PLAIN, OTHER_HOST)))
    assert record["steps"] == record_of(PLAIN)["steps"]
    assert any(words in warning for warning in record["warnings"])


def test_a_restarted_pod_has_another_name_and_goes_on() -> None:
    first = before_each("[pod/job-0-0-abcde/main] ", "\n".join(LINES[:14]))
    second = before_each("[pod/job-0-0-fghij/main] ", "\n".join([*LINES[:9], *LINES[12:]]))
    record = record_of(first + second)
    assert [step["step"] for step in record["steps"]] == list(range(10))
    assert any("2 attempts" in warning for warning in record["warnings"])
    # The second attempt begins with step 3: its samples are 6 to 9.
    assert record["timing"]["step_seconds"]["samples"] == 4


def test_an_excerpt_is_a_record_with_what_is_known() -> None:
    record = record_of("\n".join(LINES[9:]))
    assert record["steps"] == record_of(PLAIN)["steps"]
    assert record["timing"]["step_seconds"] == record_of(PLAIN)["timing"]["step_seconds"]
    assert record["timing"]["tokens_per_second_per_device"] == 10240
    assert record["timing"]["tflops_per_device"] == 40
    assert record["model"]["tflop_per_step_per_device"] is None
    assert record["environment"]["device_kind"] is None


def test_an_excerpt_from_the_middle_has_no_warm_up() -> None:
    record = record_of("\n".join(LINES[13:]))
    assert [step["step"] for step in record["steps"]] == [4, 5, 6, 7, 8, 9]
    assert record["timing"]["step_seconds"]["samples"] == 6


def test_lost_lines_are_named() -> None:
    record = record_of("\n".join([*LINES[:12], *LINES[14:17], *LINES[18:]]))
    assert [step["step"] for step in record["steps"]] == [0, 1, 2, 5, 6, 7, 9]
    assert "lines are missing: the log does not tell of steps 3 to 4, 8" in record["warnings"]


def test_a_log_with_its_newest_lines_first_is_put_in_order() -> None:
    record = record_of("\n".join(reversed(LINES)))
    assert record["steps"] == record_of(PLAIN)["steps"]


def test_lines_printed_twice_count_once() -> None:
    record = record_of("\n".join(line for line in LINES for _ in range(2)))
    assert record["steps"] == record_of(PLAIN)["steps"]
    assert "lines that repeat another one, left out: 10" in record["warnings"]


def test_a_gz_file_that_is_cut_is_read_as_far_as_it_goes() -> None:
    packed = gzip.compress(("x" * 100 + "\n" + PLAIN * 40).encode())
    record = record_of(packed[: len(packed) - 12])
    assert "the .gz file is cut short: what it still holds is read" in record["warnings"]


def test_a_few_foreign_bytes_are_no_reason_to_refuse() -> None:
    content = PLAIN.encode().replace(b"Jax Backend", b"Jax \xffackend")
    assert any("not UTF-8" in warning for warning in record_of(content)["warnings"])
    with pytest.raises(UserError, match="byte 0 is not UTF-8"):
        parse("log.txt", bytes(range(128, 256)) + PLAIN.encode())


def test_keys_of_a_list_are_no_marks_of_machines() -> None:
    document = parse("list", b"".join(b"key%d: value\n" % number for number in range(40)))
    assert document.text.startswith("key0: value")
