import json
import os
import shutil

import pytest

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.scrubbing import ScrubSettings


def test_the_fingerprint_depends_on_content_not_on_paths(prepared, corpus, vocab_file, tmp_path):
    moved = str(shutil.copy(corpus, tmp_path / "moved.csv"))
    settings = PrepareSettings((moved,), vocab_file, dev_share=0.2, num_shards=3, seed=1)
    prepare(settings, str(tmp_path / "same"))
    assert PreparedFolder(str(tmp_path / "same")).fingerprint() == prepared.fingerprint()
    with open(moved, "a") as file:
        file.write("what is new?,a new one.\n")
    prepare(settings, str(tmp_path / "other"))
    assert PreparedFolder(str(tmp_path / "other")).fingerprint() != prepared.fingerprint()


def test_the_fingerprint_depends_on_the_boilerplate(corpus, vocab_file, tmp_path):
    fingerprints = []
    for name, phrase in (("a.txt", "one"), ("b.txt", "one"), ("c.txt", "two")):
        (tmp_path / name).write_text(f"closing: {phrase}\n")
        scrub = ScrubSettings(str(tmp_path / name))
        prepare(PrepareSettings((corpus,), vocab_file, scrub=scrub), str(tmp_path / f"{name}.out"))
        fingerprints.append(PreparedFolder(str(tmp_path / f"{name}.out")).fingerprint())
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_a_changed_vocabulary_is_refused(prepared, tmp_path):
    path = shutil.copytree(prepared.path, tmp_path / "p")
    assert PreparedFolder(path).tokenizer().fingerprint == prepared.manifest["tokenizer"]["fingerprint"]
    with open(path / "vocab.txt", "a") as file:
        file.write("another\n")
    with pytest.raises(ValueError, match="The folder was changed: prepare it again"):
        PreparedFolder(path).tokenizer()


def test_the_longest_text_is_known(prepared):
    # "the xy z z z z z z 5." and the like: [CLS], the letters, the full stop, [SEP]; counted with the tokenizer.
    texts = [text for side in ("question", "answer") for text in prepared.table([side])[side].to_pylist()]
    assert prepared.longest() == max(prepared.tokenizer().encode(texts, 256).row_lengths().numpy())


@pytest.mark.parametrize(("content", "message"), [("{", "is not valid JSON"), ("[]", "is of kind and format")])
def test_a_damaged_manifest_is_refused(tmp_path, content, message):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        PreparedFolder(str(tmp_path))


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no manifest.json.*python -m data_pipeline.prepare"):
        PreparedFolder(str(tmp_path))


def with_settings(prepared, tmp_path, settings):
    (tmp_path / "manifest.json").write_text(json.dumps({**prepared.manifest, "settings": settings}))
    return os.fspath(tmp_path)


def test_settings_missing_in_an_older_folder_have_their_defaults(prepared, tmp_path):
    newer = ("question_prompt", "answer_prompt", "max_answer_tokens", "html", "keep_null_words")
    settings = {name: value for name, value in prepared.manifest["settings"].items() if name not in newer}
    settings["scrub"] = {"boilerplate": None}
    folder = PreparedFolder(with_settings(prepared, tmp_path, settings))
    assert folder.prompts() == EncoderPrompts()
    assert (folder.settings.max_tokens, folder.cut_at()) == ({"question": 256, "answer": 256}, 256)
    assert folder.settings == prepared.settings


@pytest.mark.parametrize("part", ["settings", "columns", "scrub"])
def test_unknown_settings_are_named(prepared, tmp_path, part):
    settings = json.loads(json.dumps(prepared.manifest["settings"]))
    (settings if part == "settings" else settings[part])["spelling"] = "british"
    with pytest.raises(ValueError, match=r"manifest.json has settings that this version does not know: spelling"):
        PreparedFolder(with_settings(prepared, tmp_path, settings))


def test_an_older_format_is_refused(prepared, tmp_path):
    manifest = {**prepared.manifest, "format": 1}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"prepared pairs', 3\).*python -m data_pipeline.prepare"):
        PreparedFolder(os.fspath(tmp_path))
