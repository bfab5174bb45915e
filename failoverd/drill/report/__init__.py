"""What a drill leaves for an auditor: one HTML file, the same as JSON, ten lines of text, and how two drills compare.

    what phases, load and nodes found ── figures ──> Report ──┬── page, charts ──> report.html   opens anywhere, always
            (Evidence)                    pure                ├── dump ──────────> report.json
                                                              ├── summary ───────> failoverctl drill report, journal
                                        an older report ──────┴── compare ───────> failoverctl drill compare

Nothing here opens a connection, reads a clock or draws a number: the same evidence gives the same bytes.

A report is read for years. So the shape of report.json grows only by fields that have a default, which means "this
version did not look"; unknown fields of a later version are passed over; and what no reader of `v1` could understand
would be called `v2`, which `kept.read` refuses by name. A report of the first version is kept among the tests.
"""
