"""What to search for, as the model writes it from the conversation."""

from data_pipeline import cleaning
from data_pipeline.prompts.chat_prompts import chat_prompt
from data_pipeline.tokenizers import DecoderTokenizer
from docproduct.chatting.conversation import Conversation
from docproduct.generation.sampling import GenerationSettings

SAMPLING = GenerationSettings(max_tokens=40, biased=False)
_ASK = (
    "Write the last message of the user as one question that can be understood without the conversation. Write the "
    "question alone."
)
_NAMES = {"user": "User", "assistant": "Assistant"}
_LONGEST = 300  # characters of an earlier message


def prompt_ids(tokenizer: DecoderTokenizer, conversation: Conversation, max_tokens: int) -> list[int]:
    """Returns the prompt that asks for a question that can be understood without the conversation.

    Args:
      tokenizer: Has the model's chat template.
      conversation: The conversation.
      max_tokens: The largest number of tokens.
    """
    turns = [*conversation.earlier, {"role": "user", "content": conversation.question}]
    lines = [f"{_NAMES[turn['role']]}: {cleaning.clean(turn['content'])[:_LONGEST]}" for turn in turns]
    return chat_prompt(tokenizer, "\n".join([_ASK, "", *lines, "", "Question:"]), (), max_tokens).ids


def query_in(written: str) -> str:
    """Returns the query in what a model wrote: its first line without quotes; empty if there is none."""
    lines = cleaning.clean(written).splitlines() or [""]
    return lines[0].removeprefix("Question:").strip(" \"'")
