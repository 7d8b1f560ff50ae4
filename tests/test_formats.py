"""Published layouts that are no tables: their rows, and what is refused. The texts are invented."""

import json

import pytest
import zstandard

from data_pipeline.corpora import Columns, Refusals, formats, meddialog, read_pairs, reddit
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.rows import PAIR

MEDQUAD = """<?xml version="1.0" encoding="UTF-8"?>
<Document id="0000001" source="GARD" url="https://health.example/cough">
<Focus>Dry cough</Focus>
<FocusAnnotations>
	<UMLS>
		<CUIs><CUI>C0850149</CUI><CUI>C0010200</CUI></CUIs>
		<SemanticTypes><SemanticType>T184</SemanticType></SemanticTypes>
		<SemanticGroup>Disorders</SemanticGroup>
	</UMLS>
	<Synonyms><Synonym>Hacking cough</Synonym><Synonym>Tickly cough</Synonym></Synonyms>
</FocusAnnotations>
<QAPairs>
	<QAPair pid="1">
		<Question qid="1-1" qtype="treatment">What eases it &amp; when?</Question><Answer>Honey.</Answer>
	</QAPair>
	<QAPair pid="2"><Question qid="1-2" qtype="causes">What causes it?</Question><Answer></Answer></QAPair>
</QAPairs>
</Document>
"""
CDC = """<?xml version="1.0"?>
<Document id="1" source="CDC" url=""><Focus>Ague</Focus><UMLS><CUI></CUI><SemanticType></SemanticType></UMLS>
<QAPairs><QAPair pid="1"><Question>What is ague?</Question><Answer>A fever.</Answer></QAPair></QAPairs></Document>
"""
ENGLISH = """id=1
https://forum.example/1

Description
Sore throat.

Dialogue
Patient:
My throat is sore.\rSince Monday.
Doctor:
Any fever?
Patient:
No.

id=1
https://forum.example/1

Description
Re: May I run after a cold?

Dialogue
Doctor:
Begin gently.

id=3
https://forum.example/3

Description
Nobody answered.

Dialogue
Patient:
Hello?
"""
CHINESE = """id=7
https://doctor.example/7.htm

Doctor faculty
示例市人民医院 呼吸内科

Description
疾病： 咳嗽。
病情描述： 干咳一周。

Dialogue
病人：
干咳一周。
需要吃药吗？
医生：
多喝水。
医生：
三天后复诊。

Diagnosis and suggestions
总结建议：观察。
"""
POSTS = """<?xml version="1.0" encoding="utf-8"?>
<posts>
  <row Id="1" PostTypeId="1" AcceptedAnswerId="3" Score="5" Title="Dry cough?" Body="&lt;p&gt;Since &lt;em&gt;May&lt;/em&gt;, 1 &amp;lt; 2.&lt;/p&gt;" Tags="&lt;cough&gt;&lt;home&gt;" />
  <row Id="2" PostTypeId="2" ParentId="1" Score="-2" Body="&lt;p&gt;Rest.&lt;/p&gt;" />
  <row Id="3" PostTypeId="2" ParentId="1" Score="7" Body="&lt;ul&gt;&lt;li&gt;Honey&lt;/li&gt;&lt;li&gt;Tea&lt;/li&gt;&lt;/ul&gt;" />
  <row Id="4" PostTypeId="2" ParentId="99" Score="0" Body="Lost." />
  <row Id="5" PostTypeId="5" Score="0" Body="About a tag." />
</posts>
"""  # noqa: E501
SUBMISSIONS = [
    {"id": "a1", "subreddit": "AskDocs", "title": "Dry cough", "selftext": "A week now.", "score": 12},
    {"id": "a2", "title": "Gone", "selftext": "[removed]", "score": 3},
    {"id": "a3", "title": "Low", "selftext": "", "score": 0, "link_flair_text": "Lungs"},
]
COMMENTS = [
    {"id": "c1", "link_id": "t3_a1", "parent_id": "t3_a1", "body": "Honey.", "score": 9, "subreddit": "AskDocs"},
    {"id": "c2", "link_id": "t3_a1", "parent_id": "t1_c1", "body": "Thanks!", "score": 2},
    {"id": "c3", "link_id": "t3_a1", "parent_id": "t3_a1", "body": "[deleted]", "score": 1},
    {"id": "c4", "link_id": "t3_a2", "parent_id": "t3_a2", "body": "Tea.", "score": 1},
    {"id": "c5", "link_id": "t3_a3", "parent_id": "t3_a3", "body": "Rest.", "score": 5},
    {"id": "c6", "link_id": "t3_a1", "parent_id": "t3_a1", "body": "Read our rules.", "author": "AutoModerator"},
]


