"""What acts: the daemon, its servers and clients, and the documents it speaks to operators."""
