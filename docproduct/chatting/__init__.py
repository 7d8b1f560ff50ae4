"""Conversations about the answers of an index. READ FIRST: chat.py.

chat.py (from messages to a reply), conversation.py (messages, checked), follow_ups.py (what a turn needs of those
before it), written_queries.py (the same by the model), small_talk.py (greetings), reply.py (a reply while it is
written), stops.py (texts at which writing stops), terminal.py (a conversation at a prompt).
"""

from docproduct.chatting.chat import Chat, ChatSettings
from docproduct.chatting.conversation import Conversation
from docproduct.chatting.reply import Reply, ReplySettings

__all__ = ["Chat", "ChatSettings", "Conversation", "Reply", "ReplySettings"]