def lines(objects):
    return "".join(json.dumps(each) + "\n" for each in objects)


def read(path, columns=Columns(), rows="pairs"):
    """Returns the rows without their places, and the number of refused ones by reason."""
    refusals = Refusals()
    known = formats.find(str(path), columns, rows)
    reader = known.read[rows] if known else read_pairs
    return [row for _, row in reader(str(path), columns, refusals)], dict(refusals.counts), refusals


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(rows):
    return [(row.question, row.answer) for row in rows]


def test_medquad_keeps_what_is_known_of_a_focus(tmp_path):
    written(tmp_path / "MedQuAD" / "2_GARD_QA" / "0000001.xml", MEDQUAD)
    written(tmp_path / "MedQuAD" / "9_CDC_QA" / "0000002.xml", CDC)
    written(tmp_path / "MedQuAD" / "readme.txt", "MedQuAD")
    rows, refused, refusals = read(tmp_path / "MedQuAD")
    assert refused == {"empty answer": 1}
    assert refusals.report()["empty answer"]["first"].endswith("2_GARD_QA/0000001.xml pair 2")
    assert rows[0] == PAIR.row(
        "What eases it & when?", "Honey.", "2_GARD_QA", "Dry cough", "https://health.example/cough",
        "Hacking cough|Tickly cough", "C0850149|C0010200", "T184", "Disorders",
    )  # fmt: skip
    assert rows[1] == PAIR.row("What is ague?", "A fever.", "9_CDC_QA", "Ague")
    assert read(tmp_path / "MedQuAD" / "9_CDC_QA" / "0000002.xml")[0] == rows[1:]


def test_a_folder_of_a_format_is_one_input(tmp_path):
    for number in range(3):
        content = MEDQUAD.replace("What eases", f"What, {number}, eases")
        written(tmp_path / "in" / "2_GARD_QA" / f"{number}.xml", content)
    inputs = find_inputs([str(tmp_path / "in")], Columns(), Refusals())
    assert inputs == (str(tmp_path / "in"),)
    vocabulary = written(tmp_path / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nhoney\nwhat\n")
    settings = PrepareSettings(inputs, str(vocabulary), dev_share=0)
    manifest = prepare(settings, str(tmp_path / "out"), num_workers=0)
    assert manifest["counts"]["train"]["pairs"] == 3
    assert manifest["inputs"][0]["format"] == "medquad"
    assert manifest["refused"]["empty answer"]["rows"] == 3
    table = PreparedFolder(str(tmp_path / "out")).table(["synonyms", "cui", "url"])
    assert table.to_pylist()[0] == {
        "synonyms": "Hacking cough|Tickly cough", "cui": "C0850149|C0010200", "url": "https://health.example/cough",
    }  # fmt: skip
    # A file more is another input: the finished folder is not taken for it.
    written(tmp_path / "in" / "9_CDC_QA" / "1.xml", CDC)
    with pytest.raises(FileExistsError):
        prepare(settings, str(tmp_path / "out"), num_workers=0)


def test_the_small_medquad_table_keeps_the_same(tmp_path):
    table = "Focus,CUI,SemanticType,SemanticGroup,Question,Answer\nCough,C1,T184,Disorders,What is it?,A reflex.\n"
    (row,), *_ = read(written(tmp_path / "medquad.csv", table))
    expected = PAIR.row("What is it?", "A reflex.", focus="Cough", cui="C1", semantic_type="T184")
    assert row == PAIR.row(**vars(expected) | {"semantic_group": "Disorders"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MEDQUAD[:400], r"line \d+ is not valid XML"),
        (MEDQUAD.replace("<Document", '<!DOCTYPE d [<!ENTITY a "b">]>\n<Document', 1), "declares the entity 'a'"),
        (MEDQUAD.replace('encoding="UTF-8"', 'encoding="x-none"'), "is not valid XML"),
    ],
)
def test_damaged_and_dangerous_xml_is_refused(tmp_path, content, message):
    path = written(tmp_path / "a.xml", content)
    with pytest.raises(ValueError, match=f"{path}.*{message}"):
        read(path, Columns(format="medquad"))


