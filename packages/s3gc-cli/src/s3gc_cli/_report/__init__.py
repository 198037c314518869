"""One HTML file for the person who signs off: what would go or went, how much, from where, and why."""
