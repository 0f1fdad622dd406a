"""Files of events: what they have, which belong to which run, and their rows as features."""
