"""Building of transfer sets (Section 2 of the paper: the data that a student is trained on)."""
