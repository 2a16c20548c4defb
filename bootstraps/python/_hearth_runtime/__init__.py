"""Hearth's Runtime API client for Python.

- `client`: HTTP/1.1 over one kept socket
- `context`: what a handler is given as its second argument
- `faults`: errors as payloads and log lines
- `handler`: finds the handler of a function
- `output`: standard output, and what prepares `logging` when it is imported
- `parked`: started ahead of need, it waits to be told whose it is
- `path`: the function's folders on Python's path
- `records`: the `logging` module in AWS's formats
- `serve`: the loop
- `values`: events and answers as JSON

What functions can see follows AWS's runtime. Nothing is imported that a function would have to wait for in vain.
"""
