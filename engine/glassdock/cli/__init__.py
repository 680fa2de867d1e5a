"""The command line: Docker's verbs and flags, and Glassdock's own.

Interface:
- `main.main()`: `glassdock` and `python -m glassdock`.
- `main.glassdock`: the click group, which the magics parse with too.

Rules: a command's function only parses: it returns a `Call`, the verb to do and how to print its result. Doing is
`glassdock.client`'s. Only this folder prints.
"""
