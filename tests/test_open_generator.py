"""A GGUF file is used like the folder that it becomes."""

import dataclasses

import numpy as np
import pytest

from docproduct import export as export_script
from docproduct.answering import Folders
from docproduct.generation.sampling import GenerationSettings
from docproduct.layers import gguf_files
from docproduct.systems.generator import TrainedGenerator, open_session, tokenizer_of, window_of
from tests import gguf_models

PROMPTS = [[5, 6, 7, 30, 9], [8, 9]]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    gguf_models.write(path, quantization="Q8_0", num_layers=1)  # sessions take long to trace
    return str(path)


@pytest.fixture(scope="module")
def generator(path):
    return TrainedGenerator.load(path)


def test_a_file_is_its_dequantized_folder(path, generator, tmp_path):
    folder = str(tmp_path / "m")
    gguf_files.write_hugging_face(gguf_files.read(path), folder)
    other = TrainedGenerator.load(folder)
    assert other.fingerprint() == generator.fingerprint()
    assert (other.end_ids, other.window, other.prompt) == (generator.end_ids, generator.window, generator.prompt)
    assert tokenizer_of(path).fingerprint == tokenizer_of(folder).fingerprint == generator.tokenizer.fingerprint
    assert window_of(path) == gguf_models.CONTEXT
    ids = np.array([PROMPTS[0]])
    np.testing.assert_array_equal(generator.decoder(ids), other.decoder(ids))


def test_a_session_writes_with_it_and_with_its_export(path, tmp_path):
    settings = GenerationSettings(max_tokens=8)
    version = export_script.export(path, str(tmp_path / "e"), False, None, "float32")
    assert version.endswith("/e/1")
    written = open_session(path).write(PROMPTS, settings)
    assert open_session(str(tmp_path / "e")).write(PROMPTS, settings) == written


def test_what_is_no_model(tmp_path, path):
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(ValueError, match="text.gguf"):
        open_session(str(tmp_path / "text.gguf"))
    with pytest.raises(ValueError, match="There is no folder"):
        open_session(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="--base_dir is for an adapter"):
        open_session(path, path)
    assert {field.name for field in dataclasses.fields(Folders)} >= {"generator_dir", "base_dir"}
