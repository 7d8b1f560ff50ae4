"""The reader of questions with choices."""

import csv
import json

import pytest

from data_pipeline import rows
from data_pipeline.corpora import Columns, Refusals
from data_pipeline.corpora.choices import AMBIGUOUS, CHOICE_ROWS, COUNTS_FROM_1, NOT_WHOLE, read_choices
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare

VITAMINS = ("Vitamin A", "Vitamin C", "Vitamin D", "Vitamin K")
LETTERED = dict(zip("ABCD", VITAMINS, strict=True))
QUESTION = "Which vitamin is made in the skin?"


def read(path, *objects, columns=Columns()):
    path.write_text("\n".join(json.dumps(row) for row in objects), encoding="utf-8")
    refusals = Refusals()
    return [row for _, row in read_choices(str(path), columns, refusals)], refusals


@pytest.mark.parametrize(
    "fields",
    [
        {"options": LETTERED, "answer_idx": "C", "answer": "Vitamin D", "meta_info": "step1"},  # MedQA
        {"options": LETTERED, "answer_idx": "C", "realidx": 0},
        {"options": LETTERED, "answer": "vitamin d"},
        {"opa": "Vitamin A", "opb": "Vitamin C", "opc": "Vitamin D", "opd": "Vitamin K", "cop": 3, "exp": None},
        {"choices": list(VITAMINS), "gold": 2},
        {"options": LETTERED, "answer": "(C)"},
        {"options": LETTERED, "answer": "c."},
        {f"option_{key}": text for key, text in LETTERED.items()} | {"answer": "option_c"},
        dict(zip("ABDE", VITAMINS, strict=True)) | {"answer": "D"},
        {"choices": list(VITAMINS), "answer": 2},  # MMLU
        {"choices": {"text": list(VITAMINS), "label": list("1234")}, "answerKey": "3"},  # ARC
        {"choices": [{"key": key, "text": text} for key, text in LETTERED.items()], "correct": ["C"]},
        {"ending0": "Vitamin A", "ending1": "Vitamin C", "ending2": "Vitamin D", "ending3": "Vitamin K", "label": "2"},
    ],
)
def test_published_layouts(tmp_path, fields):
    found, refusals = read(tmp_path / "a.jsonl", {"question": QUESTION} | fields)
    assert found == [rows.Choices(QUESTION, VITAMINS, (2,), 0, "", QUESTION)]
    assert not refusals.counts


@pytest.mark.parametrize("given", [["a", "c"], "A, C", "a,c", "AC", [0, 2], ["Vitamin A", "Vitamin D"]])
def test_several_may_be_right(tmp_path, given):
    answers = {key.lower(): text for key, text in LETTERED.items()}
    (found,), _ = read(tmp_path / "a.jsonl", {"question": QUESTION, "answers": answers, "correct_answers": given})
    assert (found.correct, found.several) == ((0, 2), 1)


def test_pubmedqa(tmp_path):
    row = {
        "question": "Is it safe?",
        "contexts": ["Methods.", "Results."],
        "labels": ["M", "R"],
        "final_decision": "no",
    }
    (found,), _ = read(tmp_path / "a.jsonl", row)
    assert found == rows.Choices("Is it safe?", ("yes", "no", "maybe"), (1,), 0, "Methods.\nResults.", "Is it safe?")


@pytest.mark.parametrize(("numbers", "expected"), [((1, 4), (0, 3)), ((0, 3), (0, 3)), ((0, 1), (0, 1))])
def test_medmcqa_counts_from_1_unless_a_row_has_0(tmp_path, numbers, expected):
    options = {f"op{key.lower()}": text for key, text in LETTERED.items()}
    found, refusals = read(tmp_path / "a.jsonl", *({"question": QUESTION, **options, "cop": n} for n in numbers))
    assert tuple(row.correct[0] for row in found) == expected
    assert (COUNTS_FROM_1 in refusals.noted) == (0 not in numbers)


@pytest.mark.parametrize(
    ("choices", "answer", "expected"),
    [
        (["2", "3", "4"], "2", None),  # the text of the first, the place of the last
        (["2", "3", "4"], 2, "4"),
        (["10", "20", "30"], "20", "20"),
        ([10, 20, 30], "2", "30"),
        (["B", "A", "O"], "A", None),
        (["1", "0"], "1", None),
        (["Mri", "CT"], "MRI", "Mri"),
    ],
)
def test_texts_that_look_like_places_or_letters(tmp_path, choices, answer, expected):
    found, refusals = read(tmp_path / "a.jsonl", {"question": "q", "choices": choices, "answer": answer})
    assert [row.choices[row.correct[0]] for row in found] == ([expected] if expected else [])
    assert list(refusals.counts) == ([] if expected else [AMBIGUOUS])


@pytest.mark.parametrize(("numbers", "expected"), [([1, 4], (0, 3)), ([1, 3], (1, 3)), ([0, 3], (0, 3))])
def test_a_number_that_is_too_high_tells_that_they_count_from_1(tmp_path, numbers, expected):
    found, refusals = read(tmp_path / "a.jsonl", *({"question": "q", **LETTERED, "answer": n} for n in numbers))
    assert tuple(row.correct[0] for row in found) == expected
    assert (COUNTS_FROM_1 in refusals.noted) == (4 in numbers)


@pytest.mark.parametrize(("answers", "expected"), [("13", (0, 2)), ("02", (0, 2)), ("12", (0, 1))])
def test_numbered_columns_count_from_1_unless_a_row_has_0(tmp_path, answers, expected):
    choices = {f"option_{i}": text for i, text in enumerate(VITAMINS, 1)}
    found, _ = read(tmp_path / "a.jsonl", *({"question": "q", **choices, "answer": i} for i in answers))
    assert tuple(row.correct[0] for row in found) == expected


