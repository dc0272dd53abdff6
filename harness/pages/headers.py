"""What the head of a case's file says it is."""

from dataclasses import dataclass

from harness.cases import reading
from harness.cases.settings import Case


@dataclass(frozen=True)
class Header:
    """A case in words; measures: what it is there for; family: whose models it trains."""

    title: str
    measures: str
    family: str


def header(name: str) -> Header:
    """Reads it of a case that comes with the project; of others nothing is told."""
    if name not in reading.case_names():
        return Header("", "", Case.family)
    path = reading.CASES / f"{name}.yaml"
    text = path.read_text(encoding="utf-8").splitlines()
    lines = [line.removeprefix("#").strip() for line in text if line.startswith("#")] or [""]
    title = lines[0].partition(":")[2].strip()
    words: list[str] = []
    for line in lines[1:]:
        key, _, rest = line.partition(" ")
        if key == "Measures":
            words = [rest.strip()]
        elif key == "Command":
            break
        elif words:
            words.append(line)
    family, _ = reading.read(path).get("model.family", (Case.family, ""))
    return Header(title, " ".join(words).strip(), str(family))
