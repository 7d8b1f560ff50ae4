"""A corpus with planted faults, whose numbers the tests of the corpus report know."""

import random

from data_pipeline.corpora import PAIRS, Columns
from data_pipeline.report import ReportSettings, report
from data_pipeline.report.corpus import open_corpus
from tests.conftest import write_csv

SECRETS = {
    "e-mail addresses": ["jane.roe+2@mail.example.org", "x_y@clinic.example"],
    "card numbers": ["4111 1111 1111 1111"],
    "identity numbers": ["219-09-9999", "11010519491231002X"],
    "telephone numbers": ["(555) 123-4567", "13812345678", "5552345678"],
    "IP addresses": ["192.168.14.200"],
    "names behind a title": ["Shinas Hussain"],
    "names behind a sign-off": ["Ashok Verma"],
    "names that writers give": ["Ottilie"],
}

CARRIERS = {
    "names behind a title": "Regards, Dr. {}.",
    "names behind a sign-off": "Regards, {}.",
    "names that writers give": "my name is {} and I ask.",
}

HOSTILE = "<script>alert(1)</script> & <b>bold</b>"


def write_planted(folder):
    """Writes 70 unrelated pairs, and what is planted: 3 exact and 2 near duplicates, 12 rows with personal data, ..."""
    rng = random.Random(7)
    rows = [(f"What is {words(rng, 4)}?", words(rng, 30 + i % 5)) for i in range(70)]
    near = [(question, f"{answer} {words(rng, 1)}") for question, answer in rows[10:12]]
    exact = [rows[0], rows[0], (rows[1][0].upper(), f"{rows[1][1]}!")]
    personal = [
        (f"how {words(rng, 3)}", f"{words(rng, 25)} {CARRIERS.get(kind, 'write to {} today').format(secret)}")
        for kind, secrets in SECRETS.items()
        for secret in secrets
    ]
    damaged = [
        "it’s a café für alle – très bien".encode().decode("cp1252"),
        "lost \ufffd mark",
        r"dash \xe2\x80\x93 here",
    ]
    damaged = [(f"why {words(rng, 3)}", f"{words(rng, 20)} {text}") for text in damaged]
    names = ["Thanks for asking ChatDoctor.", "welcome to Chat Doctor forum", "As an AI language model I"]
    names = [(f"can {words(rng, 3)}", f"{text} {words(rng, 20)}") for text in names]
    opposed = [("Is tea good?", "Yes, it is."), ("Is tea good?", "No, never."), ("is tea good", "Water is good.")]
    polite = [(words(rng, 4), f"Hi. {words(rng, 20)}. Hope this helps. Regards.") for _ in range(4)]
    refused = [("Who?", ""), ("", "Nobody."), ("Where?", "NULL")]
    rows += [*near, *exact, *personal, *damaged, *names, *opposed, *polite, *refused, ("What is safe?", HOSTILE)]
    return write_csv(folder / "planted.csv", rows)


def words(rng, number):
    return " ".join("".join(rng.choices("aeioulmnrst", k=7)) for _ in range(number))


def numbers_of(path, reader=PAIRS, test=None, tokenizer=None, **settings):
    corpora = [open_corpus([str(p)], reader, Columns()) if p else None for p in (path, test)]
    return report(corpora[0], ReportSettings(**settings), tokenizer, corpora[1])["corpora"][0]


def by(listed, key, value):
    return {entry[key]: entry[value] for entry in listed}
