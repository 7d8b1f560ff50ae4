"""Addresses of stores."""

import pytest

from docproduct.index.store_index import connect
from docproduct.search.postgres_store import PostgresStore
from docproduct.search.store import HNSW, NO_LAYOUT, Address, is_address


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("milvus://host:19530/x", "milvus://host:19530/x"),
        ("milvus://root:pa/ss@host/x", None),
        ("milvus://root:p%40ss@host/x", "milvus://root:***@host/x"),
        ("milvus://root:p@ss@host/x", "milvus://root:***@host/x"),
        ("milvus://host/x?token=abc&secure=true", "milvus://host/x?token=***&secure=true"),
        ("postgresql:///d?host=/tmp&password=abc&index=i", "postgresql:///d?host=/tmp&password=***&index=i"),
        ("postgresql://u@host/d?sslpassword=abc", "postgresql://u@host/d?sslpassword=***"),
    ],
)
def test_passwords_are_not_shown(text, shown):
    if shown is None:
        with pytest.raises(ValueError, match="is no address of a store") as error:
            Address.parse(text)
        assert "pa/ss" not in str(error.value)
    else:
        assert Address.parse(text).shown == shown


def test_passwords_are_taken_out_of_messages():
    address = Address.parse("postgresql://u:p%40ss@host/d?sslpassword=abc")
    assert address.without_secrets("wrong: p%40ss, p@ss and abc") == "wrong: ***, *** and ***"


def test_folders_are_no_addresses():
    assert [is_address(path) for path in ("milvus://h/x", "postgresql:///d", "/tmp/index", "a:b", "index")] == [
        *(True, True, False, False, False)
    ]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("redis://host/x", "redis://host/x is no address of a store; expected milvus://"),
        ("milvus://host:port/x", "is no address of a store"),
        ("milvus://host:19530", "names no collection; expected one of letters, digits and _"),
        ("milvus://host:19530/a-b", "names no collection"),
        (f"postgresql://host/d?index={'x' * 64}", "index name of other than 1 to 63 bytes"),
        ("milvus:///folder/file/x", "names no file; expected one whose name ends with .db"),
    ],
)
def test_wrong_addresses(address, message):
    with pytest.raises(ValueError, match=message):
        connect(address)


def test_vectors_that_are_too_wide_for_a_graph_are_refused_before_the_upload():
    layout = NO_LAYOUT._replace(kind=HNSW, widths={"answer": 2_001})
    with pytest.raises(ValueError, match="up to 2000 components; received 2001. Give --kind=flat"):
        PostgresStore.begin(None, layout)  # before it asks the database
