from harness.cases.reading import case_names
from harness.pages import headers


def test_a_case_of_the_project_is_told_from_its_file() -> None:
    found = {name: headers.header(name) for name in case_names()}
    assert all(one.title and one.measures for one in found.values())
    assert found["03_dropout"].family == "decoder"
    assert found["30_pipeline"].family == "gpt"


def test_of_another_case_nothing_is_told() -> None:
    assert headers.header("99_made_up") == headers.Header("", "", "decoder")
