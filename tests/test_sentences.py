"""Splitting texts into sentences."""

import pytest

from data_pipeline.sentences import split_sentences

# | marks where a sentence ends.
SPLIT = {
    "abbreviations": "Take e.g. aspirin. |Ask Dr. Lee vs. others, approx. at noon, i.e. The lunch break. |Done.",
    "U.S.": "It is common in the U.S. |The U.S. Food and Drug Administration says so, at 8 a.m. and later.",
    "decimals": "Take 0.5 mg or 1,000.5 mg. |The dose in 2005 was 5. |Not more.",
    "numbers": "See p. 12 and Fig. 3 in No. 5. |No. |It is not.",
    "initials": "By J. R. Smith. |E. coli is a germ. |So do I. |Vitamin C. |Hepatitis B. |Cystatin C. |This helps.",
    "enumeration": "Steps: 1. Rest. |2. Drink. |a. Water.\n|3. Sleep.",
    "list marks": "Types include: - Classic sarcoma. |- African sarcoma. |• Others.",
    "lines": "Key Points\n|- It is rare\n|- It hurts\n\n|and the end",
    "lines of fixed width": "a long sentence is\nwrapped here. |the next",
    "lower case": "hi. |it is no tear. |physiotherapy etc. may help... maybe. |good luck",
    "quotes": 'He said "Stop." and left. |"Why?" |(Because.) |The page "What is it?" explains it.',
    "citations": "It helps.[1][2] |It hurts. [1, 3] |It ends [2]. |Really? [1]",
    "no stop": "Asthma is treated with",
    "marks": "Really?! |Yes! |No… |Well",
    "apostrophe": "They don't. |Anxiety is common.",
    "German": "Nehmen Sie z. B. 5 mg, d. h. bis zum 3. Tag. |Danach nicht mehr. |Dr. med. Müller sagt u. a. nein.",
    "Spanish": "Tome 5 mg p. ej. cada día. |¿Duele? |¡Sí! |El Dr. Gómez y la Sra. Paz no.",
    "French": "M. Dupont a 0,5 mg. |Est-ce grave ? |Non ! |Voir p. ex. le Pr. Martin, env. 3 jours.",
    "Chinese": "高血压要注意饮食。|每天0.5毫克。[1] |好吗？|好",
    "Japanese": "「はい。」|彼は言った。|終",
    "blank": "  \n ",
    "empty": "",
}


@pytest.mark.parametrize("marked", SPLIT.values(), ids=SPLIT.keys())
def test_split(marked):
    expected = [part for part in marked.split("|") if part]
    text = marked.replace("|", "")
    assert split_sentences(text) == expected
    for end in range(len(text)):  # a text that grows keeps its sentences, but for the last
        grown = split_sentences(text[:end])
        assert "".join(grown) == text[:end]
        assert grown[:-1] == expected[: max(len(grown) - 1, 0)]
