"""Talks about the answers of an index: replies are written from sources, and every sentence is checked against them.

    python -m docproduct.chat --model_dir=model --index_dir=index --generator_dir=adapter --base_dir=SmolLM2.gguf

Without --question, it reads turns from a terminal or from standard input, one a line, until the input ends. Replies go
to standard error; the last one is printed as one line of JSON.
"""

from collections.abc import Iterator

from absl import app, flags, logging

from data_pipeline.settings import define_flags, flag_values
from docproduct import command, sample
from docproduct.answering import Answerer, Folders
from docproduct.chatting import Chat, ChatSettings, Conversation, Reply, ReplySettings, terminal
from docproduct.generation.sampling import GenerationSettings

_NOT_LOADED = ("triage_dir", "choices_dir")
_NOT_SAMPLED = ("num_samples",)


def main(argv: list[str]) -> None:
    """Holds the conversation that the flags or the input ask for."""
    values = command.begin(argv)
    logging.set_verbosity(logging.WARNING)
    with command.errors_on_one_line("it ended."):
        answerer = Answerer.load(Folders(**flag_values(Folders, _NOT_LOADED)))
        chat = Chat(answerer, ChatSettings(**flag_values(ChatSettings)))
        settings = ReplySettings(**flag_values(ReplySettings), sampling=_sampling(values, answerer))

        def ask(conversation: Conversation) -> Iterator[Reply]:
            return chat.stream(conversation, settings)

        talk = terminal.Talk(ask, values.system_prompt)
        for question in values.question:
            talk.handle(question)
        if not values.question:
            terminal.converse(talk, answerer.index.num_answers)
        if (last := terminal.as_json(talk)) is not None:
            print(last)


def _sampling(values: flags.FlagValues, answerer: Answerer) -> GenerationSettings:
    sampling = flag_values(GenerationSettings, _NOT_SAMPLED)
    return answerer.sampling(**{name: sampling[name] for name in sampling if values[name].present})


if __name__ == "__main__":
    define_flags(Folders, _NOT_LOADED, emergency_list=sample.EMERGENCY_LIST)
    define_flags(ChatSettings)
    define_flags(ReplySettings)
    define_flags(GenerationSettings, _NOT_SAMPLED, max_tokens=None)
    flags.DEFINE_multi_string("question", [], "A turn of the user; give several for a conversation.")
    flags.DEFINE_string("system_prompt", "", "What the model reads before everything else.")
    app.run(main)
