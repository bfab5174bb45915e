"""failoverctl: what an operator sees and does. One file a command, one line a command in app.py.

Imports at the top of these files stay light (no pydantic, no rich): the tool must answer before one wonders.
"""
