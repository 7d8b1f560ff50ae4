"""The path of one question. READ FIRST: answerer.py.

answerer.py (from a question to its answer), query.py (what is asked and answered), draft.py (an answer while it is
written), support.py (whether the sources support a sentence; evidence/ compares the two), terminal.py (questions at a
prompt), emergency.py (advice that is shown before any answer).
"""

from docproduct.answering.answerer import Answerer, Folders
from docproduct.answering.query import DISCLAIMER, Answer, Query

__all__ = ["DISCLAIMER", "Answer", "Answerer", "Folders", "Query"]
