"""Recognises HTML in texts, and turns it into plain text.

Only tags that HTML knows count: `<5 mg`, `a < b > c`, `List<int>` and `<question>` are text. selectolax parses.
"""

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from data_pipeline import cleaning

# Names of tags. Sure ones stand in no text by chance. Inline ones are tags if the text holds other HTML. Doubtful ones
# may be placeholders (<link>, <title>): they are tags if they have an attribute or an end tag.
_SURE = "p br hr div ul ol li dl dt dd table thead tbody tfoot tr td th h1 h2 h3 h4 h5 h6 pre blockquote center html"
_INLINE = (
    "a abbr acronym b bdi bdo big cite code del dfn em font i img ins kbd mark nobr q s samp small span strike strong "
    "sub sup tt u var wbr"
)
_DOUBTFUL = (
    "address applet area article aside audio base body button canvas caption circle col colgroup data datalist defs "
    "details dialog dir ellipse embed fieldset figcaption figure footer form frame frameset g head header hgroup "
    "iframe input label legend line link main map marquee menu meta meter nav noframes noscript object optgroup option "
    "output param path picture polygon polyline progress rect rp rt ruby script search section select source style "
    "summary svg textarea time title track use video xmp"
)
_sure, _known = (names.replace(" ", "|") for names in (_SURE, f"{_SURE} {_INLINE} {_DOUBTFUL}"))
_HOLDS_MARKUP = re.compile(
    rf"</(?!s\s*>)(?:{_known})\s*>"  # </s> ends the texts of some language models
    rf"|<(?:{_sure})\s*/?>"
    rf"|<(?:{_known})\s+[a-z_:@-][\w:.-]*\s*=[^<>]*>"
    r"|<!--|<!doctype\s",
    re.IGNORECASE,
)
_ANGLE = re.compile(
    rf"<(?:(?P<end>/?)(?P<name>{_known}|[a-z][a-z0-9]*[:-][a-z0-9][a-z0-9:.-]*)(?=[\s/>])"
    r"(?:(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>|[^<>]*>)"
    r"|(?P<comment>!--)|(?P<declaration>(?:!doctype\s|!\[(?:if|endif)|\?xml\s)[^<>]*>))?",
    re.IGNORECASE,
)
_END_TAG = re.compile(r"</([a-z][\w:.-]*)", re.IGNORECASE)
_AMPERSAND = re.compile(r"&(?:#?\w{1,32};)?")
_CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
_CERTAIN = frozenset(f"{_SURE} {_INLINE}".split())
_RAW = frozenset(("script", "style", "iframe", "noframes", "textarea", "title", "xmp"))  # they hold no tags

_BLOCKS = frozenset(
    f"{_SURE} address article aside body caption details dialog dir fieldset figcaption figure footer form header "
    "hgroup legend main menu nav option section summary title".split()
)
_LISTS = ("ol", "ul", "menu", "dir")
_FRAMES = frozenset(("a", "li", "td", "th", "tr", "sup", "q", "del", "s", "strike"))  # written when they end
_LEFT_OUT = frozenset(("script", "style"))
_MARKS = {"q": ("“", "”"), "del": ("~~", "~~"), "s": ("~~", "~~"), "strike": ("~~", "~~")}
_BREAKS = re.compile(rf"</?(?:{_sure})[\s/>]", re.IGNORECASE)
_BLANKS, _BLANK_LINES = re.compile(r"[ \t\n\r\f]+"), re.compile(r"\n[ \t\r\f]*\n\s*")
_POWER = re.compile(r"[+\-−]?\d+[+\-−]?|[+\-−]")
_SCHEME = re.compile(r"(?:(?:https?:)?//|mailto:|tel:)?(?:www\.)?", re.IGNORECASE)


def holds_markup(text: str) -> bool:
    """Returns whether a text holds HTML: an end tag, a tag with an attribute, a tag such as <p> or <br>, a comment."""
    return "<" in text and _HOLDS_MARKUP.search(text) is not None


def to_text(markup: str) -> str:
    """Returns the text of HTML.

    Paragraphs, rows of tables and <br> end a line. Items of lists get a mark. The address of a link follows its text in
    parentheses, unless the text is the address. Struck-out words stand between `~~`, and a raised number follows `^`.
    Scripts, styles and comments are left out. If no tag breaks lines, the line breaks of the source stay.
    """
    writer = _Writer(keep_lines=not _BREAKS.search(markup))
    waiting: list[tuple[LexborNode, bool]] = [(LexborHTMLParser(_tags_alone(markup)).root, False)]
    while waiting:  # no recursion: tags may be nested without end
        node, done = waiting.pop()
        if done:
            writer.leave(node)
        elif node.is_text_node:
            writer.write(node.text_content)
        elif node.is_element_node and node.tag not in _LEFT_OUT:
            writer.enter(node)
            waiting.append((node, True))
            waiting += [(child, False) for child in _children_backwards(node)]
    return writer.text()