def test_ten_numbered_columns_keep_their_order(tmp_path):
    choices = {f"choice{i}": f"text {i}" for i in range(1, 11)}
    (found,), _ = read(tmp_path / "a.jsonl", {"question": "q", **choices, "label": "10"})
    assert found.choices[found.correct[0]] == "text 10"


def test_options_that_a_row_does_not_have_are_left_out(tmp_path):
    (found,), _ = read(
        tmp_path / "a.jsonl", {"question": "q", "options": {"A": "x", "B": "y", "C": None}, "answer": "B"}
    )
    assert (found.choices, found.correct) == (("x", "y"), (1,))


def test_a_table_has_a_column_for_each_choice(tmp_path):
    path = tmp_path / "a.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        header = ["question", "A", "B", "C", "answer", "subject"]
        rows_of_file = [header, ["q", "yes", "no", "", "B", "law"], ["r", "1", "2", "3", "C", ""]]
        csv.writer(file).writerows(rows_of_file)
    found = [row for _, row in read_choices(str(path), Columns(), Refusals())]
    assert [(row.choices, row.correct, row.focus) for row in found] == [
        (("yes", "no"), (1,), "law"),
        (("1", "2", "3"), (2,), ""),
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"options": ["a"], "answer": 0}, "fewer than two choices"),
        ({"options": ["a", "b"], "answer": []}, "no choice is right"),
        ({"options": ["a", "b"], "answer": None}, "no choice is right"),
        ({"options": ["a", "b"], "answer": 3}, "none of the choices"),
        ({"options": ["a", "b"], "answer": "E"}, "none of the choices"),
        ({"options": ["a", "b"], "answer": -1}, "none of the choices"),
        ({"options": ["a", " a"], "answer": 0}, "two choices are equal"),
        ({"options": ["a", ["b"]], "answer": 0}, "another type than text"),
    ],
)
def test_what_cannot_be_asked_is_counted(tmp_path, fields, reason):
    found, refusals = read(tmp_path / "a.jsonl", {"question": QUESTION} | fields)
    (counted,) = refusals.counts
    assert not found
    assert reason in counted


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"options": ["a", "b"], "answer": 0}, "no column 'question'.*--question_column"),
        ({"question": "q", "options": ["a", "b"]}, "no column 'correct'.*--answer_column"),
        ({"question": "q", "answer": "a"}, "no column 'choices'"),
    ],
)
def test_missing_columns_are_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.jsonl", row)


def test_a_named_column_holds_what_is_right(tmp_path):
    row = {"question": "q", "options": ["a", "b"], "answer": 0, "reviewed": "b"}
    (found,), _ = read(tmp_path / "a.jsonl", row, columns=Columns(answer="reviewed"))
    assert found.correct == (1,)


SERIES = {
    "context": "A woman of 30 has a fever.",
    "questions": [
        {"question": "What first?", "options": ["History", "Surgery"], "correct": 0},
        {"question": "And then?", "options": ["Blood", "Urine", "X-ray"], "correct": ["A", "B"]},
    ],
    "subject": "Medicine",
}


def test_a_series_shares_its_case_and_is_in_one_split(tmp_path):
    found, _ = read(tmp_path / "a.jsonl", SERIES)
    assert [(row.question, row.correct, row.several, row.step) for row in found] == [
        ("What first?", (0,), 0, 0),
        ("And then?", (0, 1), 1, 1),
    ]
    series = "A woman of 30 has a fever.\nWhat first?\nHistory\nSurgery\nAnd then?\nBlood\nUrine\nX-ray"
    assert {(row.context, row.series, row.focus) for row in found} == {
        ("A woman of 30 has a fever.", series, "Medicine")
    }
    objects = [SERIES | {"context": f"Case {i}."} for i in range(40)]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, objects)))
    out = str(tmp_path / "out")
    prepare(PrepareSettings((str(tmp_path / "b.jsonl"),), dev_share=0.3), out, num_workers=0, reader=CHOICE_ROWS)
    table = PreparedFolder(out, rows.CHOICES).table(["context", "question", "split", "step", "series_group"])
    splits = {row["context"]: row["split"] for row in table.to_pylist()}
    assert len(table) == 80
    assert set(splits.values()) == {"train", "dev"}
    assert all(splits[row["context"]] == row["split"] for row in table.to_pylist())


def test_series_and_single_questions_may_stand_in_one_file(tmp_path):
    single = {"question": "q", "options": ["x", "y"], "correct": 1}
    bare = {"questions": [single], "context": None}
    found, refusals = read(tmp_path / "a.jsonl", SERIES, single, bare)
    assert [(row.question, row.context) for row in found[2:]] == [("q", ""), ("q", "")]
    assert not refusals.counts
    (found,), _ = read(tmp_path / "b.json", {"questions": [single]})
    assert found.correct == (1,)


def test_a_question_of_a_series_that_is_not_whole_is_counted(tmp_path):
    broken = SERIES | {"questions": [{"question": "What first?", "options": ["x", "y"]}, *SERIES["questions"][1:]]}
    found, refusals = read(tmp_path / "a.jsonl", broken)
    assert [(row.question, row.step) for row in found] == [("And then?", 1)]
    assert refusals.counts == {NOT_WHOLE: 1}
    named = {"context": "c", "questions": [{"frage": "q", "options": ["x", "y"], "correct": 0}]}
    (found,), _ = read(tmp_path / "b.jsonl", named, columns=Columns(question="frage"))
    assert (found.question, found.context) == ("q", "c")
