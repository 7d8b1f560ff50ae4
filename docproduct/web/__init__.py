"""The service: JSON over HTTP, and a page.

server.py (how it starts and ends), routes.py, pair_routes.py (changes of the pairs), talk_routes.py (conversations),
service.py (what the routes do), schemas.py (bodies of requests and answers), responses.py (streams and errors),
queue.py (items of several clients together), reloading.py (replaces models and index while they answer), settings.py,
protection.py (limits, tokens, headers), origins.py (web sites that may call it), measures.py (Prometheus); page.html,
page.css, page.js.
"""
