"""Answers of a model: JSON to questions, and what is faulty; the filters that need no model."""

import json

import pytest

from data_pipeline.generate_questions.answers import (
    CUT_OFF,
    NO_JSON,
    NO_QUESTION,
    Fault,
    Item,
    Step,
    parse,
    shuffled,
)
from data_pipeline.generate_questions.filters import (
    EQUAL,
    NEAR,
    SPEAKS_OF_PASSAGE,
    Candidate,
    repeated,
    select,
    speaking_of_passage,
)
from data_pipeline.prompts.question_prompts import KINDS, OPENINGS, QuestionSettings, json_schema, question_messages
from data_pipeline.rows import Passage

SINGLE = {"question": "Which vitamin cures scurvy?", "right": ["Vitamin C"], "wrong": ["Vitamin D", "Vitamin K"]}
STEP = Step("Which vitamin cures scurvy?", ("Vitamin C",), ("Vitamin D", "Vitamin K"))


def answer(*questions, **fields):
    return json.dumps({**fields, "questions": questions})


def reasons(faults):
    return [fault.reason for fault in faults]


@pytest.mark.parametrize(
    "text",
    [
        answer(SINGLE),
        f"```json\n{answer(SINGLE)}\n```",
        f"Of course! {{Here}} are they:\n\n{answer(SINGLE)}\n\nIs that [all] right?",
        f"<think>A draft: {answer(SINGLE | {'right': ['Vitamin K']})}</think>\n{answer(SINGLE)}",
        json.dumps([SINGLE]),
        answer(SINGLE | {"right": "Vitamin C", "explanation": None}),
        answer(SINGLE | {"question": " Which  vitamin cures\u200b scurvy? "}),
    ],
)
def test_what_stands_around_the_json_is_left_aside(text):
    assert parse(text, "single") == ([Item((STEP,))], [])


def test_each_kind():
    pair = {"question": "What cures scurvy?", "answer": "Vitamin C does."}
    assert parse(answer(pair), "open")[0] == [Item((Step("What cures scurvy?", ("Vitamin C does.",)),))]
    two = SINGLE | {"right": ["Vitamin C", 12]}
    assert parse(answer(two), "several")[0] == [Item((Step(STEP.question, ("Vitamin C", "12"), STEP.wrong),))]
    series = answer(SINGLE, two, case="A sailor bleeds.")
    ((item,), faults) = parse(series, "series")
    assert (item.case, [step.right for step in item.steps]) == (
        "A sailor bleeds.",
        [("Vitamin C",), ("Vitamin C", "12")],
    )
    assert not faults


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"right": ["Vitamin C", "Vitamin E"]}, "several choices are right"),
        ({"right": []}, "right: Tuple should have at least 1 item after validation, not 0"),
        ({"wrong": ["vitamin c."]}, "two choices are equal"),
        ({"wrong": ["..."]}, "wrong: the text holds no word"),
        ({"wrong": ["Vitamin D", "All of the above."]}, "a choice speaks of other choices"),
        ({"wrong": ["Aucune des réponses ci-dessus"]}, "a choice speaks of other choices"),
        ({"wrong": ["A and C"]}, "a choice speaks of other choices"),
        ({"question": {"text": "?"}}, "question: Input should be a valid string"),
    ],
)
def test_a_faulty_question_is_kept_apart_from_the_others(change, reason):
    items, (fault,) = parse(answer(SINGLE | change, SINGLE), "single")
    assert items == [Item((STEP,))]
    assert fault == Fault(reason, SINGLE | change)


def test_an_answer_that_is_the_question_is_faulty():
    said = {"question": "Scurvy is a disease.", "answer": "scurvy is a  disease"}
    assert parse(answer(said), "open") == ([], [Fault("the answer repeats the question", said)])


def test_choices_that_only_look_like_a_reference():
    items, faults = parse(answer(SINGLE | {"wrong": ["Hepatitis A and C", "Both lungs", "Vitamins A and D"]}), "single")
    assert len(items) == 1
    assert not faults


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "no JSON", "{is} it", "[" * 20_000, '{"a": 1}', "[1, 2]", '"questions"', "1e999"])
def test_junk(text, kind):
    assert parse(text, kind) == ([], [Fault(NO_JSON)])


def test_answers_that_end_in_the_middle():
    text = answer(SINGLE, SINGLE | {"question": "Another?"})
    items, faults = parse(text[: text.index("Another")], "single", finished=False)
    assert items == [Item((STEP,))]
    assert reasons(faults) == [CUT_OFF]
    series = answer(SINGLE, SINGLE, case="A case.")
    assert parse(series[:-20], "series", finished=False) == ([], [Fault(CUT_OFF)])


def test_answers_without_a_question():
    for questions in ([], 5, None, {}):
        assert parse(json.dumps({"questions": questions}), "single") == ([], [Fault(NO_QUESTION)])


def test_a_series_is_whole_or_faulty():
    items, faults = parse(answer(SINGLE, SINGLE | {"wrong": []}, case="A case."), "series")
    assert (items, len(faults)) == ([], 1)
    assert reasons(parse(answer(SINGLE), "series")[1]) == ["case: Field required"]


