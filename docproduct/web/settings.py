"""The settings of the service. They import no web framework, so that a script can define their flags."""

import dataclasses

import limits

from data_pipeline.settings import Settings, setting
from docproduct.chatting import ChatSettings
from docproduct.web import origins

_BYTES_OF_CHAR = 12  # of an emoji in ASCII JSON: two escapes
_BODY_FRAME = 1024  # bytes for the other fields


@dataclasses.dataclass(frozen=True)
class Limits(Settings):
    """What a client may do.

    Attributes:
      token: What a client must send as `Authorization: Bearer TOKEN`; None: nothing.
      write_token: What a client must send to change the pairs, which it may read with it, too; None: nobody may.
    """

    token: str | None = None
    write_token: str | None = None
    rate: str | None = setting(None, "Maximum requests per client address, such as 60/minute; default: no limit.")
    body_bytes: int = setting(256 * 1024, "Longest body of a request, in bytes.", least=1)
    body_seconds: float = setting(10.0, "Seconds in which a body must arrive.", above=0)
    read_seconds: float = setting(30.0, "Seconds after which a client that reads nothing is disconnected.", above=0)
    hosts: tuple[str, ...] = setting(
        (), "Host names of the service besides localhost; default: no others on 127.0.0.1, any on other addresses."
    )
    cors_origins: tuple[str, ...] = setting(
        (), "Other sites whose pages may call the service, such as https://a.example; *: every site."
    )

    def __post_init__(self) -> None:
        """Raises a ValueError for a rate or an origin that is none, or a token that no header can carry."""
        super().__post_init__()
        if self.rate is not None:
            try:
                limits.parse(self.rate)
            except ValueError as error:
                raise ValueError(f"rate is {self.rate!r}; expected for example 60/minute or 5/second.") from error
        object.__setattr__(self, "cors_origins", origins.normal(self.cors_origins))
        for token in (self.token, self.write_token):
            if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
                raise ValueError(
                    "The token is empty, or has characters that no header can carry. Expected ASCII letters."
                )


@dataclasses.dataclass(frozen=True)
class RequestLimits(Settings):
    """How much a request may hold."""

    question_chars: int = setting(2_000, "Longest question, in characters.", least=1)
    texts: int = setting(256, "Maximum number of texts to encode per request.", least=1)
    text_chars: int = setting(
        20_000,
        "Longest of these texts, answer of a pair, and context of a multiple-choice question, in characters.",
        least=1,
    )
    pairs: int = setting(100, "Maximum number of pairs to add per request.", least=1)
    choices: int = setting(20, "Maximum number of choices per question.", least=2)

    @property
    def body_bytes(self) -> int:
        """Bytes of a body, in whole KiB, that holds the longest question or text, whichever its characters are."""
        return -(-(_BYTES_OF_CHAR * max(self.question_chars, self.text_chars) + _BODY_FRAME) // 1024) * 1024


@dataclasses.dataclass(frozen=True)
class ServiceSettings(Settings):
    """How the service works.

    Attributes:
      limits: What a client may do.
      request_limits: How much a request may hold.
      chat: How conversations are held.
    """

    max_batch: int = setting(32, "Maximum number of questions per batch.", least=1)
    max_wait_ms: float = setting(
        2.0, "Milliseconds that the first question of a batch waits for others.", least=0, most=1_000
    )
    max_waiting: int = setting(128, "Maximum number of waiting questions; more get status 503.", least=1)
    writing_batch: int = setting(8, "Maximum number of answers that are generated together.", least=1)
    writing_waiting: int = setting(
        16, "Maximum number of answers waiting to be generated; more get status 503.", least=1
    )
    timeout: float = setting(60.0, "Seconds after which a request is cancelled.", least=0.1)
    log_questions: bool = setting(False, "Log requests with their questions; default: warnings only.")
    feedback_file: str | None = setting(
        None, "File for ratings of answers and questions without an answer, as lines of JSON; default: none are kept."
    )
    limits: Limits = Limits()
    request_limits: RequestLimits = RequestLimits()
    chat: ChatSettings = ChatSettings()

    def __post_init__(self) -> None:
        """Raises a ValueError if no body could be as long as a text may be."""
        super().__post_init__()
        for name in ("question_chars", "text_chars"):
            if (value := getattr(self.request_limits, name)) > self.limits.body_bytes:
                raise ValueError(
                    f"{name} is {value}, and a body may have {self.limits.body_bytes} bytes: no such text could "
                    "arrive. Give a lower limit, or allow longer bodies."
                )
