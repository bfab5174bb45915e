"""failoverd: keeps one primary for a company's mail, and can say why.

The flow has one direction: probes -> report -> view -> rules -> plan -> executor; see `core/` for what decides and
`runtime/` for what acts.
"""

__version__ = "0.1.0"
