"""The pure core: takes what is known, returns what should be done. No clock, no I/O, no randomness.

gtid ─ model ─ policy ─┬─ lease        the six rules
                       ├─ quorum, health, candidates, heirs
                       └─ view ─ rules ─ plan ─ machine ─ explain
"""
