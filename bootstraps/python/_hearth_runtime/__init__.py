"""Hearth's Runtime API client for Python.

- `client`: HTTP/1.1 over one kept socket
- `context`: what a handler is given as its second argument
- `faults`: errors as payloads and log lines
- `handler`: finds the handler of a function
- `output`: standard output and the `logging` module
- `serve`: the loop
- `values`: events and answers as JSON

What functions can see follows AWS's runtime. Nothing is imported that a function would have to wait for in vain.
"""
