"""The lab's open-loop client: what a user of the cluster would have noticed, seen from a host of its own."""
