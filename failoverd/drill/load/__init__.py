"""`failoverd drill-load`: the people of a drill, a process of its own that the coordinator starts (generator.py).

    stdin   {"plan": LoadPlan}, then {"users": N}, {"stage": NAME}, {"stop": true}
    stdout  {"now": LoadNow} each second, {"second": Second} for each second, at the end {"done": LoadDone}

    pacing   who does what when, fixed beforehand           users  a person: an IMAP session, and mails now and then
    beats    fresh logins by the clock: what an outage is   wire, imap, smtp, answers  the protocols
    seconds  what became of what was meant for a second     ledger what servers took responsibility for

**Open-loop**: when an operation is meant to happen does not depend on how earlier ones went, and its latency counts
from that moment. A generator that waits for answers asks a slow server less, and reports it as quick. So whatever waits
for a session that is being made anew waits with its clock running, and has failed when its deadline has passed.

An operation is a FETCH, an APPEND or a message submitted. Logins are none: that people cannot log in is what beats
measure, and it shows in the operations that wait for it. A login that fails is tried again after 0.1 to 2 s.
"""
