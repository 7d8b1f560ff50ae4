"""Settings are described once; bounds, flags and stored forms follow from the description."""

import dataclasses
import math
import re

import pytest
from absl import flags

from data_pipeline.settings import (
    REQUIRED,
    Settings,
    decisive,
    define_flags,
    descriptions,
    flag_values,
    from_json,
    setting,
)


@dataclasses.dataclass(frozen=True)
class Layer:
    width: int = 4
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Example(Settings):
    folder: str = setting(REQUIRED, "Where to read.")
    k: int = setting(5, "Number of sources.", least=1)
    share: float = setting(0.5, "Share.", least=0, most=1)
    rate: float | None = setting(None, "Rate; none: the folder's.", least=0, below=1)
    temperature: float = setting(1.0, "Temperature.", above=0)
    method: str = setting("exact", "How.", choices=("exact", "hnsw", "ivf"))
    fast: bool = setting(False, "Whether.")
    dims: tuple[int, ...] = setting((), "Lengths.")
    files: tuple[str, ...] = setting((), "Files.")
    others: tuple[str, ...] | None = setting(None, "Other files; none: no others.")
    layers: tuple[Layer, ...] = ()
    first: Layer = Layer()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"k": 0}, "k is 0; expected 1 or more."),
        ({"share": 1.5}, "share is 1.5; expected 0 to 1."),
        ({"share": math.nan}, "share is nan; expected 0 to 1."),
        ({"rate": 1.0}, "rate is 1.0; expected 0 or more and less than 1."),
        ({"temperature": 0.0}, "temperature is 0.0; expected more than 0."),
        ({"method": "best"}, "method is 'best'; expected exact, hnsw, ivf."),
        ({"files": "pairs.csv"}, "files is the text 'pairs.csv'; expected a tuple, such as ('pairs.csv',)."),
        ({"others": "b"}, "others is the text 'b'; expected a tuple, such as ('b',)."),
    ],
)
def test_a_value_out_of_bounds_is_named(wrong, expected):
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        Example("f", **wrong)


@pytest.fixture
def registry(monkeypatch):
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    for kind in ("string", "integer", "float", "bool", "enum", "list"):
        define = getattr(flags, f"DEFINE_{kind}")
        monkeypatch.setattr(flags, f"DEFINE_{kind}", lambda *a, define=define, **k: define(*a, flag_values=values, **k))
    return values


def test_flags_come_from_the_fields(registry):
    define_flags(Example, but=("fast",), names={"folder": "input_dir"}, k=7)
    registry(["script", "--input_dir=here", "--dims=3,2", "--method=ivf", "--rate=0.25"])
    example = Example(**flag_values(Example, but=("fast",), names={"folder": "input_dir"}))
    assert example == Example("here", k=7, dims=(3, 2), method="ivf", rate=0.25)
    assert registry["share"].help == descriptions(Example)["share"].help


@pytest.mark.parametrize("wrong", ["--k=0", "--method=best", "--share=2"])
def test_a_flag_out_of_bounds_is_refused(registry, wrong):
    define_flags(Example)
    with pytest.raises(flags.IllegalFlagValueError):
        registry(["script", "--folder=here", wrong])


def test_a_list_without_numbers_is_named(registry):
    define_flags(Example)
    registry(["script", "--folder=here", "--dims=3,x"])
    with pytest.raises(ValueError, match="--dims is '3,x'; expected numbers"):
        flag_values(Example)


def test_stored_settings_are_read_back():
    stored = {"folder": "f", "layers": [{"width": 2}], "first": {"name": "x"}, "dims": [1, 2]}
    assert from_json(Example, stored, "c.json") == Example(
        "f", dims=(1, 2), layers=(Layer(2),), first=Layer(name="x")
    )  # missing settings have their defaults


def test_unknown_stored_settings_are_named():
    with pytest.raises(ValueError, match=r"c\.json has settings that this version does not know: speed"):
        from_json(Example, {"folder": "f", "speed": 3}, "c.json")
    with pytest.raises(ValueError, match=r"c\.json has settings that this version does not know: depth"):
        from_json(Example, {"folder": "f", "first": {"depth": 3}}, "c.json")
    with pytest.raises(ValueError, match=r"c\.json lacks folder"):
        from_json(Example, {}, "c.json")


def test_a_removed_setting_is_ignored_if_it_had_no_effect():
    stored = {"folder": "f", "pointer": False, "first": {"width": 3, "pointer": False}}
    assert from_json(Example, stored, "c.json", {"pointer": False}) == Example("f", first=Layer(3))
    with pytest.raises(ValueError, match="does not know: pointer"):
        from_json(Example, {"folder": "f", "pointer": True}, "c.json", {"pointer": False})


def test_a_setting_with_another_name_in_an_earlier_version():
    @dataclasses.dataclass(frozen=True)
    class Run(Settings):
        base_dir: str = setting("b", "Folder.", former_name="gpt2_dir")

    assert from_json(Run, {"gpt2_dir": "a"}, "c.json") == from_json(Run, {"base_dir": "a"}, "c.json") == Run("a")


def test_settings_that_decide_the_results():
    @dataclasses.dataclass(frozen=True)
    class Run(Settings):
        seed: int = setting(3, "Seed.")
        log_dir: str = setting("here", "Where to write.", changes_results=False)
        first: Layer = Layer(2)

    assert decisive(Run(log_dir="there")) == {"seed": 3, "first.width": 2, "first.name": ""}
