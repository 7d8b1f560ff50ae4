"""The corpus report: what is planted in a corpus is found, with the right numbers, and nothing personal is shown."""

import itertools
import json
import re
import subprocess
import sys

import pytest

from data_pipeline.corpora import PAIRS, Columns
from data_pipeline.corpora.choices import CHOICE_ROWS
from data_pipeline.corpora.dialogues import DIALOGUES
from data_pipeline.corpora.triage import TRIAGES
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.report import DISCLAIMER, ReportSettings, report
from data_pipeline.report.corpus import Row, open_corpus
from data_pipeline.report.page import page
from data_pipeline.report.personal_data import masked, shown
from data_pipeline.report.question_types import form_of
from data_pipeline.report.sample import Sample
from data_pipeline.report.tally import Tally
from tests.conftest import write_csv
from tests.planted import HOSTILE, SECRETS, by, numbers_of, write_planted


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return write_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def numbers(planted):
    return numbers_of(planted)


@pytest.fixture(scope="module")
def content(planted):
    return report(open_corpus([planted], PAIRS, Columns()), ReportSettings())


def test_duplicates(numbers):
    # 70 + 2 near + 3 exact + 12 personal + 3 damaged + 3 names + 3 opposed + 4 polite + 1 hostile
    assert numbers["counts"]["rows"] == 101
    exact = numbers["exact_duplicates"]
    assert exact["repeated_rows"] == 3
    assert exact["rows_of_repeated_questions"] == 3 + 2 + 2 * 2 + 3  # exact twice, exact, near, tea
    assert exact["distinct_answers"] == 98
    assert exact["questions"][0]["rows"] == 3
    assert numbers["near_duplicates"]["rows"] == 2
    assert [example["similarity"] > 0.8 for example in numbers["near_duplicates"]["examples"]] == [True, True]


def test_near_duplicates_are_those_of_brute_force_and_of_prepare(planted, numbers, vocab_file, tmp_path):
    rows = [row for batch in open_corpus([planted], PAIRS, Columns()).batches() for row in batch.rows]
    distinct = {(row.question_group, row.answer_group): row for row in rows}.values()

    def triples(row):
        parts = f"{row.question} {row.answer}".lower().rstrip(".!?").split()
        return {tuple(parts[i : i + 3]) for i in range(len(parts) - 2)}

    pairs = itertools.combinations([triples(row) for row in distinct if len(row.answer) > 99], 2)
    assert sum(len(a & b) / len(a | b) >= 0.8 for a, b in pairs) == numbers["near_duplicates"]["rows"]
    manifest = prepare(PrepareSettings((planted,), vocab_file, duplicates="near"), str(tmp_path / "p"))
    near = [entry["rows"] for reason, entry in manifest["refused"].items() if "near" in reason]
    # Prepare compares texts to the letter: the repetition in capitals is a near duplicate there.
    assert near == [numbers["near_duplicates"]["rows"] + 1]


def test_refused_rows_have_examples(numbers):
    reasons = {entry["reason"]: entry for entry in numbers["refusals"]["reasons"]}
    assert {reason: entry["rows"] for reason, entry in reasons.items()} == {
        "empty answer": 1,
        "empty question": 1,
        "answer is the word NULL": 1,
    }
    (example,) = reasons["answer is the word NULL"]["examples"]
    assert example["text"] == "Where? NULL"
    assert example["where"].startswith("planted.csv line ")


def test_personal_data_is_counted_and_masked(numbers, content):
    hits = by(numbers["personal_data"]["kinds"], "kind", "hits")
    assert hits == {kind: len(secrets) for kind, secrets in SECRETS.items()}
    assert numbers["personal_data"]["rows"] == 12
    outputs = [json.dumps(content, ensure_ascii=False), page(content)]
    for secret in itertools.chain(*SECRETS.values()):
        assert not any(secret in output or secret.casefold() in output for output in outputs)
    assert all("[email]" in output and "[card]" in output for output in outputs)


@pytest.mark.parametrize(
    "text",
    [
        "Take 850-4000 ng/mL or 100-2000 mg, twice in 2019-2020.",
        "EC 3.4.21.5 and version 2.1.0.4; PMID 12345678; 1234 5678 9012 3456",  # no valid card number
        "His name is of no use. Dr. is a title, and dr. smith a word.",
    ],
)
def test_what_is_not_personal_data(text):
    assert masked(text)[0] == text


def test_masking_comes_before_cutting():
    assert shown("call jane@mail.example now", 12) == "call [email]…"


def test_damaged_characters(numbers):
    rows = by(numbers["mojibake"]["kinds"], "kind", "rows")
    assert rows == {"wrong encoding": 1, "lost characters": 1, "escaped bytes": 1, "control characters": 0}
    assert numbers["mojibake"]["rows"] == 3
    (example,) = numbers["mojibake"]["kinds"][0]["examples"]
    assert "â€™" in example["text"]
    assert example["repaired"].endswith("it’s a café für alle – très bien")


