"""The service: JSON over HTTP, and a page.

server.py (how it starts and ends), routes.py, service.py (what the routes do), schemas.py (bodies of requests and
answers), responses.py (streams and errors), queue.py (items of several clients together), reloading.py
(replaces models and index while they answer), settings.py, protection.py (limits, token, headers), origins.py (web
sites that may call it), measures.py (Prometheus); page.html, page.css, page.js.
"""
