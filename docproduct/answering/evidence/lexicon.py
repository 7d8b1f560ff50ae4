"""Words that the check of support knows: function words, synonyms, opposites, negations, units, numbers.

English for the most part; function words, negations and units in German, Spanish, French and Chinese, too.
"""

import re


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for part in text.splitlines() for line in part.split("|") if line.strip())


# They say nothing by themselves.
FUNCTION_WORDS = _words("""
    a about after again all also although am among an and any are aren't as at be because been before being below
    between both but by can can't cannot could d did didn't do does doesn't doing don't down during each either else
    etc ever every few for from further had has hasn't have haven't having he her here hers him his how however i if
    in into is isn't it it's its itself just ll m may me might more most much must my no nor not of off often on
    once one only or other others our out over own per rather re s same shall she should since so some such t than
    that the their them then there therefore these they this those though through thus to too under until up upon us
    usually very was we were what when where whether which while who whom whose why will with within without would
    yes yet you your
    aber als auch auf aus bei bin bis das dass dem den der des die durch ein eine einem einen einer eines er es für
    hat ich ihr im ist kann man mit nach nicht nur oder sich sie sind um und von vor was wenn werden wie wird zu zum
    zur
    al como con de del el en esta este la las lo los más no o para pero por que se si sin son su sus un una y
    au aux avec ce ces cette dans des du elle est et il ils je le les leur mais ne ou par pas pour qui sa ses sont
    sur une
""")
# With them a writer speaks of the sources instead of the matter.
FRAME_WORDS = _words("""
    according source text passage article document information answer question summary summarize overview mention state
    say explain describe provide discuss conclusion hope thank
""")
# The words of a line mean about the same.
SYNONYMS = _lines("""
    people person persons individual patient someone|condition disorder disease illness|doctor physician clinician
    about approximately roughly nearly around estimated|symptom sign|medicine medication drug|child children kid
    often frequently commonly|usually typically generally|begin start onset|happen occur|decrease reduce|treat therapy
    cause lead result trigger due|severe serious|many numerous several various multiple|important essential crucial
    baby infant newborn|kidney renal|heart cardiac|lung pulmonary|liver hepatic|skin cutaneous|brain cerebral
    inherited hereditary|defect abnormality anomaly|test exam examination|mutation alteration variant|show reveal
    tumor tumour|help assist|affect impact|worldwide world globally|characterize mark feature|typical usual
""")
# The words on the two sides of a stroke contradict each other.
OPPOSITES = _lines("""
    increase rise raise grow gain elevate/decrease reduce lower fall drop decline shrink lose loss
    more most/less fewer least few|high higher highest/low lower lowest|before/after|always/never rarely|all/none no
    common frequent often usual usually/rare rarely seldom uncommon infrequent|early earlier/late later|first/last
    mild/severe|benign/malignant|acute/chronic|dominant/recessive|positive/negative|better improve/worse worsen
    large larger big/small smaller|long longer/short shorter|strong stronger/weak weaker|left/right|upper/lower
    men man male boy father/women woman female girl mother|child children/adult|young younger/old older|day/night
    start begin/stop end|above over/below under|fast rapid quick/slow|avoid/take use need|safe/dangerous harmful unsafe
    cause/prevent cure|treat/cause|with/without|inside internal/outside external|present/absent|excess/lack deficiency
    maximum/minimum|hot warm/cold|many/few|entire whole/partial|single/multiple|allow/prevent forbid|thick/thin
""")
NEGATION = re.compile(
    r"not|no|never|without|none|neither|nor|cannot|.*n't|nicht|kein(?:e[nmrs]?)?|ohne|nie|niemals|sin|nunca|ningun[oa]?"
    r"|ningún|ne|pas|jamais|sans|aucune?|[不没沒無无未非勿别].?"
)
# They may stand for a negation, as `unknown` does for `not known`.
FAINT_NEGATIONS = _words("absent absence fail failure few free impossible incapable lack lacking rarely")

NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        _words("""
            zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
            seventeen eighteen nineteen
        """)
    )
}
NUMBER_WORDS |= {
    word: 20 + 10 * tens for tens, word in enumerate(_words("twenty thirty forty fifty sixty seventy eighty ninety"))
}
FACTORS = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
# Between two numbers, these give both the unit of the second.
BETWEEN_NUMBERS = frozenset(_words("to or and bis oder und a o y à ou et 至 到"))
# The name of each unit by the words for it.
UNITS = {
    word: unit
    for unit, words in {
        "mg": "mg milligram milligrams milligramm 毫克",
        "g": "g gram grams gm gramm 克",
        "mcg": "mcg µg μg ug microgram micrograms mikrogramm 微克",
        "kg": "kg kilogram kilograms kilo kilos 公斤",
        "ml": "ml milliliter milliliters millilitre millilitres 毫升",
        "l": "l liter liters litre litres 升",
        "IU": "iu ie unit units",
        "%": "% percent",
        "second": "second seconds sec sekunden 秒",
        "minute": "minute minutes min minuten minutos 分钟",
        "hour": "hour hours hr hrs h stunden horas heures 小时",
        "day": "day days tag tage tagen día días jour jours 天 日",
        "week": "week weeks woche wochen semana semanas semaine semaines 周",
        "month": "month months monat monate monaten mes meses mois 月",
        "year": "year years yr yrs jahr jahre jahren año años ans 年 岁",
        "mm": "mm millimeter millimeters millimetre millimetres",
        "cm": "cm centimeter centimeters centimetre centimetres 厘米",
        "inch": "inch inches",
        "pound": "pound pounds lb lbs",
        "degree": "° degree degrees",
        "time": "time times mal veces fois 次",
    }.items()
    for word in words.split()
}