def test_templates(numbers):
    rows = {name: n for name, n in by(numbers["templates"]["names"], "name", "rows").items() if n}
    assert rows == {"ChatDoctor": 2, "a language model": 1}
    assert numbers["templates"]["rows"] == 3


def test_question_frames(tmp_path):
    path = tmp_path / "foci.csv"
    lines = [
        f"What are the symptoms of {focus.upper()}?,they are {focus},{focus}" for focus in ("flu", "gout", "lupus")
    ]
    path.write_text("\n".join(["question,answer,focus", *lines, "Is it gout?,no,asthma"]) + "\n")
    numbers = numbers_of(path)
    assert [(f["text"], f["rows"]) for f in numbers["templates"]["question_frames"]] == [
        ("what are the symptoms of ___?", 3)
    ]
    assert by(numbers["counts"]["foci"], "name", "rows") == {"flu": 1, "gout": 1, "lupus": 1, "asthma": 1}
    assert by(numbers["question_types"]["subjects"], "name", "rows") == {"symptoms": 3}


def test_boilerplate(numbers):
    found = numbers["boilerplate"]
    ends = by(found["ends"], "end", "answers")
    assert ends == {"openings": 5, "sign-offs": 6}  # one opening thanks ChatDoctor; two doctors sign with their names
    assert found["ends"][0]["phrases"][0] == {"text": "hi", "answers": 4}
    assert {"text": "regards, [name]", "answers": 1} in found["ends"][1]["phrases"]


def test_agreement(numbers):
    assert numbers["answers_a_question"]["with_several"] == 3  # two near duplicates, tea
    assert by(numbers["answers_a_question"]["by_number"], "answers", "questions")[3] == 1
    agreement = numbers["agreement"]
    assert agreement["yes_and_no"] == 1
    assert agreement["yes_and_no_examples"][0]["answers"] == ["Yes, it is.", "No, never."]
    # {yes it is}, {no never}, {water is good}: one word of five is shared by one of three pairs.
    assert agreement["lowest"][0]["overlap"] == pytest.approx(1 / 5 / 3, abs=1e-3)


def test_lengths_are_counted_in_words_or_tokens(tmp_path, tokenizer):
    path = write_csv(tmp_path / "pairs.csv", [("what is ab?", "a b c"), ("哮喘", "the")])
    lengths = numbers_of(path)["lengths"]
    assert (lengths["unit"], lengths["question"]["total"], lengths["answer"]["longest"]) == ("words", 5, 3)
    lengths = numbers_of(path, tokenizer=tokenizer, max_tokens=4)["lengths"]
    # [CLS] what is a ##b ? [SEP] is 7; each Chinese character is unknown: 4. [CLS] a b c [SEP] is 5, and 3.
    assert (lengths["unit"], lengths["question"]["total"], lengths["answer"]["total"]) == ("tokens", 11, 8)
    assert (lengths["question"]["over_limit"], lengths["question"]["lost_share"]) == (
        1,
        pytest.approx(3 / 11, abs=1e-6),
    )
    assert [b["texts"] for b in lengths["answer"]["histogram"]] == [0, 0, 1, 1]  # to 1, 2, 4, 8


def test_unknown_words(tmp_path, tokenizer):
    path = write_csv(tmp_path / "pairs.csv", [("what 哮?", "哮 is the \u2603"), ("what?", "abab abab")])
    found = numbers_of(path, tokenizer=tokenizer)["vocabulary"]
    assert [(word["word"], word["times"]) for word in found["unknown_words"]] == [("哮", 2), ("☃", 1)]
    assert found["unknown_words"][1]["code_points"] == ["U+2603"]
    assert found["unknown_tokens"] == 3
    assert found["costly_words"] == [{"word": "abab", "times": 2, "pieces": 4}]


def test_languages(tmp_path):
    rows = [
        ("Quels sont les symptômes de la grippe ?", "La fièvre et la fatigue."),
        ("气短怎么办？", "请尽快去看医生。"),
    ]
    rows += [(f"How is asthma treated in adults, {i}?", "Inhalers open the airways of the lungs.") for i in range(3)]
    found = numbers_of(write_csv(tmp_path / "pairs.csv", [*rows, ("ok?", "1 2")]))["languages"]
    expected = {"en": 3, "fr": 1, "zh": 1, "too short to tell": 1}
    assert by(found["languages"], "language", "rows") == expected


@pytest.mark.parametrize(
    ("question", "form"),
    [
        ("What is asthma?", "what"),
        ("  «How» do I sleep", "how"),
        ("Doesn't it hurt?", "yes or no"),
        ("asthma in children?", "other question"),
        ("asthma in children", "no question"),
        ("I cough. Is it asthma?", "several sentences"),
        ("气短怎么办？", "other script"),
    ],
)
def test_forms(question, form):
    assert form_of(question) == form


