"""Arrays recorded from the official code, computed again by the implementations here."""
