"""Where decisions are recorded before they act."""
