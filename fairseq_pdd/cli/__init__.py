"""Commands of fairseq_pdd."""