def _children_backwards(node: LexborNode) -> Iterator[LexborNode]:
    child = node.last_child
    while child is not None:
        yield child
        child = child.prev


def _tags_alone(markup: str) -> str:
    """Returns the markup with `&lt;` for `<` where no tag begins, and `&amp;` for `&` where no entity begins."""
    markup = _AMPERSAND.sub(_ampersand, _CDATA.sub("", markup))
    ended = {name.lower() for name in _END_TAG.findall(markup)}
    last_comment = markup.rfind("-->")

    def angle(match: re.Match[str]) -> str:
        name = (match["name"] or "").lower()
        if name in _RAW:
            is_tag = name in ended
        elif name:
            has_attribute = re.search(r"=\s*[\"']" if {"-", ":"} & set(name) else "=", match[0])
            is_tag = name in _CERTAIN or name in ended or has_attribute or match[0].endswith("/>")
        else:
            is_tag = match["declaration"] or (match["comment"] and match.end() <= last_comment)
        return match[0] if is_tag else f"&lt;{match[0][1:]}"

    return _ANGLE.sub(angle, markup)


def _ampersand(match: re.Match[str]) -> str:
    return match[0] if cleaning.character_of(match[0]) else f"&amp;{match[0][1:]}"


class _Writer:
    """Collects text. The content of a frame (a link, an item, a cell) is collected apart until the frame ends."""

    def __init__(self, keep_lines: bool):
        self._keep_lines = keep_lines
        self._frames: list[list[str]] = [[]]
        self._numbers: list[int | None] = []  # the next item's number in each open list; None without numbers
        self._num_pre = 0
        self._nested = [False]  # whether each open row holds a table

    def text(self) -> str:
        """Returns the text so far."""
        return "".join(self._frames[0])

    def write(self, text: str) -> None:
        """Writes the text between two tags."""
        if not (self._num_pre or self._keep_lines):
            text = "\n".join(_BLANKS.sub(" ", part) for part in _BLANK_LINES.split(text))
        self._frames[-1].append(text)

    def enter(self, node: LexborNode) -> None:
        """Begins an element."""
        tag = node.tag
        if tag in _BLOCKS:
            self._frames[-1].append("\n")
        if tag in _FRAMES:
            self._frames.append([])
        if tag in _LISTS:
            self._numbers.append(_number(node, "start", 1) if tag == "ol" else None)
        elif tag == "pre":
            self._num_pre += 1
        elif tag == "table":
            self._nested[-1] = True
        elif tag == "tr":
            self._nested.append(False)
        elif tag == "img":
            self._frames[-1].append(_BLANKS.sub(" ", node.attributes.get("alt") or ""))

    def leave(self, node: LexborNode) -> None:
        """Ends an element."""
        tag = node.tag
        if tag in _LISTS:
            self._numbers.pop()
        elif tag == "pre":
            self._num_pre -= 1
        if tag in _FRAMES:
            parts = self._frames.pop()
            self._frames[-1].append(self._row(parts) if tag == "tr" else self._changed(node, "".join(parts)))
        if tag in _BLOCKS and tag not in ("td", "th"):
            self._frames[-1].append("\n")

    def _changed(self, node: LexborNode, text: str) -> str:
        """Returns the text of a frame in the form in which the frame around it holds it."""
        tag, inner = node.tag, text.strip()
        if tag == "a":
            return _link(text, node.attributes.get("href") or "")
        if not inner:
            return text
        if tag == "li":
            return f"{self._item_mark(node)}{inner}"
        if tag == "sup":
            return f"^{inner}" if _POWER.fullmatch(inner) else text
        begin, end = _MARKS.get(tag, ("", ""))
        return f"{begin}{text}{end}"

    def _item_mark(self, item: LexborNode) -> str:
        if not self._numbers or self._numbers[-1] is None:
            return "- "
        number = _number(item, "value", self._numbers[-1])
        self._numbers[-1] = number + 1
        return f"{number}. "

    def _row(self, parts: list[str]) -> str:
        """Returns a row of a table on one line; a table that makes the layout of a page keeps its lines."""
        nested = self._nested.pop()
        cells = [part for part in parts if part != "\n"]
        if nested or len(cells) < 2 or not "".join(cells).strip():
            return "\n".join(cells)
        return " | ".join(" ".join(cell.split()) for cell in cells)


def _number(node: LexborNode, name: str, default: int) -> int:
    value = (node.attributes.get(name) or "").strip()
    return int(value) if re.fullmatch(r"-?\d{1,9}", value, re.ASCII) else default


def _link(text: str, address: str) -> str:
    address = " ".join(address.split())
    if not address or address.startswith("#") or address.lower().startswith(("javascript:", "data:")):
        return text
    if _bare(address) in map(_bare, text.split()):
        return text
    inner = text.rstrip()
    return f"{inner} ({address}){text[len(inner) :]}" if inner else address


def _bare(address: str) -> str:
    """Returns an address in a form that its spellings share."""
    return _SCHEME.sub("", address, count=1).strip("/.,;:()<>").lower()