def test_two_runs_are_equal(planted, content):
    assert report(open_corpus([planted], PAIRS, Columns()), ReportSettings()) == content


@pytest.mark.parametrize("rows", [[], [("a?", "b")]])
def test_empty_and_tiny_corpora(rows, tmp_path):
    content = report(open_corpus([write_csv(tmp_path / "few.csv", rows)], PAIRS, Columns()), ReportSettings())
    assert content["corpora"][0]["counts"]["rows"] == len(rows)
    html = page(content)
    assert ("No row is left." in html) == (not rows)
    assert DISCLAIMER in html


def test_other_row_types(tmp_path):
    path = tmp_path / "triage.csv"
    path.write_text("text,department\nchest pain,heart\nchest pain,lung\nrash,skin\n")
    numbers = numbers_of(path, TRIAGES)
    assert by(numbers["counts"]["foci"], "name", "rows") == {"heart": 1, "lung": 1, "skin": 1}
    assert numbers["agreement"]["several_foci"] == 1
    path = tmp_path / "choices.jsonl"
    path.write_text('{"question": "Where?", "options": {"A": "liver", "B": "lung"}, "answer_idx": "B"}\n')
    assert numbers_of(path, CHOICE_ROWS)["examples"][0]["answer"] == "lung"
    path = tmp_path / "dialogues.jsonl"
    turns = [{"role": "user", "content": "I cough."}, {"role": "assistant", "content": "Since when?"}]
    turns += [{"role": "user", "content": "Monday."}, {"role": "assistant", "content": "Rest."}]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    (example,) = numbers_of(path, DIALOGUES)["examples"]
    assert (example["question"], example["answer"]) == ("I cough. Since when? Monday.", "Rest.")


def rows_of(questions):
    return [Row(str(i), str(q), "a", "", "", "", q * 2**40, i) for i, q in enumerate(questions)]


def test_a_sample_has_whole_questions_in_any_order():
    rows = rows_of([i // 3 for i in range(900)])
    sample, backwards, small = Sample(200, 5), Sample(200, 5), Sample(1_000, 5)
    for start in range(0, 900, 50):
        sample.add(rows[start : start + 50])
        backwards.add(rows[::-1][start : start + 50])
        small.add(rows[start : start + 50])
    kept = {row.where for row in sample.rows()}
    assert kept == {row.where for row in backwards.rows()}
    assert 80 <= len(kept) <= 200
    assert {len(group) for group in sample.by_question()} == {3}
    assert len(small.rows()) == 900
    one = Sample(150, 5)
    one.add(rows_of([4] * 500))
    assert len(one.rows()) == 100  # of one question


def test_a_tally_forgets_the_rarest():
    tally = Tally(most=10)
    for i in range(100):
        tally.add(["often", f"once {i:02d}"])
    assert tally.top(1) == [("often", 100)]
    assert len(tally) <= 11
    assert tally.forgot


def test_the_page_holds_all_it_needs(content):
    html = page(content)
    assert "<script" not in html
    assert not re.findall(r'(?:src|href)="(?!#)', html)
    sections = re.findall(r'<section id="(\w+)"><h2>', html)
    assert set(re.findall(r'href="#(\w+)"', html)) <= set(sections)
    assert html.count("<svg") == html.count('<svg role="img" aria-label=')
    assert html.count("<table") == html.count("<caption")


def test_names_of_files_may_break_in_the_heads_of_tables(planted):
    """On a phone, a long name would leave no room to the names of the rows."""
    corpus = open_corpus([planted], PAIRS, Columns())
    html = page(report(corpus, ReportSettings(), other=open_corpus([planted], PAIRS, Columns())))
    assert '<th scope="col">planted.<wbr>csv</th>' in html


def test_texts_are_shown_as_texts(tmp_path):
    rows = [(HOSTILE, HOSTILE), ("a?", "b"), ("c?", "d")]
    html = page(report(open_corpus([write_csv(tmp_path / "a.csv", rows)], PAIRS, Columns()), ReportSettings()))
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;b&gt;bold") == 4
    assert "<script" not in html


def run(*arguments):
    command = [sys.executable, "-m", "data_pipeline.report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_script(planted, tmp_path):
    done = run(f"--input={planted}", f"--output={tmp_path}/r.html", "--sampled_rows=100", "--num_examples=1")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["rows"], summary["refused"]) == (101, 3)
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["num_examples"] == 1
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_a_damaged_input_is_refused(tmp_path):
    path = tmp_path / "pairs.parquet"
    path.write_bytes(b"PAR1\x15\x04" + b"\x00" * 40)
    done = run(f"--input={path}", f"--output={tmp_path}/r.html")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {path} ")
    assert not (tmp_path / "r.html").exists()