def test_choices_are_shuffled_by_a_hash():
    choices, correct = shuffled(STEP)
    assert sorted(choices) == sorted((*STEP.right, *STEP.wrong))
    assert [choices[place] for place in correct] == ["Vitamin C"]
    # The order the model wrote them in makes no difference, and the right choice is in every place.
    assert shuffled(Step(STEP.question, STEP.right, STEP.wrong[::-1])) == (choices, correct)
    places = [shuffled(Step(f"Question {i}?", ("yes",), ("no", "never")))[1][0] for i in range(300)]
    assert all(70 < places.count(place) < 130 for place in range(3))


def test_prompts_hold_the_passage_and_the_form():
    settings = QuestionSettings("several", num_questions=2, num_choices=5, language="French")
    system, user = question_messages(Passage("Scurvy is a disease.", "Lacks"), settings)
    assert user["content"].startswith("Title: Lacks\nPassage:\nScurvy is a disease.\n\n")
    for part in ("2 questions", "5 of them", "French", '"wrong": ['):
        assert part in user["content"]
    assert "passage" in system["content"]
    with pytest.raises(ValueError, match="num_choices is 2; expected 3 or more"):
        QuestionSettings("several", num_choices=2)


@pytest.mark.parametrize("kind", KINDS)
def test_openings_and_schemas_are_of_the_form_that_is_asked_for(kind):
    asked = question_messages(Passage("P"), QuestionSettings(kind))[1]["content"]
    assert OPENINGS[kind] in asked
    schema = json_schema(QuestionSettings(kind))
    for fields in (schema["properties"], schema["properties"]["questions"]["items"]["properties"]):
        assert all(f'"{name}"' in asked for name in fields)


@pytest.mark.parametrize(
    ("kind", "num_right", "num_wrong"),
    [("single", (1, 1), (4, 4)), ("several", (2, 4), (1, 3)), ("series", (1, 1), (4, 4))],
)
def test_a_schema_bounds_what_is_asked_for(kind, num_right, num_wrong):
    questions = json_schema(QuestionSettings(kind, num_questions=2, num_choices=5))["properties"]["questions"]
    assert (questions["minItems"], questions["maxItems"]) == (1, 2)
    bounds = {name: part for name, part in questions["items"]["properties"].items() if part["type"] == "array"}
    assert {name: (part["minItems"], part["maxItems"]) for name, part in bounds.items()} == {
        "right": num_right,
        "wrong": num_wrong,
    }
    assert all(part["items"]["maxLength"] == 400 for part in bounds.values())


def test_a_schema_bounds_the_length_of_answers_and_cases():
    answer = json_schema(QuestionSettings("open"))["properties"]["questions"]["items"]["properties"]["answer"]
    case = json_schema(QuestionSettings("series"))["properties"]["case"]
    assert answer["maxLength"] == case["maxLength"] == 1_000


def candidates(*items, passage=Passage("P")):
    return [Candidate(str(i), passage, item) for i, item in enumerate(items)]


def alone(question, right="Yes", case=""):
    return Item((Step(question, (right,), ("No",)),), case)


@pytest.mark.parametrize(
    ("question", "speaks"),
    [
        ("According to the passage, what is scurvy?", True),
        ("What does the text say about scurvy?", True),
        ("What is mentioned in this article?", True),
        ("D’après le texte, qu'est-ce que le scorbut ?", True),
        ("Quelle maladie est décrite dans ce passage ?", True),
        ("What is the passage about?", True),
        ("What is the main finding of the passage?", True),
        ("What is the purpose of this study?", True),
        ("What did the study find?", True),
        ("Which drug did the authors recommend?", True),
        ("Quel est l'objectif de cette étude ?", True),
        ("What is the aim of the current research?", True),
        ("What is the study of tissues called?", False),
        ("What is the aim of the current research on asthma?", False),
        ("What did the Framingham study find?", False),
        ("What delays the passage of food from the stomach?", False),
        ("What happens in the passage of air through the nose?", False),
        ("Qu'est-ce qui gêne le passage de l'air ?", False),
        ("Which text message service helps smokers?", False),
    ],
)
def test_questions_that_speak_of_the_passage(question, speaks):
    expected = [SPEAKS_OF_PASSAGE if speaks else ""]
    assert speaking_of_passage(candidates(alone(question))) == expected
    assert speaking_of_passage(candidates(alone("Why?", case=question))) == expected


def test_repeated_questions():
    long = "Which of the drugs that open the airways within minutes is given to people with asthma as a spray"
    items = (
        alone("What is scurvy?", "A disease"),
        alone("what is SCURVY", "A disease."),
        alone("What is scurvy?", "A lack"),  # another question, as another choice is right
        alone(f"{long}?", "Salbutamol"),
        alone(f"{long} now?", "Salbutamol"),
    )
    assert repeated(0.8)(candidates(*items)) == ["", EQUAL, "", "", NEAR]
    assert repeated(1.0)(candidates(*items)) == ["", EQUAL, "", "", ""]


def test_the_first_filter_that_a_question_fails_counts():
    items = candidates(alone("One?"), alone("Two?"), alone("Three?"))
    calls = []

    def no_two(given):
        calls.append(len(given))
        return ["two" if "Two" in candidate.asked else "" for candidate in given]

    kept, dropped = select(items, [no_two, no_two, lambda given: ["last"] * len(given), no_two])
    assert kept == []
    assert [(candidate.passage_id, reason) for candidate, reason in dropped] == [
        ("1", "two"),
        ("0", "last"),
        ("2", "last"),
    ]
    assert calls == [3, 2]  # nothing is left for the last filter