def test_meddialog_in_english(tmp_path):
    path = written(tmp_path / "a.txt", ENGLISH)
    rows, refused, refusals = read(path)
    assert texts(rows) == [
        ("My throat is sore.\rSince Monday.", "Any fever?"),
        ("Re: May I run after a cold?", "Begin gently."),
    ]
    assert rows[0].url == "https://forum.example/1"
    assert refused == {"no answer in the dialogue": 1}
    assert [entry["times"] for entry in refusals.notes().values()] == [2]  # 1 after 1, and 3 after 1
    first, _, third = meddialog.read_consultations(str(path))
    assert third.where == f"{path} line 25 id 3"
    assert list(first.turns())[1:] == [("doctor", "Any fever?"), ("patient", "No.")]


def test_meddialog_in_blocks(tmp_path, monkeypatch):
    path = str(written(tmp_path / "a.txt", ENGLISH + CHINESE + ENGLISH))
    whole = list(meddialog.read_pairs(path, Columns(), Refusals()))
    for size in (1, 7, 64):
        monkeypatch.setattr(meddialog, "_BLOCK", size)
        assert list(meddialog.read_pairs(path, Columns(), Refusals())) == whole
    assert len(whole) == 5


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_meddialog_in_chinese(tmp_path, line_end):
    path = written(tmp_path / "a.txt", CHINESE.replace("\n", line_end))
    (row,), refused, _ = read(path)
    assert (row.question, row.answer) == ("干咳一周。\n需要吃药吗？", "多喝水。\n三天后复诊。")
    assert (row.focus, row.url, refused) == ("呼吸内科", "https://doctor.example/7.htm", {})
    assert read(written(path, path.read_bytes().decode().encode("gb18030")))[0] == [row]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda turns: [turns],
        lambda turns: [{"Turn": 2, "Id": 1, "Dialogue": turns}],
        lambda turns: [{"description": "x [1]", "utterances": turns}],
    ],
)
def test_meddialog_in_json(tmp_path, wrap, ascii_only):
    for turns in (["病人：干咳。", "医生：多喝水：三杯。"], ["patient: 干咳。", "doctor: 多喝水：三杯。"]):
        path = written(tmp_path / "a.json", json.dumps(wrap(turns), ensure_ascii=ascii_only))
        rows, refused, _ = read(path)
        assert (texts(rows), refused) == ([("干咳。", "多喝水：三杯。")], {})


def test_meddialog_with_a_list_a_line(tmp_path):
    path = written(tmp_path / "a.jsonl", lines([["patient: A cough?", "doctor: Honey."], ["patient: Thanks."]]))
    rows, refused, _ = read(path)
    assert (texts(rows), refused) == ([("A cough?", "Honey.")], {"no answer in the dialogue": 1})


def test_a_meddialog_without_end_is_refused(tmp_path):
    path = written(tmp_path / "a.txt", ENGLISH + ("x" * 1_000 + "\n") * 12_000)
    with pytest.raises(ValueError, match=f"{path} line .* a dialogue of more than 8,388,608 characters"):
        read(path)


def test_squad(tmp_path):
    asked = [
        {"question": "What eases it?", "answers": [{"text": "Honey"}, {"text": "Honey"}, {"text": "tea"}]},
        {"question": "And rest?", "answers": [], "is_impossible": True},
        {"answers": [{"text": "Honey"}]},
    ]
    article = {"title": "Dry_cough", "paragraphs": [{"context": "Honey and tea ease it.", "qas": asked}, {"qas": 3}]}
    path = written(tmp_path / "a.json", json.dumps({"version": "2.0", "data": [article, 7]}))
    rows, refused, _ = read(path)
    assert texts(rows) == [("What eases it?", "Honey"), ("What eases it?", "tea")]
    assert rows[0].focus == "Dry cough"
    assert refused == {"the question has no answer": 1, "an article, paragraph or question lacks its fields": 3}
    passages, *_ = read(path, rows="passages")
    assert [(passage.text, passage.title) for passage in passages] == [("Honey and tea ease it.", "Dry cough")]


