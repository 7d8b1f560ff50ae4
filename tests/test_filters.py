"""Conditions on columns, against plain Python."""

import itertools

import pyarrow as pa
import pytest

from docproduct.search.filters import Filter

ROWS = [
    {"source": source, "date": date}
    for source, date in itertools.product(("NHS", "CDC", "", None), ("2023-12-31", "2024-01-01", "2024-06-30", None))
]


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        (["source=NHS"], lambda source, date: source == "NHS"),
        (["source=NHS", " source =CDC"], lambda source, date: source in ("NHS", "CDC")),
        (["source="], lambda source, date: source == ""),
        (["date>=2024-01-01"], lambda source, date: date >= "2024-01-01"),
        (
            ["date>=2024-01-01", "date<=2024-03", "source=CDC"],
            lambda s, d: "2024-01-01" <= d <= "2024-03" and s == "CDC",
        ),
        (["source=a=b"], lambda source, date: False),
        (["source = NHS "], lambda source, date: source == "NHS"),
        (["date >= 2024-01-01"], lambda source, date: date >= "2024-01-01"),
        (["date>=2024-06", "date>=2024-01"], lambda source, date: date >= "2024-06"),
        (["date<=2024-01", "date<=2024-06"], lambda source, date: date <= "2024-01"),
    ],
)
def test_rows_equal_plain_python(conditions, holds):
    found = Filter.parse(conditions, ("source", "date")).rows(pa.Table.from_pylist(ROWS))
    assert found.tolist() == [holds(row["source"] or "", row["date"] or "") for row in ROWS]


def test_case_counts():
    table = pa.table({"source": ["Zoo", "apple", "École", "éclair", "zoo"]})
    for condition, expected in (("source=zoo", "zoo"), ("source>=a", "apple École éclair zoo"), ("source<=a", "Zoo")):
        rows = Filter.parse([condition], ("source",)).rows(table)
        assert table.filter(pa.array(rows))["source"].to_pylist() == expected.split()


def test_wrong_conditions_are_refused():
    with pytest.raises(ValueError, match="'NHS' is no condition; expected for example source=NHS"):
        Filter.parse(["NHS"], ("source",))
    with pytest.raises(ValueError, match="no column 'url' to filter by; this index has source. .*--keep"):
        Filter.parse(["url=x"], ("source",))
