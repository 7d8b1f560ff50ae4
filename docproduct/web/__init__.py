"""The service: JSON over HTTP, and a page.

server.py (how it starts and ends), routes.py, service.py (what the routes do), schemas.py (bodies of requests and
answers), responses.py (answers and errors on their way), queue.py (items of several clients together), reloading.py
(models and index, exchanged while they answer), settings.py, protection.py (limits, token, headers), origins.py (web
sites that may call it), measures.py (Prometheus); page.html, page.css, page.js.
"""
