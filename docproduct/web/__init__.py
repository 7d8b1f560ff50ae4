"""The service: JSON over HTTP, and a page.

server.py (routes), service.py (what they do), schemas.py (what is asked), engine.py (models and index; how they are
exchanged), batching.py (requests of several clients together), writing.py (answers that grow), protection.py (limits,
token, headers), measures.py (Prometheus); page.html, page.css, page.js.
"""
