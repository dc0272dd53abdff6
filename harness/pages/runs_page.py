"""A page of all runs: what ran here by experiment, what others published, what was compiled."""

from harness.pages import overview_page, rendering
from harness.pages.gathering import Collection
from harness.pages.sources import Run
from harness.records.record import case_name


def page(name: str, collection: Collection) -> str:
    """The page; within each part the newest run comes first."""
    measured = [
        (one.case, one.group.label, one.group.runs[::-1])
        for one in overview_page.experiments(collection)
    ]
    compiled: dict[str, list[Run]] = {}
    for run in reversed(collection.runs):
        if run.record["status"] == "preflight":
            compiled.setdefault(case_name(run.record) or "of no case", []).append(run)
    published = [run for run in reversed(collection.runs) if run.record["status"] == "imported"]
    grouped = {run.page for _, _, runs in measured for run in runs}
    others = [
        run
        for run in reversed(collection.others)
        if run.page not in grouped and run.record["status"] not in ("imported", "preflight")
    ]
    return rendering.render(
        "runs.html.jinja",
        name,
        title="All runs",
        measured=measured,
        others=others,
        published=published,
        compiled=dict(sorted(compiled.items())),
    )
