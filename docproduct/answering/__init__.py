"""The path of one question. READ FIRST: answerer.py.

answerer.py (from a question to its answer), terminal.py (questions at a prompt), emergency.py (advice that is shown
before any answer).
"""