def test_stackexchange(tmp_path):
    path = written(tmp_path / "Posts.xml", POSTS)
    rows, refused, _ = read(path)
    question = "Dry cough?\nSince May, 1 < 2."
    assert texts(rows) == [(question, "Rest."), (question, "- Honey\n- Tea")]
    assert rows[0].focus == "cough, home"
    assert refused == {"the question of an answer is missing": 1, "a post is neither a question nor an answer": 1}
    rows, refused, _ = read(path, Columns(min_score=1))
    assert (len(rows), refused) == (1, {"the score is below --min_score": 3})
    newer = POSTS.replace("&lt;cough&gt;&lt;home&gt;", "|cough|home|")
    assert read(written(path, newer))[0][0].focus == "cough, home"


@pytest.mark.parametrize("names", [("RC_2020-01.zst", "RS_2020-01.zst"), ("x_comments.ndjson", "x_submissions.ndjson")])
def test_reddit(tmp_path, names):
    def pack(content):
        packer = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
        )
        return packer.compress(content.encode()) if names[0].endswith("zst") else content

    comments = written(tmp_path / names[0], pack(lines(COMMENTS) + "{broken\n"))
    submissions = written(tmp_path / names[1], pack(lines(SUBMISSIONS)))
    rows, refused, _ = read(comments)
    assert texts(rows) == [("Dry cough\nA week now.", "Honey."), ("Low", "Rest.")]
    assert [(row.source, row.focus) for row in rows] == [("r/AskDocs", ""), ("", "Lungs")]
    assert refused == {
        reddit.DELETED: 2, reddit.REPLY: 1, reddit.BOT: 1, reddit.NOT_JSON: 1, "the question of an answer is missing": 1
    }  # fmt: skip
    assert read(tmp_path)[0] == rows
    assert formats.files_read(str(comments), Columns(), "pairs") == [str(submissions), str(comments)]
    assert texts(read(comments, Columns(keep_deleted=True))[0])[1] == ("Gone", "Tea.")
    assert texts(read(comments, Columns(min_score=1))[0]) == texts(rows[:1])
    with pytest.raises(ValueError, match="holds Reddit submissions alone"):
        read(submissions)
    submissions.unlink()
    with pytest.raises(ValueError, match="holds Reddit comments alone"):
        read(comments)


DEPARTMENTS = "department,title,ask,answer\n呼吸科,夜里干咳,夜里干咳一周，怎么办？,多喝水。\n神经科,头痛,头痛,休息。\n"
TITLED = "夜里干咳,夜里干咳一周，怎么办？\n多喝水。\n三天后复诊。\n\n\n头痛,头痛\n休息。\n\n\n无人回答,为什么？\n\n\n"


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_chinese_departments(tmp_path, encoding):
    rows, *_ = read(written(tmp_path / "a.csv", DEPARTMENTS.encode(encoding)))
    question = "夜里干咳\n夜里干咳一周，怎么办？"
    assert [(*pair, row.focus) for pair, row in zip(texts(rows), rows, strict=True)] == [
        (question, "多喝水。", "呼吸科"), ("头痛", "休息。", "神经科"),
    ]  # fmt: skip
    rows, refused, _ = read(written(tmp_path / "a.txt", TITLED.encode(encoding)))
    assert texts(rows) == [(question, "多喝水。\n三天后复诊。"), ("头痛", "休息。")]
    assert refused == {"a question without an answer": 1}


def test_named_columns_make_a_table_of_departments(tmp_path):
    rows, *_ = read(written(tmp_path / "a.csv", DEPARTMENTS), Columns(question="title", answer="answer"))
    assert texts(rows)[0] == ("夜里干咳", "多喝水。")


def test_a_format_may_be_named(tmp_path):
    path = written(tmp_path / "a.txt", "Description\nid=x\n" + ENGLISH)
    assert len(read(path, Columns(format="meddialog"))[0]) == 2
    with pytest.raises(ValueError, match="--format is 'words'; expected for pairs: auto, table, json, .*, meddialog"):
        read(path, Columns(format="words"))
    with pytest.raises(ValueError, match="--format is 'medquad'; expected for passages: auto, .*squad"):
        read(path, Columns(format="medquad"), rows="passages")
    odd = written(tmp_path / "odd.csv", "<posts>,question,answer\nx,q,a\n")
    assert texts(read(odd, Columns(format="table"))[0]) == [("q", "a")]
